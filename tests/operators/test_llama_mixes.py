"""llama.cpp's mixes against what its own quantizer writes."""

import ctypes
from pathlib import Path
from typing import Any

import gguf
import pytest

from secateur.fitness.model.blocks import Blocks
from secateur.fitness.model.checkpoint import anatomy_of
from secateur.fitness.subnets.weights import Weights
from secateur.operators.rules.llama_mixes import MIXES, llama_mix, mix_of
from secateur.plans.checkpoint.gguf import write_gguf
from secateur.plans.formats.gguf_layout import NAMES, OUTSIDE
from secateur.space.budget import Budget
from secateur.space.errors import SecateurError
from secateur.space.kinds.settings import Wishes
from secateur.space.kinds.table import KINDS
from secateur.space.space import Space
from secateur.space.state import dense_state
from tests.tiny import anatomy_for, model_of


@pytest.fixture(scope="module", params=[(17, 8, 256, True), (32, 2, 256, False), (9, 2, 96, True)], ids=str)
def dense(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A model's anatomy and its GGUF; of some rows of 96 no K type is made."""
    layers, groups, hidden, tied = request.param
    model = model_of(
        "llama",
        hidden_size=hidden,
        intermediate_size=512,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=groups,
        head_dim=32,
        tie_word_embeddings=tied,
    )
    shape, path = anatomy_of(model), tmp_path_factory.mktemp("mixes") / "dense.gguf"
    states = [dense_state(block) for block in shape.blocks]
    write_gguf(model, shape, states, Weights(Blocks(model, shape)), path)
    return shape, path


@pytest.mark.parametrize("name", MIXES)
def test_types_are_those_that_llama_cpp_writes(dense: tuple[Any, Path], tmp_path: Path, name: str) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    shape, path = dense
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{name}")
    target = tmp_path / "mixed.gguf"
    assert llama_cpp.llama_model_quantize(str(path).encode(), str(target).encode(), ctypes.byref(parameters)) == 0
    written = {one.name: one.tensor_type.name for one in gguf.GGUFReader(target).tensors}
    for block in shape.blocks:
        for linear in block.linears:
            found = written[f"blk.{block.index}.{NAMES[f'{linear.name}.weight']}"]
            assert mix_of(name, shape, block.index, linear).kind == found, (block.index, linear.name)
        for matrix in block.outside:
            found = written[OUTSIDE[f"{matrix.name}.weight"]]
            assert mix_of(name, shape, block.index, matrix).kind == found, matrix.name


def space_of(levels: list[str], per: str = "linear") -> Space:
    shape = anatomy_for(hidden_size=256, intermediate_size=512, num_hidden_layers=8, head_dim=64)
    asked = KINDS["bits"].settings.model_validate({"kind": "bits", "levels": levels, "per": per})
    return Space(shape, KINDS["bits"].genes(shape, asked, Wishes()))


def test_the_largest_that_keeps_the_budget_is_taken() -> None:
    space = space_of(["Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K"])
    sizes = []
    for name in ("Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K"):
        kinds = [
            mix_of(name, space.anatomy, block.index, linear)
            for block in space.anatomy.blocks
            for linear in block.linears
        ]
        linears = [linear for block in space.anatomy.blocks for linear in block.linears]
        size = sum(kind.bytes(one.outputs, one.inputs, 4) for kind, one in zip(kinds, linears, strict=True))
        dense = sum(4 * one.outputs * one.inputs for one in linears)
        limit = space.dense_costs.weight_bytes - dense + size
        genome = llama_mix(space.with_budgets((Budget("weight_bytes", limit, "test"),)))
        assert space.costs(genome).weight_bytes == limit
        found = [
            space.states(genome)[block.index].level(one.name) for block in space.anatomy.blocks for one in block.linears
        ]
        assert found == kinds
        sizes.append(limit)
    assert sizes == sorted(sizes, reverse=True)


def test_genes_without_its_types_are_told() -> None:
    space = space_of(["Q5_0", "Q4_0"])
    with pytest.raises(SecateurError, match="Q8_0 would need Q8_0 at bits@0"):
        llama_mix(space.with_budgets((Budget("weight_bytes", space.dense_costs.weight_bytes // 4, "test"),)))

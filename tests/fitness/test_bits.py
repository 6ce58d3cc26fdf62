"""Fewer bits: rows as llama.cpp makes them, taken apart as gguf does, and the same in every form of a subnet."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import quants
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from secateur.fitness.bench import Bench
from secateur.fitness.bits import encoding
from secateur.fitness.bits.decoding import decode
from secateur.fitness.bits.encoding import VARIABLE, encode, library
from secateur.fitness.bits.planes import packed_bytes
from secateur.fitness.bits.treatment import Quantised
from secateur.fitness.model.checkpoint import anatomy_of
from secateur.fitness.model.examined import model_digest
from secateur.fitness.subnets.materialise import materialised
from secateur.fitness.workplace import Loaded
from secateur.fitness.zeros.preparation import block_statistics
from secateur.plans.checkpoint.gguf import write_gguf
from secateur.plans.formats.gguf_layout import NAMES
from secateur.space.bits import SIMPLE, TYPES, Bits
from secateur.space.errors import SecateurError
from secateur.space.kinds.settings import Wishes
from secateur.space.kinds.table import KINDS
from secateur.space.space import Space
from secateur.space.state import BlockState
from tests.fitness.prepared import IDS, needs_library, random_text, through_blocks
from tests.genes import structured_genes
from tests.tiny import model_of

NAMED = [kind for kind in TYPES if kind != "F16"]
FAMILY: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 3, "head_dim": 16}


def matrix(rows: int = 24, columns: int = 512, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) / 20


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(NAMED), st.integers(0, 10_000))
def test_any_bytes_are_taken_apart_as_gguf_does(kind: str, seed: int) -> None:
    raw = np.random.default_rng(seed).integers(0, 256, (3, 2 * TYPES[kind].bytes), dtype=np.uint8)
    with np.errstate(all="ignore"):
        wanted = quants.dequantize(raw, gguf.GGMLQuantizationType[kind])
    assert np.array_equal(decode(kind, torch.from_numpy(raw)).numpy(), wanted, equal_nan=True)


@needs_library
@pytest.mark.parametrize("kind", SIMPLE)
def test_gguf_makes_the_rows_that_llama_cpp_does(kind: str) -> None:
    values = matrix().numpy()
    packed = np.zeros((len(values), values.shape[1] // TYPES[kind].block * TYPES[kind].bytes), dtype=np.uint8)
    found = library()
    assert found is not None
    found.rows(kind, values, packed, None)
    assert np.array_equal(encode(kind, matrix()).numpy(), packed)


@needs_library
@pytest.mark.parametrize("kind", NAMED)
def test_fewer_bits_are_further_off_and_importance_helps(kind: str) -> None:
    whole = matrix()
    weights = torch.linspace(0.01, 4.0, 512) ** 3
    packed = encode(kind, whole, weights)
    assert packed.shape == (24, 512 // TYPES[kind].block * TYPES[kind].bytes)

    def error(rows: torch.Tensor) -> float:
        return float(((decode(kind, rows) - whole) ** 2 * weights).sum().sqrt() / (whole**2 * weights).sum().sqrt())

    assert error(packed) < 2.4 * 2.0 ** -TYPES[kind].bits
    if not TYPES[kind].needs_importance and kind != "Q8_0":
        assert error(packed) < error(encode(kind, whole))


@needs_library
def test_rows_do_not_depend_on_who_is_beside_them() -> None:
    torch.set_num_threads(2)
    whole = matrix(200, 256)
    one = encode("Q3_K", whole)
    torch.set_num_threads(1)
    assert torch.equal(one, torch.cat([encode("Q3_K", row[None]) for row in whole]))


def test_without_the_library_five_types_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "_installed", lambda: iter(()))
    encoding._loaded.cache_clear()
    try:
        for kind in SIMPLE:
            assert encode(kind, matrix()).dtype == torch.uint8
        with pytest.raises(SecateurError, match=r"Q4_K is made by llama.cpp's own library; install"):
            encode("Q4_K", matrix())
        with pytest.raises(SecateurError, match="set quantizer to nearest"):
            encode("Q4_0", matrix(), torch.ones(512))
        monkeypatch.setenv(VARIABLE, str(tmp_path))
        with pytest.raises(SecateurError, match=f"{VARIABLE}: there is no"):
            encode("Q4_K", matrix())
        (tmp_path / encoding.NAMES[0]).write_text("none")
        with pytest.raises(SecateurError, match="cannot be used as ggml's library"):
            encode("Q4_K", matrix())
    finally:
        encoding._loaded.cache_clear()


def bench_of(
    levels: list[str], per: str = "sublayer", family: str = "llama", quantizer: str = "nearest", **more: Any
) -> tuple[Bench, Space]:
    model = model_of(family, **{**FAMILY, **more})
    shape = anatomy_of(model)
    asked = KINDS["bits"].settings.model_validate({"kind": "bits", "levels": levels, "per": per})
    layers = range(len(shape.blocks))
    genes = (
        *structured_genes(shape, "attention", layers, levels=(2, 0)),
        *structured_genes(shape, "mlp", layers, levels=(256, 128, 32, 0)),
        *KINDS["bits"].genes(shape, asked, Wishes()),
    )
    space = Space(shape, genes)
    from secateur.fitness.widths.preparation import WidthSettings

    text = {"calibration": random_text()}
    loaded = Loaded(model, None, shape, model_digest(model), text, None, WidthSettings("output-error", "least-squares"))
    return replace(loaded, quantizer=quantizer).prepared(space), space


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path / "cache"))


def some(space: Space, seed: int) -> list[BlockState]:
    rng = np.random.default_rng(seed)
    genome = space.dense
    for index, gene in enumerate(space.genes):
        # llama.cpp reads sizes off the first layer, which keeps both.
        levels = len(gene.levels) - (bool(gene.kind.dimension) and gene.blocks == (0,))
        genome = genome.with_level(index, int(rng.integers(levels)))
    return list(space.states(space.canonical(genome)))


@pytest.mark.parametrize("quantizer", ["nearest", pytest.param("importance", marks=needs_library)])
@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
@pytest.mark.parametrize("seed", range(3))
def test_applied_is_materialised_and_written(tmp_path: Path, family: str, quantizer: str, seed: int) -> None:
    """Drops and repaired widths beside types: the live model, a model of its own, and what a GGUF reader gives back."""
    changes = {"n_embd": 64, "n_inner": 256, "n_layer": 3, "n_head": 4} if family == "gpt2" else FAMILY
    bench, space = bench_of(["Q8_0", "Q4_1", "Q4_0"], family=family, quantizer=quantizer, **changes)
    states = some(space, seed)
    applied = through_blocks(bench, states)
    smaller = materialised(bench.model, space.anatomy, states, bench.weights)
    assert torch.equal(applied, smaller(IDS).logits[0].float())
    if family != "llama":
        return
    write_gguf(bench.model, space.anatomy, states, bench.weights, tmp_path / "small.gguf")
    read = {one.name: one for one in gguf.GGUFReader(tmp_path / "small.gguf").tensors}
    new = -1
    for block, state in zip(space.anatomy.blocks, states, strict=True):
        new += not state.removed
        for linear in block.linears:
            level = state.level(linear.name)
            name = f"blk.{new}.{NAMES[f'{linear.name}.weight']}"
            if isinstance(level, Bits) and "attn_q" not in name and "attn_k" not in name:
                stored = read[name]
                assert stored.tensor_type.name == level.kind
                outputs, inputs = linear.shape(state.sizes(block))
                assert stored.n_bytes == level.bytes(outputs, inputs, 4)
                values = torch.from_numpy(quants.dequantize(stored.data, stored.tensor_type))
                place = block.linears.index(linear)
                assert torch.equal(values, bench.weights.linear(block.index, place, state))


def test_importance_is_the_mean_square_of_inputs() -> None:
    bench, _ = bench_of(["Q8_0"], quantizer="importance")
    quantised = bench.compressors["bits"]
    assert isinstance(quantised, Quantised)
    for block, hidden in bench.blocks.inputs(bench.preparing.ids):
        for name, one in block_statistics(bench.blocks, block, hidden, gram=False).items():
            place = [linear.name for linear in block.linears].index(name)
            found = quantised._seen((block.index, place))
            assert found is not None
            assert torch.allclose(found, (one.square_sum / one.count).float())


@needs_library
def test_a_store_is_made_once_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of another type only that is added; of another quantizer all is another store."""
    made: list[str] = []
    whole = Quantised._rows

    def counted(self: Quantised, place: tuple[int, int], kind: str) -> dict[str, torch.Tensor]:
        made.append(f"{kind} {place[0]}")
        return whole(self, place, kind)

    monkeypatch.setattr(Quantised, "_rows", counted)
    first, _ = bench_of(["Q8_0"])
    assert sorted(made) == ["Q8_0 0", "Q8_0 1", "Q8_0 2"]
    bench_of(["Q8_0", "Q4_K or other"])
    assert sorted(made[3:]) == ["Q4_K 0", "Q4_K 1", "Q4_K 2", "Q5_0 0", "Q5_0 1", "Q5_0 2"]
    other, _ = bench_of(["Q8_0"], quantizer="importance")
    assert len(made) == 12
    assert first.compressors["bits"].identity != other.compressors["bits"].identity


def test_what_a_store_takes_is_known_before(tmp_path: Path) -> None:
    _, space = bench_of(["Q8_0", "Q5_1 or other", "Q4_0"])
    files = (tmp_path / "cache" / "levels").rglob("*.safetensors")
    assert sum(tensor.nbytes for file in files for tensor in load_file(file).values()) == packed_bytes(space)


def test_a_held_level_is_what_it_was_and_lets_gradients_through() -> None:
    bench, _ = bench_of(["Q4_0"])
    trained = matrix(8, 64).requires_grad_()
    held = bench.compressors["bits"].hold(Bits("Q4_0"), trained, trained.detach())
    assert torch.allclose(held, decode("Q4_0", encode("Q4_0", trained)))
    held.sum().backward()  # type: ignore[no-untyped-call]
    assert trained.grad is not None
    assert torch.equal(trained.grad, torch.ones(8, 64))


@needs_library
def test_what_is_weighted_is_not_trained() -> None:
    bench, _ = bench_of(["Q4_0"], quantizer="importance")
    with pytest.raises(SecateurError, match="search with quantizer: nearest"):
        bench.compressors["bits"].hold(Bits("Q4_0"), matrix(8, 64), matrix(8, 64))


def test_a_type_that_needs_importance_is_refused_without() -> None:
    with pytest.raises(SecateurError, match="IQ2_S needs an importance matrix"):
        bench_of(["IQ2_S or other"])


@needs_library
def test_no_library_is_loaded_where_none_is_needed() -> None:
    """A recipe without bits does not touch it."""
    code = (
        "import sys, secateur.fitness.bench, secateur.fitness.bits.treatment\n"
        "sys.exit('libggml' in open('/proc/self/maps').read())"
    )
    assert subprocess.run([sys.executable, "-c", code], env=dict(os.environ), check=False).returncode == 0

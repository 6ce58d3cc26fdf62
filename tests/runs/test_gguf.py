"""GGUF files of subnets: their header and shapes, and where llama.cpp is installed its logits against torch."""

import ctypes
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from secateur.fitness.model.blocks import Blocks
from secateur.fitness.model.checkpoint import anatomy_of
from secateur.fitness.subnets.materialise import materialised
from secateur.fitness.subnets.weights import Weights
from secateur.fitness.timing.llama_cpp import time_files
from secateur.fitness.widths.preparation import WidthSettings
from secateur.plans.checkpoint.gguf import write_gguf
from secateur.plans.formats.gguf import QUANTISED
from secateur.plans.formats.gguf_layout import PLACEHOLDER
from secateur.space.anatomy import Anatomy
from secateur.space.errors import SecateurError
from secateur.space.genome import Genome
from secateur.space.latency import Workload
from secateur.space.space import Space
from secateur.space.state import BlockState, dense_state
from tests.fitness.prepared import prepared
from tests.tiny import model_of


def subnet(anatomy: Anatomy) -> list[BlockState]:
    """Narrower attention, no attention, no MLP, and one block gone."""
    states = [dense_state(block) for block in anatomy.blocks]
    states[0] = states[0].with_kept(channels=24)
    states[1] = states[1].with_kept(groups=0, queries=0)
    states[2] = states[2].with_kept(groups=1, channels=0)
    states[3] = states[3].with_kept(groups=0, queries=0, channels=0)
    return states


KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "llama3 scaling": {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        }
    },
    "llama with every bias": {"attention_bias": True, "mlp_bias": True},
    "linear scaling": {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
}


def written(kind: str, folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """(model, anatomy, states, weights, file)."""
    family = kind.split()[0] if kind.split()[0] in ("qwen2", "qwen3") else "llama"
    model = model_of(family, hidden_size=64, num_hidden_layers=5, **KINDS[kind]).to(dtype)
    anatomy = anatomy_of(model)
    weights = Weights(Blocks(model, anatomy))
    states = subnet(anatomy)
    if family == "qwen3":
        states[1] = states[1].with_kept(groups=1, queries=1)
    write_gguf(model, anatomy, states, weights, folder / "small.gguf")
    return model, anatomy, states, weights, folder / "small.gguf"


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_sizes_are_written_layer_by_layer(family: str, tmp_path: Path) -> None:
    _, anatomy, _, _, path = written(family, tmp_path)
    reader = gguf.GGUFReader(path)
    queries, full = anatomy.blocks[0].dimensions["queries"], anatomy.blocks[0].dense_sizes["heads"]
    assert reader.get_field("deci.block_count").contents() == 4
    assert reader.get_field("deci.attention.head_count_kv").contents() == [2, 0, 1, 2]
    assert reader.get_field("deci.attention.head_count").contents() == [full, 0, queries, full]
    assert reader.get_field("deci.feed_forward_length").contents() == [24, 48, PLACEHOLDER, 48]
    shapes = {tensor.name: tuple(tensor.shape.tolist()) for tensor in reader.tensors}
    assert shapes["blk.0.ffn_down.weight"] == (24, 64)
    assert shapes["blk.2.attn_output.weight"] == (queries * anatomy.blocks[0].segments["query"].unit, 64)
    assert "blk.1.attn_q.weight" not in shapes
    assert "rope_freqs.weight" not in shapes


def test_query_and_key_norms_are_written_as_openelm(tmp_path: Path) -> None:
    model, anatomy, _, _, path = written("qwen3", tmp_path)
    reader = gguf.GGUFReader(path)
    assert reader.get_field("general.architecture").contents() == "openelm"
    assert reader.get_field("openelm.attention.head_count").contents() == [4, 1, 2, 4]
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    fused = torch.from_numpy(tensors["blk.0.attn_qkv.weight"].data.copy())
    first = model.model.layers[0].self_attn
    assert torch.equal(fused, torch.cat([first.q_proj.weight, first.k_proj.weight, first.v_proj.weight]))
    assert tuple(tensors["blk.1.attn_qkv.weight"].shape.tolist()) == (64, 3 * anatomy.blocks[0].segments["query"].unit)
    assert "output.weight" not in tensors


def test_bfloat16_goes_bit_by_bit(tmp_path: Path) -> None:
    model, *_, path = written("llama", tmp_path, torch.bfloat16)
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    one = tensors["token_embd.weight"]
    assert one.tensor_type == gguf.GGMLQuantizationType.BF16
    values = gguf.quants.dequantize(one.data, one.tensor_type)
    assert torch.equal(torch.from_numpy(values), model.model.embed_tokens.weight.float())


@pytest.mark.parametrize("kind", KINDS)
def test_llama_cpp_computes_what_torch_does(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    model, anatomy, states, weights, path = written(kind, tmp_path)
    ids = [5, 9, 33, 71, 20, 8, 44, 61, 12, 90, 3, 17]
    wanted = materialised(model, anatomy, states, weights)(torch.tensor([ids])).logits[0].numpy()
    # The cache is in half precision.
    assert np.abs(logits(path, ids) - wanted).max() < 5e-3


def logits(path: Path, ids: list[int]) -> Any:
    """Of llama.cpp (tokens, vocabulary)."""
    import llama_cpp

    loaded = llama_cpp.Llama(str(path), n_ctx=64, logits_all=True, verbose=False)
    loaded.eval(ids)
    got = np.array(loaded.scores[: len(ids)])
    loaded.close()
    return got


def test_a_repair_by_biases_is_written(tmp_path: Path) -> None:
    """The last linear of a narrowed sublayer has a bias that the dense model has not."""
    pytest.importorskip("llama_cpp")
    bench, space = prepared("llama", WidthSettings("output-error", "bias"))
    genome = narrowed(space)
    states = space.states(genome)
    smaller: Any = materialised(bench.model, space.anatomy, states, bench.weights)
    assert any(name.endswith("down_proj.bias") for name, _ in smaller.named_parameters())
    assert any(name.endswith("o_proj.bias") for name, _ in smaller.named_parameters())
    write_gguf(bench.model, space.anatomy, states, bench.weights, tmp_path / "biased.gguf")
    ids = [5, 9, 33, 71, 20, 8, 44]
    wanted = smaller(torch.tensor([ids])).logits[0].numpy()
    assert np.abs(logits(tmp_path / "biased.gguf", ids) - wanted).max() < 5e-3


def narrowed(space: Space) -> Genome:
    """Attention and MLP of every block one level narrower than dense."""
    genome = space.dense
    for index, gene in enumerate(space.genes):
        if gene.kind.name in ("attention", "mlp") and gene.narrows:
            genome = genome.with_level(index, 1)
    return space.canonical(genome)


def test_llama_cpp_times_files(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    model, anatomy, _, weights, path = written("llama", tmp_path)
    write_gguf(model, anatomy, [dense_state(block) for block in anatomy.blocks], weights, tmp_path / "dense.gguf")
    measured = time_files(path, tmp_path / "dense.gguf", Workload(1, 32, 4), 1, 3)
    assert measured.device == "llama.cpp"
    assert set(measured.ratios) == {"prefill", "decode", "latency"}


def test_what_llama_cpp_cannot_load_is_refused(tmp_path: Path) -> None:
    model = model_of("llama")
    anatomy = anatomy_of(model)
    weights = Weights(Blocks(model, anatomy))
    states = [dense_state(block) for block in anatomy.blocks]
    headless = [states[0].with_kept(groups=0, queries=0), *states[1:]]
    with pytest.raises(SecateurError, match="first layer"):
        write_gguf(model, anatomy, headless, weights, tmp_path / "x.gguf")
    for family, changes, message in (
        ("gemma2", {}, "gemma2"),
        ("qwen3", {"tie_word_embeddings": False}, "whose head is its embedding"),
        ("qwen3", KINDS["linear scaling"], "'linear' has no place in openelm"),
        ("llama", {"hidden_act": "gelu"}, "deci computes silu, and the model gelu"),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}}, "'yarn' has no place"),
    ):
        other = model_of(family, **changes)
        with pytest.raises(SecateurError, match=message):
            write_gguf(other, anatomy_of(other), states, weights, tmp_path / "x.gguf")
    qwen = model_of("qwen3")
    with pytest.raises(SecateurError, match="layer 2 keeps its MLP alone"):
        parts = [dense_state(block) for block in anatomy_of(qwen).blocks]
        parts[2] = parts[2].with_kept(groups=0, queries=0)
        write_gguf(qwen, anatomy_of(qwen), parts, weights, tmp_path / "x.gguf")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["llama", "qwen3", "llama3 scaling"])
def test_quantised_by_llama_cpp_it_still_loads(kind: str, tmp_path: Path) -> None:
    """What `llama-quantize small.gguf small-q8.gguf q8_0` calls."""
    llama_cpp = pytest.importorskip("llama_cpp")
    model, anatomy, states, weights, path = written(kind, tmp_path)
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0
    small = tmp_path / "small-q8.gguf"
    assert not llama_cpp.llama_model_quantize(str(path).encode(), str(small).encode(), ctypes.byref(parameters))
    assert small.stat().st_size < 0.7 * path.stat().st_size
    ids = [5, 9, 33, 71]
    wanted = materialised(model, anatomy, states, weights)(torch.tensor([ids])).logits[0].numpy()
    assert np.abs(logits(small, ids) - wanted).max() < 0.2


@pytest.mark.parametrize("kind", QUANTISED)
def test_matrices_are_rounded_to_a_type(kind: str, tmp_path: Path) -> None:
    """Every tensor has the type that is promised, and the values that gguf's own reader makes of it."""
    model = model_of("llama", hidden_size=64, num_hidden_layers=5, tie_word_embeddings=True)
    anatomy = anatomy_of(model)
    weights, states = Weights(Blocks(model, anatomy)), subnet(anatomy)
    for name, wanted in (("plain", None), ("small", kind)):
        write_gguf(model, anatomy, states, weights, tmp_path / f"{name}.gguf", kind=wanted)
    plain, small = (
        {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / f"{name}.gguf").tensors}
        for name in ("plain", "small")
    )
    types, bits = gguf.GGMLQuantizationType, 0.0
    assert plain.keys() == small.keys()
    for name, tensor in small.items():
        rows = int(tensor.shape[0])
        expected = types[("q8_0" if name == "token_embd.weight" else kind).upper()]
        if len(tensor.shape) == 1:
            expected = types.F32
        elif rows % 32:
            expected = types.F16
        assert tensor.tensor_type == expected, name
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        exact = gguf.quants.dequantize(plain[name].data, plain[name].tensor_type)
        if expected in (types.F32, types.F16):
            assert np.abs(values - exact).max() <= 1e-3 * np.abs(exact).max()
            continue
        # Half a step of each group of 32, in sixteenths or more of its range; the scale is itself in half precision.
        groups = exact.reshape(-1, 32)
        steps = {"q8_0": 254, "q5_1": 31, "q5_0": 31, "q4_1": 15, "q4_0": 15}[expected.name.lower()]
        span = groups.max(1) - groups.min(1) if kind.endswith("_1") else 2 * np.abs(groups).max(1)
        assert (np.abs(values.reshape(-1, 32) - groups).max(1) <= 1.1 * span / steps + 1e-4).all()
        assert tensor.n_bytes * 8 == tensor.n_elements * QUANTISED[expected.name.lower()]
        bits += tensor.n_bytes * 8
    fields = gguf.GGUFReader(tmp_path / "small.gguf")
    assert fields.get_field("general.file_type").contents() == gguf.LlamaFileType[f"MOSTLY_{kind.upper()}"]
    assert bits < 0.5 * 8 * (tmp_path / "plain.gguf").stat().st_size

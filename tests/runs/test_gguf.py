"""GGUF files of subnets: their header and shapes, and where llama.cpp is installed its logits against torch."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from secateur.fitness.blocks import Blocks
from secateur.fitness.checkpoint import anatomy_of
from secateur.fitness.llama_cpp import time_files
from secateur.fitness.materialise import materialised
from secateur.fitness.weights import Weights
from secateur.runs.export.gguf import PLACEHOLDER, write_gguf
from secateur.space.anatomy import Anatomy
from secateur.space.costs import BlockState, dense_state
from secateur.space.errors import SecateurError
from secateur.space.latency import Workload
from tests.tiny import model_of


def subnet(anatomy: Anatomy) -> list[BlockState]:
    """Narrower attention, no attention, no MLP, and one block gone."""
    states = [dense_state(block) for block in anatomy.blocks]
    states[0] = replace(states[0], mlp=24)
    states[1] = replace(states[1], attention=0, queries=0)
    states[2] = replace(states[2], attention=1, mlp=0)
    states[3] = replace(states[3], attention=0, queries=0, mlp=0)
    return states


def written(family: str, folder: Path) -> tuple[Any, Anatomy, list[BlockState], Weights, Path]:
    model = model_of(family, hidden_size=64, num_hidden_layers=5)
    anatomy = anatomy_of(model)
    weights = Weights(Blocks(model, anatomy))
    states = subnet(anatomy)
    write_gguf(model, anatomy, states, weights, folder / "small.gguf")
    return model, anatomy, states, weights, folder / "small.gguf"


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_sizes_are_written_layer_by_layer(family: str, tmp_path: Path) -> None:
    _, anatomy, _, _, path = written(family, tmp_path)
    reader = gguf.GGUFReader(path)
    queries, full = anatomy.blocks[0].queries, anatomy.blocks[0].heads
    assert reader.get_field("deci.block_count").contents() == 4
    assert reader.get_field("deci.attention.head_count_kv").contents() == [2, 0, 1, 2]
    assert reader.get_field("deci.attention.head_count").contents() == [full, 0, queries, full]
    assert reader.get_field("deci.feed_forward_length").contents() == [24, 48, PLACEHOLDER, 48]
    shapes = {tensor.name: tuple(tensor.shape.tolist()) for tensor in reader.tensors}
    assert shapes["blk.0.ffn_down.weight"] == (24, 64)
    assert shapes["blk.2.attn_output.weight"] == (queries * anatomy.blocks[0].head_dim, 64)
    assert "blk.1.attn_q.weight" not in shapes


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_llama_cpp_computes_what_torch_does(family: str, tmp_path: Path) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    model, anatomy, states, weights, path = written(family, tmp_path)
    ids = [5, 9, 33, 71, 20, 8, 44]
    wanted = materialised(model, anatomy, states, weights)(torch.tensor([ids])).logits[0].numpy()
    loaded = llama_cpp.Llama(str(path), n_ctx=64, logits_all=True, verbose=False)
    loaded.eval(ids)
    got = np.array(loaded.scores[: len(ids)])
    loaded.close()
    # The cache is in half precision.
    assert np.abs(got - wanted).max() < 5e-3
    write_gguf(model, anatomy, [dense_state(block) for block in anatomy.blocks], weights, tmp_path / "dense.gguf")
    measured = time_files(path, tmp_path / "dense.gguf", Workload(1, 32, 4), 1, 3)
    assert measured.device == "llama.cpp"
    assert set(measured.ratios) == {"prefill", "decode", "latency"}


def test_what_llama_cpp_cannot_load_is_refused(tmp_path: Path) -> None:
    model = model_of("llama")
    anatomy = anatomy_of(model)
    weights = Weights(Blocks(model, anatomy))
    states = [dense_state(block) for block in anatomy.blocks]
    headless = [replace(states[0], attention=0, queries=0), *states[1:]]
    with pytest.raises(SecateurError, match="first layer"):
        write_gguf(model, anatomy, headless, weights, tmp_path / "x.gguf")
    other = model_of("gemma2")
    with pytest.raises(SecateurError, match="gemma2"):
        write_gguf(other, anatomy_of(other), states, weights, tmp_path / "x.gguf")
    assert not list(tmp_path.iterdir())

"""GGUF files as sources: whole, understood, and the model that the file is of."""

import math
from pathlib import Path

import pytest
import torch

from secateur.fitness.model.checkpoint import load_model
from secateur.fitness.model.configuration import load_config
from secateur.fitness.model.gguf_source import FREQUENCIES, read_header
from secateur.space.errors import SecateurError
from tests.gguf_file import HEAD, write_gguf
from tests.tiny import model_of

IDS = torch.arange(3, 60)[None]


def llama3(factor: float, theta: float = 10000.0) -> list[float]:
    """What llama.cpp's converter writes for `rope_type: llama3` (`convert_hf_to_gguf.py`, LlamaModel)."""
    found = []
    for index in range(HEAD // 2):
        wavelength = 2 * math.pi * theta ** (2 * index / HEAD)
        if wavelength < 8192 / 4:
            found.append(1.0)
        elif wavelength > 8192 / 1:
            found.append(factor)
        else:
            smooth = (8192 / wavelength - 1) / (4 - 1)
            found.append(1 / ((1 - smooth) / factor + smooth))
    return found


def test_a_file_is_the_model_it_was_made_from(tmp_path: Path) -> None:
    path = str(write_gguf(tmp_path / "model.gguf"))
    expected = model_of("llama", head_dim=HEAD)(IDS).logits
    assert torch.allclose(load_model(path)(IDS).logits, expected, atol=1e-5)
    assert load_config(path) == load_config(path), "the second time from the cache"
    header = read_header(Path(path))
    assert header.architecture == "llama"
    assert header.tensors["blk.0.attn_k.weight"][0] == (32, 2 * HEAD)


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_the_rotary_scaling_of_llama_3_is_restored(tmp_path: Path, factor: float) -> None:
    path = str(write_gguf(tmp_path / "model.gguf", llama3(factor, 500000.0), theta=500000.0))
    rotary = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    source = model_of("llama", head_dim=HEAD, rope_parameters=rotary)
    assert torch.allclose(load_model(path)(IDS).logits, source(IDS).logits, atol=1e-5)
    assert load_config(path)["rope_parameters"]["factor"] == factor


@pytest.mark.parametrize(
    ("extra", "word"),
    [
        ({"llama.rope.scaling.type": "yarn"}, "llama.rope.scaling.type = yarn"),
        ({"llama.attention.key_length": 16}, "llama.attention.key_length = 16"),
        ({"llama.expert_count": 8}, "llama.expert_count = 8"),
        ({"llama.logit_scale": 2.0}, "llama.logit_scale = 2.0"),
        ({"llama.rope.scaling.original_context_length": 32}, "original_context_length = 32"),
        ({"blk.0.attn_q.bias": (32,)}, "blk.0.attn_q.bias"),
        ({"blk.4.attn_q.weight": (32, 32)}, "blk.4.attn_q.weight"),
    ],
)
def test_what_the_reader_does_not_know_is_named(tmp_path: Path, extra: dict[str, object], word: str) -> None:
    path = write_gguf(tmp_path / "model.gguf", extra=extra)
    with pytest.raises(SecateurError, match=word):
        load_model(str(path))


def test_other_factors_than_llama_3s_are_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", [1.0, 1.5, 2.0, 4.0])
    with pytest.raises(SecateurError, match="another way than Llama 3's"):
        load_config(str(path))


def test_what_changes_nothing_is_let_be(tmp_path: Path) -> None:
    extra = {"llama.attention.key_length": HEAD, "llama.rope.scaling.type": "none", "general.author": "me"}
    extra |= {"llama.rope.scaling.original_context_length": 64}  # as Phi-4's files say of themselves
    assert load_config(str(write_gguf(tmp_path / "model.gguf", extra=extra)))["model_type"] == "llama"


def test_a_file_cut_anywhere_is_told(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", llama3(8.0))
    assert FREQUENCIES in read_header(path).tensors
    content = path.read_bytes()
    for cut in (0, 3, 4, 20, 100, 500, 2000, len(content) // 2, len(content) - 2000):
        path.write_bytes(content[:cut])
        with pytest.raises(SecateurError, match="is no GGUF file that can be read"):
            read_header(path)

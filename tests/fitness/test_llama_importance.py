"""Importance against what llama.cpp itself hands its matrices: the sums that its own tool (`llama-imatrix`) adds up.

The tool watches every multiplication by a callback of the scheduler, and adds the squares of what is multiplied with a
matrix (`IMatrixCollector::collect_imatrix`); the same callback is set here, by ctypes, for the same tokens.
"""

import ctypes
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from secateur.fitness.bits.encoding import library
from secateur.fitness.bits.treatment import Quantised
from secateur.fitness.model.checkpoint import anatomy_of
from secateur.fitness.model.examined import model_digest
from secateur.fitness.workplace import Loaded
from secateur.plans.checkpoint.gguf import write_gguf
from secateur.plans.formats.gguf_layout import NAMES
from secateur.space.kinds.settings import Wishes
from secateur.space.kinds.table import KINDS
from secateur.space.space import Space
from tests.fitness.prepared import random_text
from tests.tiny import model_of

pytestmark = pytest.mark.skipif(library() is None, reason="needs llama.cpp: make test has it")


class Tensor(ctypes.Structure):
    """`ggml_tensor` as far as it is looked at (ggml.h, MIT)."""


Tensor._fields_ = [
    ("type", ctypes.c_int),
    ("buffer", ctypes.c_void_p),
    ("ne", ctypes.c_int64 * 4),
    ("nb", ctypes.c_size_t * 4),
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_int32 * 16),
    ("flags", ctypes.c_int32),
    ("src", ctypes.POINTER(Tensor) * 10),
    ("view_src", ctypes.c_void_p),
    ("view_offs", ctypes.c_size_t),
    ("data", ctypes.c_void_p),
    ("name", ctypes.c_char * 64),
]


def summed(path: Path, rows: torch.Tensor) -> Mapping[str, np.ndarray]:
    """By the name of a matrix, the squares of its inputs over all tokens of all rows, as llama.cpp computes them."""
    llama_cpp: Any = pytest.importorskip("llama_cpp")
    sums: dict[str, np.ndarray] = {}

    def look(address: int, ask: bool, _: int) -> bool:
        tensor = ctypes.cast(address, ctypes.POINTER(Tensor)).contents
        if not tensor.src[0] or not tensor.src[1]:
            return False
        name = tensor.src[0].contents.name.decode()
        if not name.startswith("blk.") or not name.endswith(".weight") or "norm" in name:
            return False
        if not ask:
            inputs = tensor.src[1].contents
            values = ctypes.cast(inputs.data, ctypes.POINTER(ctypes.c_float))
            found = np.ctypeslib.as_array(values, (inputs.ne[1], inputs.ne[0])).astype(np.float64)
            sums[name] = sums.get(name, 0) + (found**2).sum(axis=0)
        return True

    model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx, kept = 64, type(parameters.cb_eval)(look)
    parameters.cb_eval = kept
    context = llama_cpp.llama_init_from_model(model, parameters)
    for row in rows.tolist():
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        batch = llama_cpp.llama_batch_init(len(row), 0, 1)
        batch.n_tokens = len(row)
        for place, token in enumerate(row):
            batch.token[place], batch.pos[place], batch.n_seq_id[place] = token, place, 1
            # Of the last layer only what gives logits is computed.
            batch.seq_id[place][0], batch.logits[place] = 0, 1
        assert llama_cpp.llama_decode(context, batch) == 0
        llama_cpp.llama_batch_free(batch)
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    return sums


def test_importance_is_what_llama_cpp_adds_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path / "cache"))
    model = model_of("llama", hidden_size=64, intermediate_size=256, num_hidden_layers=3, head_dim=16)
    shape, text = anatomy_of(model), random_text()
    asked = KINDS["bits"].settings.model_validate({"kind": "bits", "levels": ["Q8_0"], "per": "sublayer"})
    space = Space(shape, KINDS["bits"].genes(shape, asked, Wishes()))
    loaded = Loaded(model, None, shape, model_digest(model), {"calibration": text})
    bench = replace(loaded, quantizer="importance").prepared(space)
    write_gguf(model, shape, space.states(space.dense), bench.weights, tmp_path / "dense.gguf")
    theirs, ours = summed(tmp_path / "dense.gguf", text.ids), bench.compressors["bits"]
    assert isinstance(ours, Quantised)
    assert len(theirs) == 21
    for block in shape.blocks:
        for position, linear in enumerate(block.linears):
            wanted = theirs[f"blk.{block.index}.{NAMES[f'{linear.name}.weight']}"] / text.ids.numel()
            found = ours.importance((block.index, position), None)
            assert found is not None
            # Its keys and values are in half precision.
            assert np.allclose(found.numpy(), wanted, rtol=5e-3, atol=1e-6), (block.index, linear.name)

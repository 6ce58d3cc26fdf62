"""An importance matrix from a file, as llama-imatrix writes it: squares of the inputs of every linear, added up."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import torch

from ...space.anatomy import Anatomy, Tensor
from ...space.errors import SecateurError
from ..widths.axes import Order, permuted

SUMS, COUNTS = ".in_sum2", ".counts"
OF_FILES = (OSError, ValueError, LookupError, TypeError, OverflowError)
"""What gguf's reader may raise for a file that is damaged."""


@dataclass(frozen=True, slots=True, eq=False)
class Importances:
    """Mean squares (inputs,) of the inputs of every linear of the blocks, by its full name; `digest` names the file."""

    digest: str
    values: Mapping[str, torch.Tensor]

    def ordered(self, anatomy: Anatomy, orders: Sequence[Order], hidden: torch.Tensor | None) -> "Importances":
        """Those of a model whose heads, channels and residual features have been put in an order."""
        values = dict(self.values)
        for block, order in zip(anatomy.blocks, orders, strict=True):
            for position, linear in enumerate(block.linears):
                name = anatomy.matrix_name(block.index, position)
                inputs = Tensor("", (linear.inputs,), (linear.columns,))
                values[name] = permuted(inputs, values[name], block, order, hidden)
        return Importances(self.digest, values)


def read_importances(path: Path, anatomy: Anatomy) -> Importances:
    """An importance matrix for a model.

    Raises:
        SecateurError: there is no such file, it is none of these or damaged, or it is of another model.
    """
    where = f"importance {path}"
    try:
        content = path.read_bytes()
        tensors = {one.name: one for one in gguf.GGUFReader(path).tensors}
    except OF_FILES as error:
        told = str(error)[:80]
        raise SecateurError(f"{where}: cannot be read as GGUF, which llama-imatrix writes: {told}") from error
    if not any(name.endswith(SUMS) for name in tensors):
        raise SecateurError(f"{where}: is no importance matrix; llama-imatrix writes one")
    names, values = _names(anatomy), {}
    for block in anatomy.blocks:
        for position, linear in enumerate(block.linears):
            full = anatomy.matrix_name(block.index, position)
            short = names.get_name(full)
            if short is None:
                raise SecateurError(f"{where}: what llama.cpp calls {full} of {anatomy.family} is not known here")
            pair = [tensors.get(f"{short}.weight{ending}") for ending in (SUMS, COUNTS)]
            sums, counts = (np.asarray(one.data, np.float64).reshape(-1) if one is not None else None for one in pair)
            if sums is None or counts is None:
                raise SecateurError(f"{where}: has nothing of {short}; it is of another model")
            if len(sums) != linear.inputs or len(counts) != 1:
                raise SecateurError(f"{where}: {short} has {len(sums)} inputs there, the model's {linear.inputs}")
            if not counts[0] > 0 or not np.isfinite(sums).all() or (sums < 0).any():
                raise SecateurError(f"{where}: {short} has no squares added up over tokens; make it anew")
            values[full] = torch.from_numpy(sums / counts[0]).float()
    return Importances(hashlib.sha256(content).hexdigest()[:16], values)


def _names(anatomy: Anatomy) -> gguf.TensorNameMap:
    wanted = anatomy.family.removesuffix("_text").replace("_", "")
    known = {name.replace("-", "").replace("_", ""): one for one, name in gguf.MODEL_ARCH_NAMES.items()}
    return gguf.get_tensor_name_map(known.get(wanted, gguf.MODEL_ARCH.LLAMA), len(anatomy.blocks))

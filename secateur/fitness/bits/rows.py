"""Packed rows of any level of fewer bits: of llama.cpp's types, and of grids of integers."""

import torch

from ...space.bits import Bits
from ...space.both import Both
from ...space.grids import Grid
from ...space.kinds.bits import read as level_of
from ...space.treatments import DENSE, Sparsity, Treatment, words
from ..zeros.updating import smallest
from .decoding import decode
from .encoding import encode
from .grids import gptq, hqq, nearest, rounded, taken_apart

IMPORTANCE, NEAREST, HQQ, GPTQ = "importance", "nearest", "hqq", "gptq"
LOOKING = (IMPORTANCE, GPTQ)
"""Quantizers that look at text: for the mean squares of inputs, or for their products with each other."""


def name_of(level: Treatment, inputs: int) -> str | None:
    """By which rows of so many inputs are kept at a level, and which `level_of` reads; None where it is none of fewer
    bits."""
    if isinstance(level, Bits):
        return level.at(inputs).kind
    return words(level) if isinstance(level, Grid | Both) else None


def rows_of(name: str, matrix: torch.Tensor, quantizer: str, seen: torch.Tensor | None = None) -> torch.Tensor:
    """Packed rows (outputs, bytes) of a matrix (outputs, inputs), on the CPU.

    `seen`: of the inputs, for quantizers that are `LOOKING`: mean squares (inputs,), or the Gram matrix (inputs,
    inputs); None: there is nothing that says one is worth more than another.

    Raises:
        SecateurError: it cannot be made here.
    """
    level = level_of(name)
    if isinstance(level, Bits):
        return encode(name, matrix, seen)
    grid, zeros = (level.grid, level.zeros_of) if isinstance(level, Both) else (level, DENSE)
    if seen is not None and quantizer == GPTQ:
        return gptq(matrix, seen, grid, zeros)
    if zeros:
        # The smallest of each row, before anything is rounded.
        matrix = torch.where(pruned(matrix, zeros), 0.0, matrix.float())
    return rounded(matrix, grid, hqq if quantizer == HQQ else nearest)


def pruned(matrix: torch.Tensor, zeros: Sparsity) -> torch.Tensor:
    """Where a matrix (outputs, inputs) has zeros: the smallest weights of each row, or of each pattern's inputs."""
    if zeros.of:
        return smallest(matrix.float().abs(), zeros, 0)
    order = matrix.float().abs().argsort(dim=1, stable=True)
    count = zeros.zeros(1, matrix.shape[1])
    return torch.zeros_like(matrix, dtype=torch.bool).scatter_(1, order[:, :count], True)


def weights_of(name: str, rows: torch.Tensor, inputs: int) -> torch.Tensor:
    """Weights (outputs, inputs) in float32 of packed rows, where they are."""
    level = level_of(name)
    if isinstance(level, Bits):
        return decode(name, rows)
    return taken_apart(rows, inputs, level.grid if isinstance(level, Both) else level)

"""Packed rows of any level of fewer bits: of llama.cpp's types, and of grids of integers."""

import torch

from ...space.bits import TYPES, Bits
from ...space.grids import Grid
from ...space.treatments import Treatment, words
from .decoding import decode
from .encoding import encode
from .grids import gptq, hqq, nearest, rounded, taken_apart

IMPORTANCE, NEAREST, HQQ, GPTQ = "importance", "nearest", "hqq", "gptq"
LOOKING = (IMPORTANCE, GPTQ)
"""Quantizers that look at text: for the mean squares of inputs, or for their products with each other."""


def name_of(level: Treatment, inputs: int) -> str | None:
    """By which rows of so many inputs are kept at a level; None where it is none of fewer bits."""
    if isinstance(level, Bits):
        return level.at(inputs).kind
    return words(level) if isinstance(level, Grid) else None


def level_of(name: str) -> Bits | Grid:
    """The inverse of `name_of`."""
    return Bits(name) if name in TYPES else Grid.read(name)


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
    if seen is not None and quantizer == GPTQ:
        return gptq(matrix, seen, level)
    return rounded(matrix, level, hqq if quantizer == HQQ else nearest)


def weights_of(name: str, rows: torch.Tensor, inputs: int) -> torch.Tensor:
    """Weights (outputs, inputs) in float32 of packed rows, where they are."""
    level = level_of(name)
    return decode(name, rows) if isinstance(level, Bits) else taken_apart(rows, inputs, level)

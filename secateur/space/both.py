"""Zeros and a grid of integers in one matrix: some weights are none, and the others are rounded."""

import math
from dataclasses import dataclass

from .grids import Grid
from .treatments import Sparsity, words


@dataclass(frozen=True, slots=True)
class Both:
    """A share of zeros, or a pattern of them, and the grid that what is left is on, zero among its steps."""

    zeros_of: Sparsity
    grid: Grid

    @classmethod
    def read(cls, value: float | int | str) -> "Both":
        """Reads "0.5+int4-g128" or "2:4+int8-sym".

        Raises:
            ValueError: there are no zeros or no grid in it, or the grid does not hold zeros.
        """
        zeros, _, grid = str(value).partition("+")
        found = cls(Sparsity.parse(zeros), Grid.read(grid))
        if not found.zeros_of:
            raise ValueError("no zeros; write the grid alone")
        if found.grid.half:
            raise ValueError("a grid whose zero points are no integers has no zero; leave -half out")
        return found

    @property
    def name(self) -> str:
        """In `TREATMENTS`."""
        return "both"

    @property
    def share(self) -> float:
        """Of bits of half precision that are gone, zeros counted as gone."""
        return 1 - (1 - self.zeros_of.share) * (1 - self.grid.share)

    @property
    def multiple(self) -> int:
        """Of what a linear's inputs have to be."""
        return math.lcm(self.zeros_of.multiple, self.grid.multiple)

    def at(self, inputs: int) -> "Both":
        """The same of any row."""
        return self

    def parameters(self, outputs: int, inputs: int) -> int:
        """All: zeros are stored."""
        return outputs * inputs

    def zeros(self, outputs: int, inputs: int) -> int:
        """Those that are made before anything is rounded."""
        return self.zeros_of.zeros(outputs, inputs)

    def bytes(self, outputs: int, inputs: int, width: int) -> int:
        """As the grid has them: zeros are stored like others."""
        return self.grid.bytes(outputs, inputs, width)

    def to_json(self) -> str:
        """With the treatment's name."""
        return str(self)

    def __str__(self) -> str:
        return f"{self.name}:{self.zeros_of}+{words(self.grid)}"

    def __bool__(self) -> bool:
        return True

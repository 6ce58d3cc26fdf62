"""Grids of integers that the weights of a linear are rounded to, a scale for every group of them; and eight-bit floats.

What is stored of a row of weights, as `fitness.bits.grids` packs it: the integers, the last byte filled up; for every
group a scale in half precision; and its zero point, unless the grid is symmetric, in as many bits as a weight has, the
last byte filled up as well, or in half precision, where it need be no integer. Of an eight-bit float (E4M3;
Micikevicius et al. 2022, arXiv 2209.05433) a byte a weight, and a scale a row.
"""

import re
from dataclasses import dataclass

from .bits import BITS_OF_ALL

SCALE = 2
"""Bytes of a scale."""
FLOAT = "fp8"
EXAMPLES = "int8, int4-g128, int4-g64-half, int3-g64-sym or fp8"
LARGEST_GROUP = 2**16


@dataclass(frozen=True, slots=True)
class Grid:
    """Weights as integers of some bits, in groups of a row's neighbours with a scale of their own.

    Attributes:
        width: bits of a weight.
        group: weights of a group; 0: a row is one.
        symmetric: zero is in the middle of the grid; otherwise every group says where it is.
        half: that is said in half precision, and need not be on the grid, as HQQ has it.
        float8: they are eight-bit floats, a row a group.
    """

    width: int
    group: int = 0
    symmetric: bool = False
    half: bool = False
    float8: bool = False

    def __post_init__(self) -> None:
        if not 2 <= self.width <= 8:
            raise ValueError("a grid has 2 to 8 bits")
        if self.group and not 8 <= self.group <= LARGEST_GROUP:
            raise ValueError(f"a group has 8 to {LARGEST_GROUP} weights")
        if self.float8 and (self.width != 8 or self.group or not self.symmetric):
            raise ValueError("floats have eight bits, a scale of each row, and no zero points")

    @classmethod
    def read(cls, value: float | int | str) -> "Grid":
        """Reads "int4-g128", "int8", "int3-g64-sym" or "fp8".

        Raises:
            ValueError: it is none of them.
        """
        text = str(value).strip().lower()
        if text == FLOAT:
            return cls(8, symmetric=True, float8=True)
        match = re.fullmatch(r"int([0-9]{1,2})(?:-g([0-9]{1,6}))?(-sym|-half)?", text)
        if match is None:
            raise ValueError(f"no grid; write {EXAMPLES}")
        width, group = int(match[1]), int(match[2] or 0)
        if match[2] and not group:
            raise ValueError(f"a group has 8 to {LARGEST_GROUP} weights")
        return cls(width, group, symmetric=match[3] == "-sym", half=match[3] == "-half")

    @property
    def name(self) -> str:
        """In `TREATMENTS`."""
        return "grid"

    @property
    def share(self) -> float:
        """Of the bits of half precision that are gone, without scales of rows."""
        extra = (8 * SCALE + self.point_bits) / self.group if self.group else 0
        return 1 - (self.width + extra) / BITS_OF_ALL

    @property
    def point_bits(self) -> int:
        """Of a group's zero point."""
        return 0 if self.symmetric else 8 * SCALE if self.half else self.width

    @property
    def multiple(self) -> int:
        """Of what a linear's inputs have to be."""
        return self.group or 1

    def at(self, inputs: int) -> "Grid":
        """The same of any row."""
        return self

    def groups(self, inputs: int) -> int:
        """Of a row."""
        return inputs // self.group if self.group else 1

    def parameters(self, outputs: int, inputs: int) -> int:
        """All are there."""
        return outputs * inputs

    def zeros(self, outputs: int, inputs: int) -> int:
        """None are made."""
        return 0

    def bytes(self, outputs: int, inputs: int, width: int) -> int:
        """Of integers, scales and zero points of all rows.

        Raises:
            ValueError: rows are no whole groups.
        """
        if inputs % self.multiple:
            raise ValueError(f"{inputs} inputs are no whole groups of {self}")
        groups = self.groups(inputs)
        points = -(-self.point_bits * groups // 8)
        return outputs * (-(-self.width * inputs // 8) + SCALE * groups + points)

    def to_json(self) -> str:
        """With the treatment's name."""
        return str(self)

    def __str__(self) -> str:
        if self.float8:
            return f"{self.name}:{FLOAT}"
        group = f"-g{self.group}" if self.group else ""
        return f"{self.name}:int{self.width}{group}{'-sym' if self.symmetric else '-half' if self.half else ''}"

    def __bool__(self) -> bool:
        return True

"""Which packed rows a space needs, whether they can be made here, and what they take."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ...space.anatomy import Anatomy, Block
from ...space.bits import TYPES
from ...space.errors import SecateurError
from ...space.grids import Grid
from ...space.kinds.bits import read as level_of
from ...space.space import Space
from ..treatments import Position, Wanted, wanted_of
from .rows import GPTQ, HQQ, IMPORTANCE, NEAREST, name_of, rows_of

FLOAT = 4
"""Bytes of a number in single precision."""


@dataclass(frozen=True, slots=True)
class Planes:
    """What a store has to hold: types, of all linears of a block together, and of each matrix outside."""

    blocks: Mapping[int, set[str]]
    outside: Mapping[Position, set[str]]

    def kinds(self) -> tuple[set[str], set[str]]:
        """In blocks, and outside."""
        return set().union(*self.blocks.values()), set().union(*self.outside.values())


def planes_of(anatomy: Anatomy, wanted: Wanted) -> Planes:
    """The types that levels are in whole matrices."""
    blocks: dict[int, set[str]] = {}
    outside: dict[Position, set[str]] = {}
    for (index, position), levels in wanted.items():
        inputs = anatomy.blocks[index].matrices[position].inputs
        kinds = {name for level in levels if (name := name_of(level, inputs)) is not None}
        if anatomy.is_outside(index, position):
            outside[index, position] = kinds
        else:
            blocks.setdefault(index, set()).update(kinds)
    return Planes(blocks, outside)


def packed_bytes(space: Space) -> int:
    """What the store of all levels of a space takes on disk."""
    planes, blocks = planes_of(space.anatomy, wanted_of(space)), space.anatomy.blocks
    stored = [
        (linear, kind) for index, kinds in planes.blocks.items() for linear in blocks[index].linears for kind in kinds
    ]
    stored += [(blocks[index].matrices[n], kind) for (index, n), kinds in planes.outside.items() for kind in kinds]
    return sum(
        level.bytes(matrix.outputs, matrix.inputs, 0)
        for matrix, kind in stored
        for level in [level_of(kind)]
        if matrix.inputs % level.multiple == 0
    )


def reads_with(block: Block, linear: str) -> str:
    """The first linear of a sublayer for all that read the same input: all but the last."""
    linears = block.where[linear].linears
    return linear if linear == linears[-1].name else linears[0].name


def seen_bytes(space: Space, quantizer: str, rotated: bool = False) -> int:
    """What is kept on disk of inputs' products with each other, where narrower linears are rounded by them; those of
    what reads the residual stream twice, where that is `rotated`."""
    if quantizer != GPTQ:
        return 0
    blocks = [space.anatomy.blocks[index] for index in planes_of(space.anatomy, wanted_of(space)).blocks]
    return sum(
        FLOAT * ((1 + rotated) * sublayer.linears[0].inputs ** 2 + sublayer.linears[-1].inputs ** 2)
        for block in blocks
        for sublayer in block.sublayers
    )


def check_types(space: Space, quantizer: str) -> None:
    """Raises SecateurError where a level of the space cannot be made on this machine by a quantizer."""
    check_planes(planes_of(space.anatomy, wanted_of(space)), quantizer)


def check_planes(planes: Planes, quantizer: str) -> None:
    """The same of what a store has to hold."""
    inside, outside = planes.kinds()
    for kind in sorted(inside | outside):
        ways = (IMPORTANCE, NEAREST) if kind in TYPES else (GPTQ, HQQ, NEAREST)
        if quantizer not in ways:
            raise SecateurError(
                f"quantizer: {quantizer} does not make {kind}; write quantizer: {', '.join(ways[:-1])} or {ways[-1]}"
            )
        level = level_of(kind)
        if quantizer == HQQ and not (isinstance(level, Grid) and level.half):
            raise SecateurError(
                f"quantizer: hqq moves zero points between the steps of a grid, and those of {kind} lie on it; write "
                "int4-g64-half or the like, or quantizer: nearest or gptq"
            )
    for kind in sorted(inside):
        _make(kind, quantizer, looks=True)
    for kind in sorted(outside):
        if kind in TYPES and TYPES[kind].needs_importance:
            raise SecateurError(f"bits: {kind} needs an importance matrix, which embedding and head have none of")
        _make(kind, quantizer, looks=False)


def _make(kind: str, quantizer: str, looks: bool) -> None:
    """Made of nothing, it says what is missing."""
    if kind in TYPES:
        one = torch.ones(TYPES[kind].block)
        rows_of(kind, one[None], quantizer, one if looks and quantizer == IMPORTANCE else None)

"""Where heads, channels and residual features lie in stored tensors: sums per unit, permutations and slices."""

import math
from collections.abc import Mapping

import torch

from ...space.anatomy import HIDDEN, Axis, Block, Segment, Sublayer, Tensor

Order = Mapping[str, torch.Tensor]
"""Of the units of each of a block's dimensions, most important first: indices of the dense model.

Of a sublayer's second dimension for each unit of the first, and so on: (KV groups,), then (KV groups, query heads in
each): the heads of each original group in order."""
Kept = Mapping[str, int]
"""Units kept of each dimension."""


def unit_sums(
    block: Block, sublayer: Sublayer, values: Mapping[str, torch.Tensor], dimensions: tuple[str, ...]
) -> torch.Tensor:
    """Adds up `values` (in the shapes of the sublayer's parameters, by name) over each unit.

    `dimensions` count the units, and are the sublayer's first ones: KV groups with all their query heads are
    ("groups",), query heads by themselves ("groups", "queries").
    """
    count = math.prod(block.dimensions[dimension] for dimension in dimensions)
    sizes, total = block.dense_sizes, torch.zeros(count, dtype=torch.float64)
    for tensor in sublayer.parameters():
        for dimension, axis in enumerate(tensor.axes):
            start = 0
            for segment in axis:
                counted = block.segments[segment].dimensions[: len(dimensions)] == dimensions
                if counted and tensor.name in values:
                    part = values[tensor.name].narrow(dimension, start, sizes[segment])
                    rows = part.movedim(dimension, 0).reshape(count, -1)
                    total += rows.double().sum(dim=1).cpu()
                start += sizes[segment]
    return total


def _permutation(axis: Axis, block: Block, order: Order, hidden: torch.Tensor | None) -> torch.Tensor | None:
    """Old positions along a dimension in their new order; None where it stays as it is."""
    every = order if hidden is None else {**order, HIDDEN: hidden}
    parts, start, sizes, moved = [], 0, block.dense_sizes, False
    for name in axis:
        segment = block.segments[name]
        known = all(dimension in every for dimension in segment.dimensions)
        parts.append(start + (_units(segment, block, every) if known else torch.arange(sizes[name])))
        start, moved = start + sizes[name], moved or known
    return torch.cat(parts) if moved else None


def _units(segment: Segment, block: Block, order: Order) -> torch.Tensor:
    """Old positions along a segment in their new order."""
    first, *others = segment.dimensions
    units = order[first]
    for dimension in others:
        count = block.dimensions[dimension]
        units = (units[:, None] * count + order[dimension].reshape(-1, count)[units]).reshape(-1)
    return _runs(units, segment.unit)


def _runs(units: torch.Tensor, length: int) -> torch.Tensor:
    return (units[:, None] * length + torch.arange(length)).reshape(-1)


def permuted(
    tensor: Tensor, values: torch.Tensor, block: Block, order: Order, hidden: torch.Tensor | None
) -> torch.Tensor:
    """A parameter of the block with its units in `order`, and residual features in the order `hidden`, if any."""
    for dimension, axis in enumerate(tensor.axes):
        index = _permutation(axis, block, order, hidden)
        if index is not None:
            values = values.index_select(dimension, index.to(values.device))
    return values


def sliced(tensor: Tensor, values: torch.Tensor, block: Block, kept: Kept) -> torch.Tensor:
    """The part of a parameter that is kept: the first units along every axis.

    A view wherever the kept part is one strided piece; a copy for fused projections, and where groups and the query
    heads within them are both narrowed.
    """
    sizes, dense = block.sizes(kept), block.dense_sizes
    for dimension, axis in enumerate(tensor.axes):
        if all(dense[segment] == sizes[segment] for segment in axis):
            continue
        parts, start = [], 0
        for segment in axis:
            part = values.narrow(dimension, start, dense[segment])
            parts.append(_first(part, dimension, block.segments[segment], block, kept))
            start += dense[segment]
        values = parts[0] if len(parts) == 1 else torch.cat(parts, dim=dimension)
    return values


def copied(tensor: Tensor, block: Block, kept: Kept) -> bool:
    """Whether `sliced` has to copy."""
    sizes, dense = block.sizes(kept), block.dense_sizes
    return any(
        any(dense[segment] != sizes[segment] for segment in axis)
        and (len(axis) > 1 or _inner(block.segments[axis[0]], block, kept))
        for axis in tensor.axes
    )


def _inner(segment: Segment, block: Block, kept: Kept) -> bool:
    """Whether units are removed in the middle of a segment, and not at its end alone."""
    return any(kept[dimension] < block.dimensions[dimension] for dimension in segment.dimensions[1:])


def _first(part: torch.Tensor, dimension: int, segment: Segment, block: Block, kept: Kept) -> torch.Tensor:
    if not _inner(segment, block, kept):
        return part.narrow(dimension, 0, segment.length(kept))
    before, after = part.shape[:dimension], part.shape[dimension + 1 :]
    counts = [block.dimensions[one] for one in segment.dimensions]
    units = part.reshape(*before, *counts, segment.unit, *after)
    for number, one in enumerate(segment.dimensions):
        units = units.narrow(dimension + number, 0, kept[one])
    return units.reshape(*before, segment.length(kept), *after)


def kept_positions(
    axis: Axis, length: int, block: Block, kept: Kept, device: torch.device | None = None
) -> torch.Tensor:
    """Positions along a dimension of `length` that are kept; on the CPU, or on a device."""
    return sliced(Tensor("", (length,), (axis,)), torch.arange(length, device=device), block, kept)

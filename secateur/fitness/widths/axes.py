"""Where heads, channels and residual features lie in stored tensors: sums per unit, permutations and slices."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ...space.anatomy import Axis, Block, Sublayer, Tensor


@dataclass(frozen=True, slots=True)
class Order:
    """Of the units of a block, most important first.

    Attributes:
        groups: (KV groups,), indices of the dense model.
        queries: (KV groups, query heads per group): for each original group, its heads in order.
        channels: (channels,).
    """

    groups: torch.Tensor
    queries: torch.Tensor
    channels: torch.Tensor


def unit_sums(block: Block, sublayer: Sublayer, values: Mapping[str, torch.Tensor], unit: str) -> torch.Tensor:
    """Adds up `values` (in the shapes of the sublayer's parameters, by name) over each unit.

    `unit`: "groups" (with all their query heads), "heads" (query heads by themselves) or "channels".
    """
    segments = {
        "groups": {"query": block.kv_heads, "key": block.kv_heads, "triple": block.kv_heads},
        "heads": {"query": block.heads},
        "channels": {"channel": block.channels},
    }[unit]
    sizes, total = block.dense_sizes, torch.zeros(next(iter(segments.values())), dtype=torch.float64)
    for tensor in sublayer.parameters():
        for dimension, axis in enumerate(tensor.axes):
            start = 0
            for segment in axis:
                if segment in segments and tensor.name in values:
                    part = values[tensor.name].narrow(dimension, start, sizes[segment])
                    rows = part.movedim(dimension, 0).reshape(segments[segment], -1)
                    total += rows.double().sum(dim=1).cpu()
                start += sizes[segment]
    return total


def _permutation(axis: Axis, block: Block, order: Order, hidden: torch.Tensor | None) -> torch.Tensor | None:
    """Old positions along a dimension in their new order; None where it stays as it is."""
    dim = block.head_dim
    heads = (order.groups[:, None] * block.queries + order.queries[order.groups]).reshape(-1)
    by_segment = {
        "query": _runs(heads, dim),
        "key": _runs(order.groups, dim),
        "triple": _runs(order.groups, 3 * dim),
        "channel": order.channels,
    }
    if hidden is not None:
        by_segment["hidden"] = hidden
    parts, start, sizes = [], 0, block.dense_sizes
    for segment in axis:
        parts.append(start + by_segment.get(segment, torch.arange(sizes[segment])))
        start += sizes[segment]
    return torch.cat(parts) if any(segment in by_segment for segment in axis) else None


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


def sliced(tensor: Tensor, values: torch.Tensor, block: Block, sizes: Mapping[str, int]) -> torch.Tensor:
    """The part of a parameter that `sizes` keep: the first units along every axis.

    A view wherever the kept part is one strided piece; a copy for fused projections, and where groups and the query
    heads within them are both narrowed.
    """
    for dimension, axis in enumerate(tensor.axes):
        dense = block.dense_sizes
        if all(dense[segment] == sizes[segment] for segment in axis):
            continue
        parts, start = [], 0
        for segment in axis:
            part = values.narrow(dimension, start, dense[segment])
            parts.append(_first(part, dimension, segment, block, sizes))
            start += dense[segment]
        values = parts[0] if len(parts) == 1 else torch.cat(parts, dim=dimension)
    return values


def copied(tensor: Tensor, block: Block, sizes: Mapping[str, int]) -> bool:
    """Whether `sliced` has to copy."""
    dense = block.dense_sizes
    return any(
        any(dense[segment] != sizes[segment] for segment in axis)
        and (len(axis) > 1 or ("query" in axis and sizes["queries"] < block.queries))
        for axis in tensor.axes
    )


def _first(part: torch.Tensor, dimension: int, segment: str, block: Block, sizes: Mapping[str, int]) -> torch.Tensor:
    if segment != "query" or sizes["queries"] == block.queries:
        return part.narrow(dimension, 0, sizes[segment])
    before, after = part.shape[:dimension], part.shape[dimension + 1 :]
    heads = part.reshape(*before, block.kv_heads, block.queries, block.head_dim, *after)
    kept = heads.narrow(dimension, 0, sizes["groups"]).narrow(dimension + 1, 0, sizes["queries"])
    return kept.reshape(*before, sizes["query"], *after)


def kept_positions(axis: Axis, length: int, block: Block, sizes: Mapping[str, int]) -> torch.Tensor:
    """Positions along a dimension of `length` that `sizes` keep."""
    return sliced(Tensor("", (length,), (axis,)), torch.arange(length), block, sizes)

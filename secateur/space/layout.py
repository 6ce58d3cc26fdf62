"""What is left of a model in a subnet, as its configuration says it: blocks under new indices, sizes of their own."""

from collections.abc import Sequence

from .anatomy import HIDDEN, Anatomy, Block
from .state import BlockState


def kept_blocks(states: Sequence[BlockState]) -> list[int]:
    """Original indices of the blocks that are left; their positions are the new indices."""
    return [index for index, state in enumerate(states) if not state.removed]


def skips(blocks: Sequence[Block], states: Sequence[BlockState]) -> dict[int, list[str]]:
    """Dropped sublayers by *new* block index, for blocks that keep another one."""
    result = {}
    for new, old in enumerate(kept_blocks(states)):
        dropped = [sublayer.name for sublayer in blocks[old].sublayers if not states[old].has(sublayer)]
        if dropped:
            result[new] = dropped
    return result


def widths(anatomy: Anatomy, states: Sequence[BlockState]) -> dict[int, dict[str, int]]:
    """Configuration entries that differ from the dense ones, by *new* block index."""
    result = {}
    for new, old in enumerate(kept_blocks(states)):
        block, state = anatomy.blocks[old], states[old]
        sizes = state.sizes(block)
        entry = {
            name: sizes[size]
            for size, name in anatomy.config_names
            if size != HIDDEN and sizes[size] and sizes[size] != block.dense_sizes[size]
        }
        if entry:
            result[new] = entry
    return result


def stock_widths(anatomy: Anatomy, states: Sequence[BlockState]) -> dict[str, int] | None:
    """Configuration entries under which the stock class is the subnet; None where there are none."""
    if skips(anatomy.blocks, states):
        return None
    kept = kept_blocks(states)
    found = widths(anatomy, states)
    entries = [found.get(new, {}) for new in range(len(kept))] or [{}]
    first = entries[0]
    heads = dict(anatomy.config_names).get("heads")
    # Families without an explicit head_dim derive it from the number of heads, which must then stay.
    if any(entry != first for entry in entries) or (heads in first and not anatomy.explicit_head_dim):
        return None
    if heads is None:
        return first
    # Some stock configurations insist that the residual width is a multiple of the number of heads.
    narrower = heads in first or states[0].hidden < anatomy.hidden_size
    return None if narrower and states[0].hidden % first.get(heads, anatomy.blocks[0].dense_sizes["heads"]) else first

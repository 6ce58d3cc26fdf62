"""Names: of what genomes make of blocks, equal for equal states, in every space and process; and of a text."""

import json

from .anatomy import Block
from .state import BlockState

PREPARE = "(prepare)"
"""The text that levels, orders and repairs are made from, where that is one of its own; no other is called so."""
FIRST_DIMENSIONS = ("groups", "queries", "channels", "hidden")
"""Those whose places in a name are fixed."""


def name_of(block: Block, state: BlockState) -> str:
    """Names a state of a block: equal for equal states."""
    kept = dict(state.kept)
    groups, queries, channels, hidden = (kept.pop(name, 0) for name in FIRST_DIMENSIONS)
    row: list[object] = [groups, channels, [level.to_json() for level in state.levels(block)]]
    if hidden < block.hidden or 0 < queries < block.dimensions.get("queries", 0):
        row += [queries, hidden]
    # What came later is there where it is not dense, so that it changes no older key.
    later: dict[str, object] = {name: count for name, count in kept.items() if count < block.dimensions[name]}
    later |= {one.name: state.treated[one.name].to_json() for one in block.outside if one.name in state.treated}
    if later:
        row.append(later)
    return json.dumps(row, separators=(",", ":"))

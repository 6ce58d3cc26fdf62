"""What went in: how large its files are, which weights were zero before anything was pruned, and where it was run."""

from collections.abc import Mapping

from ...space.space import Space
from ..record.facts import DEVICE, SOURCE_BYTES, SOURCE_TYPES, ZEROS
from ..record.folder import RunFolder

NOTICEABLE = 0.05
"""Bytes that the counted ones may differ by before anything is said; a header's difference is not worth a line."""


def quantised_note(types: Mapping[str, int]) -> str:
    """What it means that the model is quantised already; empty where it is not."""
    if not types:
        return ""
    told = " and ".join(f"{count:,} in {kind}" for kind, count in types.items())
    return (
        f"The model's file is quantised already ({told} weights). Types that hold such weights as they are lose "
        "nothing, and what others lose is counted from here, not from the model that was quantised: of that it says "
        "little."
    )


def source_notes(folder: RunFolder, space: Space) -> tuple[str, ...]:
    """A line for each of what differs from what the costs seem to say."""
    lines = []
    size, counted = folder.journal.of(SOURCE_BYTES), space.dense_costs.weight_bytes
    if size is not None and abs(counted - size) > NOTICEABLE * size:
        lines.append(
            f"The model came in files of {size:,} bytes; dense it is {counted:,} in the dtype that is counted here and "
            "written."
        )
    if note := quantised_note(folder.journal.of(SOURCE_TYPES) or {}):
        lines.append(note)
    zeros = folder.journal.of(ZEROS)
    if zeros is not None:
        share = zeros["linears"] / space.anatomy.linear_weights
        lines.append(
            f"The model came with {zeros['linears']:,} zeros in its linears ({share:.1%} of their weights). They count "
            "as zeros in every row, the dense one included; ratios and relative budgets are of all places for weights."
        )
    loose = [str(budget) for budget in space.budgets if budget.allows(space.dense_costs)]
    if loose and len(loose) == len(space.budgets):
        lines.append("The dense model keeps the budgets as it is: nothing had to be removed.")
    elif loose:
        lines.append(f"The dense model keeps {' and '.join(loose)} too: nothing had to be removed for that.")
    devices = list(folder.journal.all(DEVICE).values())
    if len(devices) > 1:
        lines.append(f"Evaluations were made on {' and '.join(devices)}, whose losses can differ in their last digits.")
    return tuple(lines)

"""What went in: how large its files are, which weights were zero before anything was pruned, and where it was run."""

from ...space.space import Space
from ..record.facts import DEVICE, SOURCE_BYTES, ZEROS
from ..record.folder import RunFolder

NOTICEABLE = 0.05
"""Bytes that the counted ones may differ by before anything is said; a header's difference is not worth a line."""


def source_notes(folder: RunFolder, space: Space) -> tuple[str, ...]:
    """A line for each of what differs from what the costs seem to say."""
    lines = []
    size, counted = folder.journal.of(SOURCE_BYTES), space.dense_costs.weight_bytes
    if size is not None and abs(counted - size) > NOTICEABLE * size:
        lines.append(
            f"The model came in files of {size:,} bytes; dense it is {counted:,} in the dtype that is counted here and "
            "written."
        )
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

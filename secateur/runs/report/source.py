"""What went in: how large its files are, and which weights were zero before anything was pruned."""

from ...space.gene import STEPS
from ...space.space import Space
from ..folder import RunFolder

SOURCE_BYTES, ZEROS = "source bytes", "zeros"
"""Facts about the model: bytes of its weights' files, and the zeros that it has by itself."""
NOTICEABLE = 0.05
"""Bytes that the counted ones may differ by before anything is said; a header's difference is not worth a line."""


def source_notes(folder: RunFolder, space: Space) -> tuple[str, ...]:
    """A line for each of what differs from what the costs seem to say."""
    lines = []
    size, counted = folder.journal.fact(SOURCE_BYTES), space.dense_costs.weight_bytes
    if size is not None and abs(counted - size) > NOTICEABLE * size:
        lines.append(
            f"The model came in files of {size:,} bytes; dense it is {counted:,} in the dtype that is counted here and "
            "written."
        )
    zeros, places = (
        folder.journal.fact(ZEROS),
        sum(one.weights for block in space.anatomy.blocks for one in block.linears),
    )
    if zeros is not None and zeros["linears"] * STEPS >= places:
        lines.append(
            f"The model came with {zeros['linears']:,} zeros in its linears ({zeros['linears'] / places:.1%} of their "
            "weights). They count as zeros in every row, the dense one included; relative budgets are of all weights."
        )
    return tuple(lines)

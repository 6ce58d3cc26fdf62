"""Costs and losses in units that people think in."""

import math
from collections.abc import Mapping

from ...space.budget import shown
from ...space.costs import FILE, LATENCIES


def human(cost: str, value: int | float | None) -> str:
    """A cost as text: MB, millions of parameters, milliseconds."""
    if value is None:
        return ""
    if cost in LATENCIES:
        return f"{value / 1e6:,.1f} ms"
    if cost.endswith("_bytes"):
        return (
            f"{value / 1e9:,.2f} GB" if value >= 1e9 else f"{value / 1e6:,.1f} MB" if value >= 1e5 else f"{value:,} B"
        )
    if cost == "sublayers":
        return f"{value:,}"
    for size, unit in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if value >= size:
            return f"{value / size:,.2f} {unit}"
    return shown(cost, int(value))


def size_cost(costs: Mapping[str, int]) -> str:
    """The cost that says how large a plan is: of its file where that is counted, else of its weights."""
    return FILE if FILE in costs else "weight_bytes"


def rounded(value: float, digits: int) -> str:
    """A number to so many digits, of which nothing is not less than nothing."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def share(value: float, dense: float) -> str:
    """A cost in per cent of the dense model's."""
    return f"{100 * value / max(1, dense):.1f} %"


def perplexity(nats: float) -> str:
    """The exponential of a mean loss, as text."""
    value = math.exp(min(nats, 700.0))
    return f"{value:.1f}" if value < 10_000 else f"{value:.1e}"

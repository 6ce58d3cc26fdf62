"""How the figures of a page look, and what they have in common."""

import math
from collections.abc import Sequence

import plotly.graph_objects as go

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999")
"""Okabe and Ito's palette, told apart by everybody; the first is what was found."""
GREY = "#999999"
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star", "cross")
DECADES = 10.0
"""Largest over smallest value from which an axis is logarithmic."""
MANY = 1000.0
"""Largest over smallest value from which only decades are labelled."""
FAR = 3.0
"""How many times the range of what matters others may be away before they stand at the border."""


def styled(figure: go.Figure, height: int = 420) -> go.Figure:
    """A figure in the page's look: its colours come from the page, and it is as wide as that."""
    figure.update_layout(
        template="none",
        height=height,
        autosize=True,
        margin={"l": 64, "r": 16, "t": 44, "b": 56},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": GREY},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13},
        hoverlabel={"font": {"family": "ui-monospace, monospace", "size": 12}, "align": "left"},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        colorway=COLOURS,
    )
    figure.update_xaxes(automargin=True, title_standoff=8, zeroline=False, showline=True)
    figure.update_yaxes(automargin=True, title_standoff=8, zeroline=False, showline=True)
    return figure


def axis_of(values: Sequence[float]) -> dict[str, object]:
    """Range and scale of an axis that shows all of these: logarithmic where they span decades."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return {}
    low, high = min(known), max(known)
    if low > 0 and high / low >= DECADES:
        pad = 0.06 * math.log10(high / low)
        # Labels at 1, 2 and 5 of every decade, or at decades alone where there are many.
        few = high / low < MANY
        return {"type": "log", "range": [math.log10(low) - pad, math.log10(high) + pad], "dtick": "D2" if few else 1}
    pad = 0.06 * ((high - low) or abs(high) or 1.0)
    return {"type": "linear", "range": [low - pad, high + pad]}


def clipped(values: Sequence[float], axis: dict[str, object]) -> tuple[list[float], list[bool]]:
    """Values with those outside of an axis at its border, and which these are."""
    limits = axis.get("range")
    if not isinstance(limits, list):
        return list(values), [False] * len(values)
    low, high = (10**limit for limit in limits) if axis["type"] == "log" else limits
    shown = [min(max(value, low), high) for value in values]
    return shown, [one != value for one, value in zip(shown, values, strict=True)]


def beyond(values: Sequence[float], kept: Sequence[float]) -> list[float]:
    """What an axis has to show: what is `kept`, and of the other values those that are not far away from it."""
    known = [value for value in kept if math.isfinite(value)]
    if not known:
        return [value for value in values if math.isfinite(value)]
    low, high = min(known), max(known)
    room = FAR * ((high - low) or abs(high) or 1.0)
    return [*known, *(value for value in values if math.isfinite(value) and low - room <= value <= high + room)]

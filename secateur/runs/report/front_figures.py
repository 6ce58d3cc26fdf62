"""The pictures of a front: interactive ones as pieces of HTML, and the same as PNG bytes."""

import math
from collections.abc import Sequence

import plotly.graph_objects as go
import plotly.io
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...space.objective import Objective
from ...space.space import Space
from .figures import png, profile
from .front import FrontSummary, Point, line_of

Pair = tuple[Objective, Objective]
"""(along the bottom, upwards)"""


def pairs(front: FrontSummary) -> list[Pair]:
    """Every cost against the first score, and further scores against the first cost."""
    costs = [objective for objective in front.objectives if objective.is_cost]
    scores = [objective for objective in front.objectives if not objective.is_cost]
    if not costs:
        return [(scores[1], scores[0])]
    return [(cost, scores[0]) for cost in costs] + [(costs[0], score) for score in scores[1:]]


def scaled(objective: Objective, value: float, front: FrontSummary) -> float:
    """Costs relative to dense, scores as they are."""
    dense = front.dense.row.costs.get(objective.name, 0) if objective.is_cost else 0
    return value / dense if dense else value


def axis_title(objective: Objective, front: FrontSummary) -> str:
    """An objective with its unit, for an axis."""
    if not objective.is_cost:
        return f"{objective.name} (calibration text)"
    how = ""
    if objective.is_latency:
        how = ", ESTIMATE" if front.estimate else ", measured" if any(p.measured for p in front.members) else ", table"
    return f"{objective.name} of dense{how}"


def profile_text(space: Space, point: Point) -> str:
    """What each block keeps, as two short lines, and how much is zero where anything is."""
    states = space.states(point.row.genome)
    units: dict[str, list[str]] = {}
    for block, state in zip(space.anatomy.blocks, states, strict=True):
        for sublayer in block.sublayers:
            units.setdefault(sublayer.name, []).append(str(math.prod(state.widths(sublayer))))
    lines = [f"{name} {' '.join(counts)}" for name, counts in units.items()]
    if states[0].hidden < space.anatomy.hidden_size:
        lines.append(f"residual width {states[0].hidden}")
    shares = [max((level.share for level in state.treated.values()), default=0) for state in states]
    if any(shares):
        lines.append("sparsity " + " ".join(f"{float(share):.2f}" for share in shares))
    return "<br>".join(lines)


def _hover(front: FrontSummary, space: Space, point: Point) -> str:
    lines = [f"<b>{point.row.name}</b>" + (f" (rank {point.rank})" if point.rank else "")]
    for objective in front.objectives:
        value, error = point.values[objective.name], point.errors[objective.name]
        if objective.is_cost:
            lines.append(f"{objective.name} {scaled(objective, value, front):.4f}x of dense")
        else:
            lines.append(f"{objective.name} {value:.4f} ± {error:.4f}")
    for text in front.summary.held_out:
        if text in point.row.scores:
            kl = point.row.scores[text]["kl"]
            lines.append(f"held-out {text}: KL {kl.mean:.4f} ± {kl.standard_error:.4f}")
    return "<br>".join([*lines, profile_text(space, point)])


def interactive(front: FrontSummary, space: Space) -> list[tuple[str, str]]:
    """(heading, HTML) of every figure; the first one brings plotly's script with it."""
    figures = [
        (f"Front: {across.name} and {upwards.name}", _front(front, space, (across, upwards)))
        for across, upwards in pairs(front)
    ]
    figures.append(("Hypervolume over the search", _hypervolume(front)))
    return [
        (heading, plotly.io.to_html(figure, full_html=False, include_plotlyjs=number == 0, div_id=f"figure-{number}"))
        for number, (heading, figure) in enumerate(figures)
    ]


def _front(front: FrontSummary, space: Space, pair: Pair) -> go.Figure:
    across, upwards = pair
    figure = go.Figure()
    xs, ys = (_column(front, objective) for objective in pair)
    figure.add_scatter(
        x=xs, y=ys, mode="markers", name="evaluated", marker={"size": 4, "color": "#bbb"}, hoverinfo="x+y"
    )
    groups: dict[str, list[Point]] = {"front": [p for p in front.members if not p.fault]}
    for point in front.members:
        if point.fault:
            groups.setdefault(point.fault, []).append(point)
    for point in front.references:
        groups.setdefault(line_of(point.row.name), []).append(point)
    groups["dense"] = [front.dense]
    for name, points in groups.items():
        known = [p for p in points if across.name in p.values and upwards.name in p.values]
        known.sort(key=lambda p: p.values[across.name])
        error = {
            axis: {"type": "data", "array": [scaled(o, 1.96 * p.errors[o.name], front) for p in known]}
            for axis, o in (("error_x", across), ("error_y", upwards))
        }
        figure.add_scatter(
            x=[scaled(across, p.values[across.name], front) for p in known],
            y=[scaled(upwards, p.values[upwards.name], front) for p in known],
            mode="lines+markers" if name == "front" and len(front.objectives) == 2 else "markers",
            name=name,
            text=[_hover(front, space, p) for p in known],
            hoverinfo="text",
            line={"shape": "hv"},
            marker={"size": [13 if p.row.name == front.knee else 8 for p in known]},
            **error,
        )
    figure.update_layout(
        xaxis_title=axis_title(across, front),
        yaxis_title=axis_title(upwards, front),
        template="plotly_white",
        height=560,
        hoverlabel={"font": {"family": "monospace", "size": 11}, "align": "left"},
    )
    worst = dict(zip((o.name for o in front.objectives), front.corners[1], strict=True))
    figure.update_yaxes(range=[0, scaled(upwards, worst[upwards.name], front) * 1.02])
    figure.update_xaxes(rangemode="tozero")
    return figure


def _column(front: FrontSummary, objective: Objective) -> list[float]:
    index = front.objectives.index(objective)
    return [scaled(objective, row[index], front) for row in front.others]


def _hypervolume(front: FrontSummary) -> go.Figure:
    figure = go.Figure()
    for name, curve in front.curves.items():
        figure.add_scatter(
            x=[step[0] for step in curve],
            y=[step[2] for step in curve],
            name=_search(name),
            mode="lines",
            line={"shape": "hv"},
        )
    figure.update_layout(
        xaxis_title="genomes evaluated",
        yaxis_title="hypervolume, share of the box",
        template="plotly_white",
        height=380,
        showlegend=True,
    )
    return figure


def _search(name: str) -> str:
    return "the search" if name == "found" else f"{name} search"


def pictures(front: FrontSummary, space: Space) -> dict[str, bytes]:
    """PNG bytes by name: the front, hypervolume over the search, the profiles of the members."""
    found = {"front": _front_png(front), "hypervolume": _hypervolume_png(front)}
    if front.members:
        found["profile"] = profile(space, [(f"{p.rank} {p.row.name}", p.row.genome) for p in front.members])
    return found


def _front_png(front: FrontSummary) -> bytes:
    shown = pairs(front)
    figure = Figure(figsize=(7 * len(shown), 4.8), layout="constrained")
    worst = dict(zip((o.name for o in front.objectives), front.corners[1], strict=True))
    for axis, (across, upwards) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        axis.scatter(_column(front, across), _column(front, upwards), s=6, color="#bbb", label="evaluated")
        _draw(axis, front, (across, upwards), [p for p in front.members if not p.fault], "front", "tab:red")
        names = list(dict.fromkeys(line_of(p.row.name) for p in front.references))
        for name, colour in zip(names, ("tab:blue", "tab:green", "tab:purple", "tab:brown"), strict=False):
            _draw(
                axis,
                front,
                (across, upwards),
                [p for p in front.references if line_of(p.row.name) == name],
                name,
                colour,
            )
        axis.set_xlabel(axis_title(across, front))
        axis.set_ylabel(axis_title(upwards, front))
        if across.is_cost:
            axis.set_xlim(0, 1.05)
        axis.set_ylim(0, scaled(upwards, worst[upwards.name], front) * 1.02)
        axis.legend(fontsize=8)
    return png(figure)


def _draw(axis: Axes, front: FrontSummary, pair: Pair, points: Sequence[Point], name: str, colour: str) -> None:
    across, upwards = pair
    known = sorted(
        (p for p in points if across.name in p.values and upwards.name in p.values), key=lambda p: p.values[across.name]
    )
    axis.errorbar(
        [scaled(across, p.values[across.name], front) for p in known],
        [scaled(upwards, p.values[upwards.name], front) for p in known],
        xerr=[1.96 * scaled(across, p.errors[across.name], front) for p in known],
        yerr=[1.96 * scaled(upwards, p.errors[upwards.name], front) for p in known],
        fmt="o-" if len(front.objectives) == 2 else "o",
        markersize=4,
        linewidth=0.8,
        capsize=2,
        color=colour,
        label=name,
    )


def _hypervolume_png(front: FrontSummary) -> bytes:
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axis = figure.subplots()
    for name, curve in front.curves.items():
        axis.step([step[0] for step in curve], [step[2] for step in curve], where="post", label=_search(name))
    axis.set_xlabel("genomes evaluated")
    axis.set_ylabel("hypervolume, share of the box")
    axis.legend(fontsize=8)
    return png(figure)

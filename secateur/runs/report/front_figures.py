"""The pictures of a front: interactive ones as pieces of HTML, and the same as PNG bytes."""

import math
from collections.abc import Mapping, Sequence

import matplotlib
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...space.objective import Objective, is_own
from ...space.space import Space
from ...space.treatments import Sparsity
from .charts import COLOURS, GREY, SYMBOLS, axis_of, beyond, clipped, styled
from .figures import PLAIN, png, profile
from .front import FrontSummary, Point, line_of
from .page import Chart
from .rows import ORIGINS, SHOWN

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
    for what, zeros in (("sparsity", True), ("bits taken off", False)):
        shares = [
            max((one.share for one in state.treated.values() if isinstance(one, Sparsity) == zeros), default=0)
            for state in states
        ]
        if any(shares):
            lines.append(f"{what} " + " ".join(f"{float(share):.2f}" for share in shares))
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
            scores = point.row.scores[text]
            always, judged = front.summary.always, front.summary.judged
            for name in dict.fromkeys((always[0], *([judged] if judged in always else []), *filter(is_own, scores))):
                label = SHOWN.get(name, name)
                lines.append(f"held-out {text}: {label} {scores[name].mean:.4f} ± {scores[name].standard_error:.4f}")
    return "<br>".join([*lines, profile_text(space, point)])


def front_charts(front: FrontSummary, space: Space) -> list[Chart]:
    """The front, from every side, and the hypervolume over the search."""
    charts = [
        Chart(
            f"{upwards.name} against {across.name}",
            f"front-{number}",
            _front(front, space, (across, upwards)),
            [
                "Click on a point, and its profile is shown below. Bars are 95 % intervals; the knee is the larger "
                "point. What lies beyond the axes stands at the border, as an open triangle."
            ],
            front=True,
        )
        for number, (across, upwards) in enumerate(pairs(front))
    ]
    return [*charts, Chart("Hypervolume over the search", "hypervolume", _hypervolume(front))]


def _front(front: FrontSummary, space: Space, pair: Pair) -> go.Figure:
    across, upwards = pair
    groups: dict[str, list[Point]] = {"front": [p for p in front.members if not p.fault]}
    for point in front.members:
        if point.fault:
            groups.setdefault(point.fault, []).append(point)
    for point in front.references:
        groups.setdefault(line_of(point.row.name), []).append(point)
    groups[front.dense.row.name] = [front.dense]
    known = {
        name: sorted(
            (p for p in points if across.name in p.values and upwards.name in p.values),
            key=lambda p: p.values[across.name],
        )
        for name, points in groups.items()
    }
    axes = [_axis(front, objective, known) for objective in pair]
    figure = go.Figure()
    clouds = [clipped(_column(front, objective), axis) for objective, axis in zip(pair, axes, strict=True)]
    outside = [any(places) for places in zip(*(far for _, far in clouds), strict=True)]
    figure.add_scatter(
        x=[value for value, far in zip(clouds[0][0], outside, strict=True) if not far],
        y=[value for value, far in zip(clouds[1][0], outside, strict=True) if not far],
        mode="markers",
        name="evaluated",
        marker={"size": 4, "color": GREY, "opacity": 0.5},
        hoverinfo="skip",
    )
    for number, (name, points) in enumerate(known.items()):
        places = [
            clipped([scaled(o, p.values[o.name], front) for p in points], axis)
            for o, axis in zip(pair, axes, strict=True)
        ]
        far = [any(two) for two in zip(*(marked for _, marked in places), strict=True)]
        error = {
            key: {
                "type": "data",
                "array": [
                    0 if f else scaled(o, 1.96 * p.errors[o.name], front) for p, f in zip(points, far, strict=True)
                ],
                "thickness": 1,
            }
            for key, o in (("error_x", across), ("error_y", upwards))
        }
        symbol = SYMBOLS[number % len(SYMBOLS)]
        figure.add_scatter(
            x=places[0][0],
            y=places[1][0],
            mode="lines+markers" if name == "front" and len(front.objectives) == 2 else "markers",
            name=name,
            text=[_hover(front, space, p) for p in points],
            customdata=[p.row.name for p in points],
            hoverinfo="text",
            line={"shape": "hv"},
            marker={
                "size": [14 if p.row.name == front.knee else 9 for p in points],
                "symbol": ["triangle-up-open" if one else symbol for one in far],
                "color": COLOURS[number % len(COLOURS)],
            },
            **error,
        )
    corner = dict(zip((o.name for o in front.objectives), front.corners[1], strict=True))
    figure.add_scatter(
        x=[scaled(across, corner[across.name], front)],
        y=[scaled(upwards, corner[upwards.name], front)],
        mode="markers",
        name="reference of the hypervolume",
        marker={"size": 11, "symbol": "cross-open", "color": GREY},
        visible="legendonly",
    )
    styled(figure, height=560)
    figure.update_xaxes(title_text=axis_title(across, front), **axes[0])
    figure.update_yaxes(title_text=axis_title(upwards, front), **axes[1])
    return figure


def _axis(front: FrontSummary, objective: Objective, known: Mapping[str, Sequence[Point]]) -> dict[str, object]:
    """Fitted to the front, to references that are not far away, and to the dense model's costs, or the base's.

    Its scores are next to nothing, and would take most of a logarithmic axis.
    """
    names = ("front", *ORIGINS) if objective.is_cost else ("front",)
    kept = [scaled(objective, p.values[objective.name], front) for name in names for p in known.get(name, ())]
    beside = [points for name, points in known.items() if name not in ("front", *ORIGINS)]
    others = [scaled(objective, p.values[objective.name], front) for points in beside for p in points]
    return axis_of(beyond(others, kept))


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
    styled(figure, height=360)
    figure.update_layout(showlegend=True)
    figure.update_xaxes(title_text="genomes evaluated")
    figure.update_yaxes(title_text="hypervolume, share of the box")
    return figure


def _search(name: str) -> str:
    return "the search" if name == "found" else f"{name} search"


@matplotlib.rc_context(PLAIN)
def pictures(front: FrontSummary, space: Space) -> dict[str, bytes]:
    """PNG bytes by name: the front, hypervolume over the search, the profiles of the members."""
    found = {"front": _front_png(front), "hypervolume": _hypervolume_png(front)}
    if front.members:
        found["profile"] = profile(space, [(f"{p.rank} {p.row.name}", p.row.genome) for p in front.members])
    return found


def _front_png(front: FrontSummary) -> bytes:
    shown = pairs(front)
    figure = Figure(figsize=(7 * len(shown), 4.8), layout="constrained")
    for axis, (across, upwards) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        axis.scatter(_column(front, across), _column(front, upwards), s=6, color="#bbb", label="evaluated")
        _draw(axis, front, (across, upwards), [p for p in front.members if not p.fault], "front", COLOURS[0])
        names = list(dict.fromkeys(line_of(p.row.name) for p in front.references))
        for name, colour in zip(names, COLOURS[1:], strict=False):
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
        for objective, limits in ((across, axis.set_xlim), (upwards, axis.set_ylim)):
            members = [scaled(objective, p.values[objective.name], front) for p in (*front.members, front.dense)]
            others = [
                scaled(objective, p.values[objective.name], front)
                for p in front.references
                if objective.name in p.values
            ]
            shown_values = beyond(others, members)
            room = 0.06 * ((max(shown_values) - min(shown_values)) or 1.0)
            limits(min(shown_values) - room, max(shown_values) + room)
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

"""The page of a front, and its table, which the terminal shows too."""

import math
from collections.abc import Sequence

from ...space.budget import shown
from ...space.objective import is_own
from ...space.space import Space
from ..record.folder import RunFolder
from ..record.journal import FOUND
from .front import FrontSummary, Point
from .front_figures import front_charts
from .page import Card, Chart, Grid, Page
from .plan_page import budgets_of, kept, milliseconds, model_name, notes, tasks
from .profiles import alone, profile_chart
from .rows import JUDGED, SHOWN
from .timed import broken_budgets
from .units import human, perplexity, rounded, share, size_cost

TINY = 1e-6
"""Scores that are nothing but rounding."""


def table(front: FrontSummary, brief: bool = False) -> tuple[list[str], list[list[str]]]:
    """(headings, one row of cells a plan): members by rank, then references, then the dense model.

    `brief`: all held-out texts in one column, for a terminal.
    """
    costs = [objective for objective in front.objectives if objective.is_cost]
    scores = [objective for objective in front.objectives if not objective.is_cost]
    own, by_loss = own_scores(front), front.summary.judged == front.summary.always[1]
    first, second = front.summary.always
    words = second == "cross_entropy"
    digits = 3 if words else 4
    headings = ["rank", "plan"]
    for objective in costs:
        headings.append(f"{objective.name}\nof dense")
        if objective.is_latency:
            headings += [f"{objective.name}\nms", "ESTIMATE" if front.estimate else "by table"]
    headings += [f"{objective.name}\ncalibration" for objective in scores]
    if brief and front.summary.held_out:
        headings += [
            f"{SHOWN.get(first, first)}\nheld-out",
            *([f"{SHOWN.get(second, second)}\nheld-out"] if by_loss else []),
            *(f"{name}\nheld-out" for name in own),
        ]
    for text in () if brief else front.summary.held_out:
        headings += [f"{text}\n{SHOWN.get(first, first)}", f"\n{'ppl' if words else second}"]
        headings += [f"{text}\n{name}" for name in own]
    size = "parameters" not in [objective.name for objective in costs]
    headings += ["parameters\nof dense"] if size else []
    timed = any(point.measured for point in front.members)
    if timed:
        headings += ["prefill\nms", "decode\ntokens/s"]
    rows = []
    for point in _points(front):
        fault = point.fault.removesuffix(" as measured") if brief else point.fault
        rank = f"{point.rank} {f'({fault})' if fault else ''}".rstrip() if point.rank else ""
        row = [rank, point.row.name]
        for objective in costs:
            dense = max(1, front.summary.dense_costs[objective.name])
            ratio = f"{point.values[objective.name] / dense:.3f}"
            error = point.errors[objective.name] / dense
            row.append(f"{ratio} ± {error:.3f}" if error else ratio)
            if objective.is_latency:
                row.append(f"{point.values[objective.name] / 1e6:,.2f}")
                row.append(f"{point.table[objective.name] / dense:.3f}")
        for objective in scores:
            known = objective.name in point.values
            row.append(
                f"{rounded(point.values[objective.name], digits)} ± {point.errors[objective.name]:.{digits}f}"
                if known
                else ""
            )
        if brief and front.summary.held_out:
            texts = front.summary.held_out
            row.append(_held_out(point, texts, first, digits))
            row += [_perplexity(point, texts) if words else _held_out(point, texts, second, digits)] * by_loss
            row += [_held_out(point, texts, name) for name in own]
        for text in () if brief else front.summary.held_out:
            row.append(_held_out(point, (text,), first, digits))
            row.append(_perplexity(point, (text,)) if words else _held_out(point, (text,), second, digits))
            row += [_held_out(point, (text,), name) for name in own]
        row += [f"{point.row.costs['parameters'] / front.summary.dense_costs['parameters']:.3f}"] if size else []
        if timed:
            row += _speed(front, point)
        rows.append(row)
    return headings, rows


def _perplexity(point: Point, texts: Sequence[str]) -> str:
    """Over the sequences of all texts together."""
    found = [point.row.scores[text]["cross_entropy"] for text in texts if text in point.row.scores]
    total = sum(score.sequences for score in found)
    return perplexity(sum(score.mean * score.sequences for score in found) / total) if len(found) == len(texts) else ""


def random_search(front: FrontSummary) -> list[str]:
    """A sentence for each search beside it: the hypervolume that it came to."""
    return [
        f"{name} search with at most the same effort came to a hypervolume of {curve[-1][2]:.4f}."
        for name, curve in front.curves.items()
        if name != FOUND and curve
    ]


def own_scores(front: FrontSummary) -> list[str]:
    """The user's own functions among the objectives that some plan has been scored by on held-out text."""
    scored = {
        name for point in _points(front) for text in front.summary.held_out for name in point.row.scores.get(text, ())
    }
    return [one.score for one in front.objectives if is_own(one.name) and one.score in scored]


def _held_out(point: Point, texts: Sequence[str], score: str, digits: int = 3) -> str:
    """A score over the sequences of all texts together."""
    found = [point.row.scores[text] for text in texts if text in point.row.scores]
    scores = [one[score] for one in found if score in one]
    if len(scores) < len(texts):
        return ""
    total = sum(score.sequences for score in scores)
    mean = sum(score.mean * score.sequences for score in scores) / total
    error = math.sqrt(sum((score.standard_error * score.sequences) ** 2 for score in scores)) / total
    return f"{rounded(mean, digits)} ± {error:.{digits}f}"


def _speed(front: FrontSummary, point: Point) -> list[str]:
    """Milliseconds of a prefill and tokens decoded a second, by the clock; the dense model's beside its last member."""
    last = next((member.measured for member in reversed(front.members) if member.measured is not None), None)
    times = point.measured.times if point.measured is not None else None
    if times is None and point is front.dense and last is not None:
        times = last.dense
    if times is None:
        return ["", ""]
    return [f"{times.prefill / 1e6:.1f}", f"{front.batch * 1e9 / times.decode:.1f}" if times.decode else ""]


def table_errors(front: FrontSummary) -> list[str]:
    """A sentence for each latency: how far the table was from the models that were timed."""
    lines = []
    for name, errors in front.table_errors.items():
        middle = sorted(abs(error) for error in errors)[len(errors) // 2]
        worst = max(errors, key=abs)
        lines.append(
            f"The table's {name} of dense was off by {middle:.1%} (median) and {abs(worst):.1%} at most from what "
            f"{len(errors)} whole models took, timed in turns with the dense one."
        )
    lines += [f"{name} was not timed: {reason}" for name, reason in front.untimed.items()]
    if front.unreliable:
        lines.append(
            f"{', '.join(front.unreliable)}: times spread by more than a tenth, so the table's latency counts; "
            "time on a quieter machine, or raise latency.repeats."
        )
    if front.estimate:
        lines.append("Latency is an ESTIMATE from stated peaks, a lower bound; nothing was timed.")
    return lines


def corner(front: FrontSummary, values: Sequence[float]) -> list[str]:
    """The values of a corner of the box as text."""
    pairs = zip(front.objectives, values, strict=True)
    return [
        f"{o.name} {shown(o.name, round(v)) if o.is_cost else f'{v if abs(v) > TINY else 0:.4g}'}"
        + (" (estimate)" if o.is_latency and front.estimate else "")
        for o, v in pairs
    ]


def front_page(folder: RunFolder, space: Space, front: FrontSummary) -> Page:
    """What is shown of a run for a front."""
    budgets = budgets_of(folder, space)
    names = [objective.name for objective in front.objectives]
    headings, rows = table(front)
    if space.budgets:
        headings, rows = (
            [*headings, "budgets"],
            [[*row, _budgets(space, point)] for row, point in zip(rows, _points(front), strict=True)],
        )
    bold = [number for number, row in enumerate(rows) if row[1] == front.knee]
    ideal, worst = (", ".join(corner(front, values)) for values in front.corners)
    note = (
        "± is one standard error. The knee is in bold: it gives up least of everything after scaling each objective to "
        f"the front's range. Hypervolume {front.hypervolume:.4f}: the share that the members dominate of the box "
        f"between {ideal} and {worst} (reference)."
    )
    some = (*front.members, *front.references)
    plans = [(point.row.name, kept(space, point.row), point.row.genome) for point in some]
    plans.sort(key=lambda plan: plan[0] != front.knee)
    *fronts, volume = front_charts(front, space)
    parts: list[Chart | Grid | None] = [
        *fronts,
        profile_chart(space, plans, alone(folder, space), names[0]) if plans else None,
        Grid("Members", headings, rows, bold, [note, *table_errors(front)]),
        _against(front),
        volume,
        tasks(front.summary),
    ]
    workload = f" Latency of one request, {space.latency.workload}." if space.latency is not None else ""
    return Page(
        title=f"{model_name(folder)}: {' against '.join(names)}",
        under=f"Run {folder.path.name}; model {folder.recipe.model.path}; searched by {folder.recipe.strategy.name}; "
        f"budget {', '.join(budgets) or 'none'}.{workload}",
        verdict=front.verdict,
        cards=_cards(space, front),
        parts=[part for part in parts if part is not None],
        notes=notes(front.summary, random_search(front)),
        recipe=folder.recipe.to_yaml(),
    )


def _points(front: FrontSummary) -> tuple[Point, ...]:
    """All, in the order of the table."""
    return (*front.members, *front.references, front.dense)


def _budgets(space: Space, point: Point) -> str:
    """Whether a plan keeps every budget, as measured where it was."""
    over = [budget.cost for budget in space.budgets if budget.of(space.costs(point.row.genome)) > budget.limit]
    timed = broken_budgets(space, point.measured)
    if over or timed:
        return "BROKEN: " + ", ".join([*over, *(f"{name} as timed" for name in timed)])
    return "kept"


def _against(front: FrontSummary) -> Grid | None:
    if not front.against:
        return None
    rows = [
        [
            one.reference,
            one.member,
            f"{one.difference.mean:+.4f} [{one.difference.low:+.4f}, {one.difference.high:+.4f}]",
        ]
        for one in front.against
    ]
    label = JUDGED.get(front.summary.judged, front.summary.judged)
    headings = ["reference", "best member", f"member minus reference, {label}, paired 95 %"]
    return Grid("At the same cost or less, on held-out text", headings, rows)


def _cards(space: Space, front: FrontSummary) -> list[Card]:
    sound = [point for point in front.members if not point.fault]
    cards = [Card("members", str(len(sound)), f"of {len(front.members)} that were confirmed")]
    for objective in front.objectives:
        values = sorted(point.values[objective.name] for point in sound if objective.name in point.values)
        if not values:
            continue
        if objective.is_cost:
            low, high = (share(value, front.summary.dense_costs[objective.name]) for value in (values[0], values[-1]))
            cards.append(Card(objective.name, f"{low} to {high}", "of dense"))
        else:
            cards.append(Card(objective.name, f"{values[0]:.3f} to {values[-1]:.3f}", "calibration text"))
    knee = next((point for point in sound if point.row.name == front.knee), None)
    if knee is not None:
        size = size_cost(knee.row.costs)
        cards.append(Card("knee", human(size, knee.row.costs[size]), kept(space, knee.row)))
        if knee.measured is not None:
            cards.append(Card("knee, a request", *milliseconds(space, knee.measured)))
    return cards

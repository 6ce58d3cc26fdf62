"""What a run for a front says: its members re-ranked on what was measured, the references, and the hypervolume."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...space.costs import LATENCIES
from ...space.errors import SecateurError
from ...space.evaluation import Evaluation
from ...space.front import hypervolume, knee, nondominated
from ...space.genome import Genome
from ...space.latency import Measured
from ...space.objective import Objective, parse_objectives
from ...space.space import Space
from ..asked.baselines import search_baselines
from ..record.facts import CORNERS, HYPERVOLUME, UNTIMED
from ..record.folder import RunFolder
from ..record.journal import CALIBRATION, FOUND, MEMBER, filed_under
from .difference import Difference, compare, joined
from .rows import JUDGED, ORIGINS, Row
from .summary import Summary, summarise
from .timed import broken_budgets

SAME = 1.01
"""Measured latencies up to so much above a reference's count as the same: what timings of one model differ by."""
Curve = tuple[tuple[int, int, float], ...]
"""(genomes evaluated, tokens, hypervolume)"""


@dataclass(frozen=True, slots=True)
class Point:
    """A member of the front or a reference beside it.

    Attributes:
        rank: from 1, in the order of the first cost, largest first; those with a `fault` come last.
        values: by objective, on the calibration text; latencies measured where they were (ratio times the dense
            model's entry in the table), costs exact.
        errors: standard errors of the values.
        table: latencies by the table, in nanoseconds.
        fault: why a member is none after all, now that latency is measured; empty for most.
    """

    rank: int
    row: Row
    values: Mapping[str, float]
    errors: Mapping[str, float]
    table: Mapping[str, int]
    measured: Measured | None
    fault: str = ""

    def reliable(self, name: str) -> bool:
        """Whether a latency was timed, and well enough to rank by."""
        ratio = self.measured.ratios.get(name) if self.measured is not None else None
        return ratio is not None and ratio.reliable


@dataclass(frozen=True, slots=True)
class Against:
    """A reference point, and the best member at the same cost or less: their paired difference on held-out text."""

    reference: str
    member: str
    difference: Difference


@dataclass(frozen=True, slots=True)
class FrontSummary:
    """Everything the report of a front shows.

    Attributes:
        others: all evaluated genomes, as rows of objective values.
        corners: the ideal and the worst point, between which the hypervolume is a share.
        table_errors: the table's ratio to dense over the measured one, less 1, by latency, for every model that was
            timed.
    """

    summary: Summary
    verdict: str
    objectives: tuple[Objective, ...]
    members: tuple[Point, ...]
    references: tuple[Point, ...]
    dense: Point
    knee: str
    against: tuple[Against, ...]
    others: tuple[tuple[float, ...], ...]
    corners: tuple[tuple[float, ...], tuple[float, ...]]
    hypervolume: float
    curves: Mapping[str, Curve]
    table_errors: Mapping[str, tuple[float, ...]]
    estimate: bool
    batch: int
    unreliable: tuple[str, ...]
    untimed: Mapping[str, str]


def summarise_front(folder: RunFolder, space: Space) -> FrontSummary | None:
    """Reads a run's journal; None where the search has not finished, or the recipe asks for one plan."""
    journal, objectives = folder.journal, parse_objectives(folder.recipe.objectives)
    corners = journal.of(CORNERS)
    if not objectives or corners is None or FOUND not in journal.choices():
        return None
    if {len(corners["worst"]), len(corners["ideal"])} != {len(objectives)}:
        raise SecateurError(f"{folder.path}: the fact 'corners' of its journal is damaged; restore it from a copy")
    summary = summarise(folder, space)
    evaluations: dict[Genome, list[Evaluation]] = {}
    losses: dict[tuple[str, str], list[Evaluation]] = {}
    for text, evaluation in journal.evaluations():
        losses.setdefault((text, evaluation.key), []).append(evaluation)
        if text == CALIBRATION:
            evaluations.setdefault(evaluation.genome, []).append(evaluation)
    sequences = range(folder.recipe.goal_sequences)
    scored = {genome: _on(parts, sequences) for genome, parts in evaluations.items()}
    points = {
        row.name: _point(space, objectives, row, scored.get(row.genome)) for row in summary.rows if row.name != FOUND
    }
    untimed = _untimed(folder, space, summary)
    candidates = [point for name, point in points.items() if name.startswith(MEMBER)]
    members = _ranked([_faulty(point, space, untimed) for point in candidates], objectives)
    searched = search_baselines(front=True)
    references = tuple(
        point
        for name, point in points.items()
        if not name.startswith(MEMBER) and name not in ORIGINS and name not in searched
    )
    worst, ideal = tuple(corners["worst"]), tuple(corners["ideal"])
    alive = [point for point in members if not point.fault]
    known = [evaluation for evaluation in scored.values() if evaluation is not None and evaluation.status == "ok"]
    against = _against(alive, references, objectives, summary.held_out, losses, space, summary.judged)
    volume = hypervolume([_row_of(point, objectives) for point in alive], worst, ideal) if alive else 0.0
    return FrontSummary(
        summary=summary,
        verdict=_verdict(alive, references, against, objectives, summary),
        objectives=objectives,
        members=members,
        references=references,
        dense=points[summary.rows[-1].name],
        knee=alive[knee([_row_of(point, objectives) for point in alive])].row.name if alive else "",
        against=against,
        others=tuple(tuple(objective.of(one) for objective in objectives) for one in known),
        corners=(ideal, worst),
        hypervolume=volume,
        curves={
            name: tuple((int(e), int(t), float(v)) for e, t, v in journal.of(HYPERVOLUME, name) or ())
            for name in (FOUND, *searched)
            if journal.of(HYPERVOLUME, name)
        },
        table_errors=_table_errors([*members, *references], points[summary.rows[-1].name]),
        estimate=space.latency is not None and space.latency.estimate,
        batch=space.latency.workload.batch if space.latency is not None else 1,
        unreliable=tuple(
            point.row.name
            for point in (*members, *references)
            if point.measured is not None and any(o.is_latency and not point.reliable(o.name) for o in objectives)
        ),
        untimed=untimed,
    )


def _untimed(folder: RunFolder, space: Space, summary: Summary) -> dict[str, str]:
    """Why there is no time of a plan, by its name."""
    reasons = {row.name: folder.journal.of(UNTIMED, space.key(row.genome)) for row in summary.rows}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def _faulty(point: Point, space: Space, untimed: Mapping[str, str]) -> Point:
    """The member with its fault: it could not be timed, or breaks a budget on latency as measured."""
    if point.row.name in untimed:
        return replace(point, fault="not timed")
    broken = broken_budgets(space, point.measured)
    return replace(point, fault=f"over {', '.join(broken)} as measured") if broken else point


def _on(parts: list[Evaluation], sequences: range) -> Evaluation | None:
    """What is known of a genome on exactly these sequences; None when that is not all of them."""
    whole = joined([part for part in parts if part.sequences.start < sequences.stop])
    return whole if whole is not None and whole.sequences == sequences else None


def _point(space: Space, objectives: Sequence[Objective], row: Row, scored: Evaluation | None) -> Point:
    values: dict[str, float] = {}
    errors: dict[str, float] = {}
    measured = row.measured
    for objective in objectives:
        ratio = measured.ratios.get(objective.name) if measured is not None else None
        if ratio is not None and ratio.reliable:
            dense = getattr(space.dense_costs, objective.name)
            values[objective.name], errors[objective.name] = ratio.median * dense, ratio.spread / 1.96 * dense
        elif objective.is_cost:
            values[objective.name], errors[objective.name] = float(row.costs[objective.name]), 0.0
        elif scored is not None:
            values[objective.name], errors[objective.name] = objective.of(scored), objective.error(scored)
    table = {name: row.costs[name] for name in LATENCIES if name in row.costs}
    return Point(0, row, values, errors, table, measured)


def _row_of(point: Point, objectives: Sequence[Objective]) -> list[float]:
    return [point.values[objective.name] for objective in objectives]


def _ranked(points: list[Point], objectives: Sequence[Objective]) -> tuple[Point, ...]:
    """Largest first, those with a fault last; that others dominate it as measured is one too."""
    sound = [point for point in points if not point.fault]
    alive = set(nondominated([_row_of(point, objectives) for point in sound]))
    judged = [point for point in points if point.fault]
    judged += [
        point if index in alive else replace(point, fault="dominated as measured") for index, point in enumerate(sound)
    ]
    first = next((objective.name for objective in objectives if objective.is_cost), objectives[0].name)
    judged.sort(key=lambda point: (bool(point.fault), -point.values[first]))
    return tuple(replace(point, rank=rank) for rank, point in enumerate(judged, start=1))


def _against(
    members: Sequence[Point],
    references: Sequence[Point],
    objectives: Sequence[Objective],
    held_out: tuple[str, ...],
    losses: Mapping[tuple[str, str], list[Evaluation]],
    space: Space,
    judged: str,
) -> tuple[Against, ...]:
    """Each reference against the member of least calibration loss among those that cost no more.

    Chosen on calibration text, so that the held-out difference is not that of the luckiest.
    """
    costs = [objective.name for objective in objectives if objective.is_cost]
    score = next(objective.name for objective in objectives if not objective.is_cost)

    def no_more(member: Point, reference: Point, cost: str) -> bool:
        slack = SAME if member.reliable(cost) and reference.reliable(cost) else 1.0
        return member.values[cost] <= slack * reference.values[cost]

    def held(point: Point) -> list[Evaluation | None]:
        key = space.key(point.row.genome)
        return [joined(losses.get((filed_under(text, judged), key), [])) for text in held_out]

    found = []
    for reference in references:
        cheaper = [p for p in members if all(no_more(p, reference, cost) for cost in costs)]
        if not cheaper or not held_out:
            continue
        best = min(cheaper, key=lambda point: point.values[score])
        difference = compare(held(best), held(reference), judged)
        if difference is not None:
            found.append(Against(reference.row.name, best.row.name, difference))
    return tuple(found)


def line_of(name: str) -> str:
    """The rule that a reference is a size of."""
    return name.rpartition("-")[0] or name


def _verdict(
    members: Sequence[Point],
    references: Sequence[Point],
    against: Sequence[Against],
    objectives: Sequence[Objective],
    summary: Summary,
) -> str:
    """The first line of the report."""
    if not members:
        return "No front found: nothing besides the dense model is left that keeps the budgets."
    count = f"{len(members)} plans on the front"
    if not summary.held_out:
        return f"{count}, not confirmed: the recipe names no held-out text, so nothing is claimed."
    if not references:
        return f"{count}, not compared: the run has no reference line."
    if not against:
        return f"{count}, not compared: every reference costs less than every member, or has no held-out score."
    parts = []
    for name in dict.fromkeys(line_of(reference.row.name) for reference in references):
        ours = [one for one in against if line_of(one.reference) == name]
        better = sum(one.difference.better for one in ours)
        worse = sum(one.difference.low > 0 for one in ours)
        total = sum(line_of(reference.row.name) == name for reference in references)
        rest = "" if total == len(ours) else f", {total - len(ours)} cheaper than every member"
        parts.append(f"better than {name} at {better} of {total} sizes, worse at {worse}{rest}")
    costs = " and ".join(objective.name for objective in objectives if objective.is_cost) or "cost"
    near = " (to 1 %, as measured)" if any(member.measured for member in members) else ""
    label = JUDGED.get(summary.judged, summary.judged)
    return (
        f"{count}; at the same {costs}{near} or less, held-out {label} is {'; '.join(parts)} (paired 95 % intervals)."
    )


def _table_errors(points: Sequence[Point], dense: Point) -> dict[str, tuple[float, ...]]:
    """The table's ratio to dense over the measured one, less 1."""
    return {
        name: tuple(
            float(np.round(point.table[name] / dense.table[name] / point.measured.ratios[name].median - 1, 6))
            for point in points
            if point.reliable(name) and point.measured is not None and dense.table.get(name)
        )
        for name in LATENCIES
        if any(point.reliable(name) for point in points)
    }

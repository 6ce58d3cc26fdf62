"""Several runs of one problem side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from ...space.errors import SecateurError
from ...space.evaluation import Evaluation
from ...space.front import hypervolume, nondominated
from ...space.scores import HELD_OUT_SCORES, always_scored
from ...space.space import Space
from ..record.facts import MODEL, TEXTS
from ..record.folder import RunFolder
from ..record.journal import CALIBRATION, FOUND
from .charts import styled
from .difference import Difference, compare, joined
from .front import FrontSummary, Point, summarise_front
from .page import Chart, Page, rendered
from .rows import Row, mean_held_out
from .summary import summarise


@dataclass(frozen=True, slots=True)
class Compared:
    """One of the runs.

    Attributes:
        name: of its folder.
        strategy: with its seed.
        evaluations, tokens: that its search spent.
        members: of its front; 1 for a run for one plan.
        volume: hypervolume on the calibration text, as a share of the box that all runs share; None for one plan.
        held_volume: the same with a held-out score in the place of calibration's.
        shared: how many of its members no other run's members dominate.
        loss: of the found plan on held-out text; None for fronts.
        difference: found plan minus the first run's, paired; None for fronts and the first run.
        score: which one that is, on held-out text.
    """

    name: str
    strategy: str
    evaluations: int
    tokens: int
    members: int
    volume: float | None = None
    held_volume: float | None = None
    shared: int | None = None
    loss: float | None = None
    difference: Difference | None = None
    score: str = HELD_OUT_SCORES[0]


def compare_runs(runs: Sequence[tuple[RunFolder, Space]]) -> list[Compared]:
    """Compares finished runs.

    Costs count relative to each run's dense model, since latency tables of two runs differ; the box of the hypervolume
    reaches to the worst reference of all runs.

    Raises:
        SecateurError: fewer than two runs, one that has not finished, or runs of different problems.
    """
    if len(runs) < 2:
        raise SecateurError("compare: name at least two runs")
    first = runs[0][0]
    for folder, _ in runs:
        if FOUND not in folder.journal.choices():
            raise SecateurError(f"{folder.path}: has not finished; 'secateur resume {folder.path}' goes on")
        for what, (mine, others) in _problem(folder, first).items():
            if mine != others:
                raise SecateurError(f"{folder.path}: another problem than {first.path}: {what} {mine}, not {others}")
    if not first.recipe.objectives:
        return _plans(runs)
    fronts = []
    for folder, space in runs:
        front = summarise_front(folder, space)
        if front is None:
            raise SecateurError(f"{folder.path}: has not finished; 'secateur resume {folder.path}' goes on")
        fronts.append(front)
    return _fronts(runs, fronts)


def _problem(folder: RunFolder, first: RunFolder) -> dict[str, tuple[object, object]]:
    def identity(one: RunFolder) -> dict[str, object]:
        texts = one.journal.of(TEXTS) or {}
        latency, sequences = one.recipe.latency, one.recipe.strategy.compared()
        return {
            "model": one.journal.of(MODEL),
            "texts": {title: text["digest"] for title, text in texts.items()},
            "objectives": one.recipe.objectives,
            "score": one.recipe.score,
            "sequences": sequences if one.recipe.objectives else None,
            "budgets": one.recipe.budgets,
            "latency": (latency.device, latency.batch, latency.prefill, latency.decode) if latency else None,
        }

    mine, others = identity(folder), identity(first)
    return {what: (mine[what], others[what]) for what in mine}


def relative(front: FrontSummary, point: Point) -> list[float]:
    """Objective values with costs relative to the dense model."""
    return [
        point.values[o.name] / front.summary.dense_costs[o.name] if o.is_cost else point.values[o.name]
        for o in front.objectives
    ]


def _corners(fronts: Sequence[FrontSummary]) -> tuple[list[float], list[float]]:
    def scaled(front: FrontSummary, values: Sequence[float]) -> list[float]:
        pairs = zip(front.objectives, values, strict=True)
        return [v / front.summary.dense_costs[o.name] if o.is_cost else v for o, v in pairs]

    ideal = np.min([scaled(front, front.corners[0]) for front in fronts], axis=0).tolist()
    return ideal, np.max([scaled(front, front.corners[1]) for front in fronts], axis=0).tolist()


def _fronts(runs: Sequence[tuple[RunFolder, Space]], fronts: Sequence[FrontSummary]) -> list[Compared]:
    ideal, worst = _corners(fronts)
    rows = [[relative(front, point) for point in front.members if not point.fault] for front in fronts]
    together = [row for one in rows for row in one]
    kept = {tuple(together[index]) for index in nondominated(together)} if together else set()
    found = []
    for (folder, _), front, mine in zip(runs, fronts, rows, strict=True):
        choice = folder.journal.choices()[FOUND]
        held = [_held(front, point) for point in front.members if point.row.scores]
        known = [row for row in held if row is not None]
        found.append(
            Compared(
                name=folder.path.name,
                strategy=_strategy(folder),
                evaluations=choice.evaluations,
                tokens=choice.tokens,
                members=len(mine),
                volume=hypervolume(mine, worst, ideal) if mine else 0.0,
                held_volume=hypervolume(known, worst, ideal) if known else None,
                shared=sum(tuple(row) in kept for row in mine),
                score=_score(front),
            )
        )
    return found


def _score(front: FrontSummary) -> str:
    """Of those that every plan has on held-out text, the one that the front is of, or the first."""
    judged, always = front.summary.judged, front.summary.always
    return judged if judged in always else always[0]


def _held(front: FrontSummary, point: Point) -> list[float] | None:
    """The values of a member with a held-out score in the place of calibration's; None where there is none."""
    held_out, score = front.summary.held_out, _score(front)
    if not held_out or score not in point.values or any(text not in point.row.scores for text in held_out):
        return None
    values = dict(zip((o.name for o in front.objectives), relative(front, point), strict=True))
    return list((values | {score: mean_held_out(point.row, held_out, score)}).values())


def _strategy(folder: RunFolder) -> str:
    return f"{folder.recipe.strategy.name}, seed {folder.recipe.seed}"


def _plans(runs: Sequence[tuple[RunFolder, Space]]) -> list[Compared]:
    def held(folder: RunFolder, space: Space) -> tuple[Row, list[Evaluation | None]]:
        row = summarise(folder, space).rows[0]
        texts = [text.title for text in folder.recipe.held_out]
        parts: dict[str, list[Evaluation]] = {}
        for text, evaluation in folder.journal.evaluations():
            if evaluation.key == space.key(row.genome) and text != CALIBRATION:
                parts.setdefault(text, []).append(evaluation)
        return row, [joined(parts.get(text, [])) for text in texts]

    _, reference = held(*runs[0])
    score, _ = always_scored(runs[0][1].anatomy)
    found = []
    for number, (folder, space) in enumerate(runs):
        row, evaluations = held(folder, space)
        texts = tuple(text.title for text in folder.recipe.held_out)
        found.append(
            Compared(
                name=folder.path.name,
                strategy=_strategy(folder),
                evaluations=row.evaluations,
                tokens=row.tokens,
                members=1,
                score=score,
                loss=mean_held_out(row, texts, score) if texts else None,
                difference=compare(evaluations, reference, score) if number else None,
            )
        )
    return found


def comparison_page(runs: Sequence[tuple[RunFolder, Space]]) -> str:
    """The fronts of the runs in one interactive, self-contained page; raises SecateurError for runs of one plan."""
    pieces = []
    for folder, space in runs:
        front = summarise_front(folder, space)
        if front is None:
            raise SecateurError(f"{folder.path}: a page needs fronts; the recipe asks for one plan")
        pieces.append((folder, front))
    objectives = pieces[0][1].objectives
    costs = [index for index, objective in enumerate(objectives) if objective.is_cost] or [1]
    score = next(index for index, objective in enumerate(objectives) if not objective.is_cost)
    figure = go.Figure()
    for folder, front in pieces:
        rows = sorted(relative(front, point) for point in front.members if not point.fault)
        rows.sort(key=lambda row: row[costs[0]])
        figure.add_scatter(
            x=[row[costs[0]] for row in rows],
            y=[row[score] for row in rows],
            mode="lines+markers" if len(objectives) == 2 else "markers",
            line={"shape": "hv"},
            name=f"{folder.path.name} ({_strategy(folder)})",
        )
    styled(figure, height=520)
    figure.update_xaxes(title_text=f"{objectives[costs[0]].name} of dense")
    figure.update_yaxes(title_text=objectives[score].name)
    note = "Calibration text; costs relative to the dense model. A click on a run's name in the legend hides it."
    title = "Fronts of several runs"
    names = ", ".join(folder.path.name for folder, _ in pieces)
    return rendered(
        Page(
            title, f"Runs {names}.", f"{len(pieces)} runs of one problem.", (), [Chart(title, "fronts", figure, [note])]
        )
    )

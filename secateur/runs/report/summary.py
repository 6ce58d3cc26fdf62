"""What a run says, as plain values: computed from recipe, journal and space alone."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ...plans.plan import Score
from ...space.evaluation import Evaluation, mean_and_error
from ...space.genome import Genome
from ...space.latency import Measured, measured_from_json
from ...space.space import Space
from ..asked.baselines import search_baselines
from ..record.facts import MEASURED, RANKS, SELECTION, SKIPPED
from ..record.folder import RunFolder
from ..record.journal import CALIBRATION, FOUND, HELD_OUT_SCORES, OWN_SCORES, UNTRAINED, filed_under
from .difference import Difference, compare, joined
from .source import source_notes
from .tasks import task_grid
from .timed import latency_notes, missed
from .training import training_notes

JUDGED = {"kl": "KL", "cross_entropy": "loss"}
"""What scores of every held-out text are called; both are in nats per token."""
KIN = 3
"""Genes by which a plan may differ from a published rule's and still be called its kin."""
TOLERANCE = 0.002
"""Share of a budget that a baseline may leave and still count."""


@dataclass(frozen=True, slots=True)
class Row:
    """One plan of the comparison.

    Attributes:
        scores: by text and score.
        against: compares `found` with it on all held-out sequences together.
        slack: it ends so far below every budget that the comparison would not be fair.
        measured: its latency end to end, where it was timed.
    """

    name: str
    genome: Genome
    costs: Mapping[str, int]
    scores: Mapping[str, Mapping[str, Score]]
    tokens: int
    evaluations: int
    seconds: float
    against: Difference | None
    slack: bool = False
    measured: Measured | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything a report shows.

    Attributes:
        finished: every choice has been confirmed on every held-out text.
        judged: the score that plans are compared by on held-out text.
        kin: that what was found is a published rule's plan but for a few genes; empty where it is not.
    """

    verdict: str
    rows: tuple[Row, ...]
    dense_costs: Mapping[str, int]
    held_out: tuple[str, ...]
    skipped: Mapping[str, str]
    failures: tuple[str, ...]
    evaluations: int
    tokens: int
    layer_passes: int
    seconds: float
    finished: bool
    latency: tuple[str, ...] = ()
    model: str = ""
    training: tuple[str, ...] = ()
    tasks: tuple[tuple[str, ...], ...] = ()
    source: tuple[str, ...] = ()
    judged: str = HELD_OUT_SCORES[0]
    kin: str = ""

    @property
    def slack(self) -> str:
        """Which rows the verdict leaves out, in a sentence; empty where it counts all."""
        names = ", ".join(row.name for row in self.rows if row.slack)
        return (
            f"Left out of the verdict, since they keep less than the budgets and the found plan: {names}."
            if names
            else ""
        )


Losses = dict[tuple[str, str], list[Evaluation]]


def summarise(folder: RunFolder, space: Space) -> Summary:
    """Reads a run's journal; works on an unfinished run with what is there."""
    held_out = tuple(text.title for text in folder.recipe.held_out)
    losses: Losses = {}
    every: list[Evaluation] = []
    for text, evaluation in folder.journal.evaluations():
        every.append(evaluation)
        losses.setdefault((text, evaluation.key), []).append(evaluation)
    choices = folder.journal.choices()
    found = choices.get(FOUND)
    names = [FOUND, *(name for name in choices if name != FOUND)] if found else list(choices)
    judged = _judged(folder.recipe.scores[0], held_out, losses)
    rows = [
        _row(name, choices[name].genome, folder, space, losses, held_out, judged, found.genome if found else None)
        for name in names
    ]
    rows.append(_row("dense", space.dense, folder, space, losses, held_out, judged, None))
    return Summary(
        verdict=_verdict(rows, held_out, "before its training " if folder.journal.of(SELECTION) else "", judged)
        + (missed(space, rows[0].measured) if found is not None else ""),
        rows=tuple(rows),
        dense_costs=space.dense_costs.to_json(),
        held_out=held_out,
        skipped=folder.recipe.idle_baselines()
        | {
            name: reason
            for name in (*folder.recipe.wanted_baselines(), *folder.recipe.peers)
            if (reason := folder.journal.of(SKIPPED, name)) is not None
        },
        failures=tuple(dict.fromkeys(e.reason for e in every if e.status == "failed")),
        evaluations=len(every),
        tokens=sum(e.tokens for e in every),
        layer_passes=sum(e.layer_passes for e in every),
        seconds=sum(e.seconds for e in every),
        latency=latency_notes(space, [(row.name, row.measured) for row in rows if row.measured is not None]),
        model=_model_note(folder),
        training=training_notes(folder, space, losses, held_out),
        tasks=task_grid(folder, space, {row.name: row.genome for row in rows}),
        source=source_notes(folder, space),
        finished=found is not None and all("kl" in row.scores.get(text, ()) for row in rows for text in held_out),
        judged=judged,
        kin=""
        if folder.recipe.objectives
        else _kin(rows, {UNTRAINED, "dense", *search_baselines(), *folder.recipe.peers}, len(space.genes)),
    )


def _kin(rows: Sequence[Row], others: Collection[str], genes: int) -> str:
    """What is said of a found plan that is nearly that of a published rule; `others`: rows that are of none."""
    if not rows or rows[0].name != FOUND:
        return ""
    rules = [row for row in rows[1:] if row.name not in others and row.genome != rows[0].genome]
    changes = {row.name: len(rows[0].genome.changed(row.genome)) for row in rules}
    nearest = min(changes, key=lambda name: changes[name], default="")
    if not nearest or not 0 < changes[nearest] <= KIN:
        return ""
    return f"The found plan is {nearest}'s but for {changes[nearest]} of {genes} genes."


def _judged(score: str, held_out: tuple[str, ...], losses: Losses) -> str:
    """The score that was searched by, where held-out text has all been scored by it; else the one that all is."""
    for text in held_out:
        keys = [key for filed, key in losses if filed == text]
        parts = [part for key in keys for part in losses.get((filed_under(text, score), key), [])]
        if len(parts) < len(keys) or any(score not in part.losses for part in parts):
            return HELD_OUT_SCORES[0]
    return score if held_out else HELD_OUT_SCORES[0]


def _row(
    name: str,
    genome: Genome,
    folder: RunFolder,
    space: Space,
    losses: Losses,
    held_out: tuple[str, ...],
    judged: str,
    found: Genome | None,
) -> Row:
    key = space.key(genome)
    choice = folder.journal.choices().get(name)
    scores = {}
    for text in (CALIBRATION, *held_out):
        evaluation = joined(losses.get((text, key), []))
        if evaluation is None:
            continue
        own = joined(losses.get((text + OWN_SCORES, key), []))
        values_by_score = dict(evaluation.losses) | dict(own.losses if own is not None else {})
        scores[text] = {score: _score(values) for score, values in values_by_score.items()}
    against = None
    if found is not None and name != FOUND:
        against = compare(
            [joined(losses.get((filed_under(text, judged), space.key(found)), [])) for text in held_out],
            [joined(losses.get((filed_under(text, judged), key), [])) for text in held_out],
            judged,
        )
    return Row(
        name,
        genome,
        space.costs(genome).to_json(),
        scores,
        choice.tokens if choice else 0,
        choice.evaluations if choice else 0,
        choice.seconds if choice else 0.0,
        against,
        name not in (FOUND, "dense") and found is not None and _has_slack(space, genome, found),
        measured_of(folder, space, genome),
    )


def _has_slack(space: Space, genome: Genome, found: Genome) -> bool:
    """Whether a genome leaves of every budget more than `TOLERANCE` that the found one uses up."""
    mine, best = space.costs(genome), space.costs(found)
    return bool(space.budgets) and all(
        budget.of(mine) < budget.of(best) - TOLERANCE * budget.limit for budget in space.budgets
    )


def _score(values: tuple[float, ...]) -> Score:
    mean, error = mean_and_error(values)
    return Score(mean=mean, standard_error=error, sequences=len(values))


def mean_held_out(row: Row, held_out: tuple[str, ...], score: str = HELD_OUT_SCORES[0]) -> float:
    """Mean of a score over all sequences of held-out text; infinity when it has not been scored."""
    parts = [row.scores[text][score] for text in held_out if score in row.scores.get(text, ())]
    if len(parts) < len(held_out) or not parts:
        return math.inf
    return sum(p.mean * p.sequences for p in parts) / sum(p.sequences for p in parts)


def _verdict(rows: list[Row], held_out: tuple[str, ...], when: str, judged: str) -> str:
    """The first line of every report; `when` says of which weights."""
    if not rows or rows[0].name != FOUND:
        return "No plan found yet: the search has not finished."
    if not held_out:
        return "Not confirmed: the recipe names no held-out text, so nothing is claimed."
    baselines = [row for row in rows if row.name not in (FOUND, UNTRAINED, "dense")]
    if not math.isfinite(mean_held_out(rows[0], held_out, judged)):
        return "Not confirmed yet: the found plan has not been scored on held-out text."
    scored = [row for row in baselines if row.against is not None and not row.slack]
    if not scored and any(row.slack for row in baselines):
        return (
            "Not compared, since the sides are unequal: every baseline keeps less than the budgets and the found plan. "
            "Searched baselines, such as greedy and random, use budgets up."
        )
    if not scored:
        return "Not compared: the run has no baseline that was scored on held-out text."
    best = min(scored, key=lambda row: mean_held_out(row, held_out, judged))
    assert best.against is not None
    d = best.against
    unit = " nats per token" if judged in JUDGED else ""
    numbers = f"{JUDGED.get(judged, judged)} {d.mean:+.4f}{unit}, 95 % interval [{d.low:+.4f}, {d.high:+.4f}]"
    numbers += f", {d.sequences} sequences"
    if d.better:
        return f"The found plan {when}beats the best baseline ({best.name}) on held-out text: {numbers}."
    if best.genome == rows[0].genome:
        return f"The found plan is that of the best baseline ({best.name}); the search has found nothing better."
    return f"The found plan {when}does NOT beat the best baseline ({best.name}) on held-out text: {numbers}."


def measured_of(folder: RunFolder, space: Space, genome: Genome) -> Measured | None:
    """The time of a genome as a whole model; None where it has not been taken."""
    values = folder.journal.of(MEASURED, space.key(genome))
    return measured_from_json(values) if values is not None else None


def _model_note(folder: RunFolder) -> str:
    """How well a strategy's model ranked its candidates; empty for strategies without one."""
    ranks = folder.journal.of(RANKS, FOUND) or ()
    if not ranks:
        return ""
    values = sorted(float(value) for *_, value in ranks)
    return (
        f"The model of the loss ranked candidates with a Spearman correlation of {values[len(values) // 2]:.2f} in the "
        f"median, {float(ranks[-1][-1]):.2f} at the end; where it is poor, most candidates come from mutation."
    )

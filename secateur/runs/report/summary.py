"""What a run says, as plain values: computed from recipe, journal and space alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ...plans.plan import Score
from ...space.evaluation import Evaluation, mean_and_error
from ...space.genome import Genome
from ...space.latency import Measured, measured_from_json
from ...space.scores import HELD_OUT_SCORES, always_scored
from ...space.space import Space
from ..asked.baselines import search_baselines
from ..record.facts import MEASURED, RANKS, SELECTION, SKIPPED, TEXTS
from ..record.folder import RunFolder
from ..record.journal import CALIBRATION, FOUND, OWN_SCORES, UNTRAINED, filed_under
from .difference import compare, joined
from .limits import limit_lines
from .rows import JUDGED, ORIGINS, Row, origin_of
from .source import source_notes
from .tasks import task_grid
from .timed import latency_notes, missed
from .training import training_notes
from .validation import validation_note
from .verdict import by_domain, kin, smallest, verdict, with_broken

PART = "calibration: "
"""Before the name of each text of a mixture that is scored on."""
TOLERANCE = 0.002
"""Share of a budget that a baseline may leave and still count."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything a report shows.

    Attributes:
        finished: every choice has been confirmed on every held-out text.
        judged: the score that plans are compared by on held-out text.
        always: what every plan of this model is scored on there.
        validation: what was found comes to on text that was kept from its search; empty where none was.
        domains: how what was found compares with the best baseline on each held-out text, where there are several.
        mixture: what was found comes to on each of the texts that calibration mixes; empty where it is one text.
        limits: which plans keep the budgets on scores, a line for each.
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
    always: tuple[str, str] = HELD_OUT_SCORES
    validation: str = ""
    domains: str = ""
    mixture: str = ""
    limits: tuple[str, ...] = ()
    kin: str = ""

    @property
    def told(self) -> tuple[str, ...]:
        """What is to be said of the found plan besides the verdict, a line each."""
        return tuple(filter(None, (*self.limits, self.domains, self.validation, self.mixture, self.kin, self.model)))

    @property
    def slack(self) -> str:
        """Which rows the verdict leaves out, in a sentence; empty where it counts all."""
        reasons = {
            "keep less than the budgets and the found plan": [row.name for row in self.rows if row.slack],
            "do not keep the budgets on scores there": [row.name for row in self.rows if row.broken and not row.slack],
        }
        told = [f"{why}: {', '.join(names)}" for why, names in reasons.items() if names]
        return f"Left out of the verdict, since they {'; or '.join(told)}." if told else ""


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
    always = always_scored(space.anatomy)
    judged = _judged(folder.recipe.scores[0], held_out, losses, always[0])
    rows = [
        _row(name, choices[name].genome, folder, space, losses, held_out, judged, found.genome if found else None)
        for name in names
    ]
    rows.append(_row(origin_of(folder.recipe), space.dense, folder, space, losses, held_out, judged, None))
    rows = with_broken(folder.recipe, rows, held_out)
    if folder.recipe.smallest:
        # Of other sizes: their losses are not compared.
        rows = [replace(row, against=None, broken=False, by_text={}) for row in rows]
        told = smallest(folder.recipe, rows, held_out)
    else:
        told = verdict(rows, held_out, "before its training " if folder.journal.of(SELECTION) else "", judged)
    return Summary(
        verdict=told + (missed(space, rows[0].measured) if found is not None else ""),
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
        finished=found is not None and all(always[0] in row.scores.get(text, ()) for row in rows for text in held_out),
        judged=judged,
        always=always,
        validation=validation_note(folder, losses.get((CALIBRATION, space.key(found.genome)), []))
        if found is not None
        else "",
        domains=by_domain(rows, held_out, judged),
        mixture=_mixture(rows[0], judged),
        limits=limit_lines(
            folder.recipe.limits, [(row.name, row.scores) for row in rows if row.name not in ORIGINS], rows[-1].scores
        ),
        kin=""
        if folder.recipe.objectives
        else kin(rows, {UNTRAINED, *ORIGINS, *search_baselines(), *folder.recipe.peers}, len(space.genes)),
    )


def _judged(score: str, held_out: tuple[str, ...], losses: Losses, otherwise: str) -> str:
    """The score that was searched by, where held-out text has all been scored by it; else the one that all is."""
    for text in held_out:
        keys = [key for filed, key in losses if filed == text]
        parts = [part for key in keys for part in losses.get((filed_under(text, score), key), [])]
        if len(parts) < len(keys) or any(score not in part.losses for part in parts):
            return otherwise
    return score if held_out else otherwise


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
        if text == CALIBRATION:
            scores |= _by_part(folder, losses[text, key])
    against, by_text = None, {}
    if found is not None and name != FOUND:
        pairs = {
            text: tuple(joined(losses.get((filed_under(text, judged), one), [])) for one in (space.key(found), key))
            for text in held_out
        }
        against = compare([mine for mine, _ in pairs.values()], [other for _, other in pairs.values()], judged)
        alone = {text: compare([mine], [other], judged) for text, (mine, other) in pairs.items()}
        by_text = {text: difference for text, difference in alone.items() if difference is not None}
    return Row(
        name,
        genome,
        space.costs(genome).to_json(),
        scores,
        choice.tokens if choice else 0,
        choice.evaluations if choice else 0,
        choice.seconds if choice else 0.0,
        against,
        slack=name not in (FOUND, *ORIGINS) and found is not None and _has_slack(space, genome, found),
        measured=measured_of(folder, space, genome),
        by_text=by_text,
    )


def _by_part(folder: RunFolder, evaluations: Sequence[Evaluation]) -> dict[str, dict[str, Score]]:
    """Of a mixture, the scores on each of its texts, as far as it was scored on them."""
    noted = folder.journal.of(TEXTS)
    parts = noted[CALIBRATION].get("parts", []) if noted is not None else []
    found: dict[str, dict[str, list[float]]] = {}
    for one in evaluations if parts else ():
        for score, values in one.losses.items():
            for sequence, value in zip(one.sequences, values, strict=True):
                found.setdefault(PART + parts[sequence], {}).setdefault(score, []).append(value)
    return {
        part: {score: _score(tuple(values)) for score, values in by_score.items()} for part, by_score in found.items()
    }


def _mixture(row: Row, judged: str) -> str:
    """What a plan comes to on each text of a mixture; empty where calibration is none."""
    told = [
        f"{name.removeprefix(PART)} {scores[judged].mean:.4f} ({scores[judged].sequences} sequences)"
        for name, scores in row.scores.items()
        if name.startswith(PART) and judged in scores
    ]
    called = JUDGED.get(judged, judged)
    return f"On the calibration text {row.name} comes to a {called} of {', '.join(told)}." if told else ""


def _has_slack(space: Space, genome: Genome, found: Genome) -> bool:
    """Whether a genome leaves of every budget more than `TOLERANCE` that the found one uses up."""
    mine, best = space.costs(genome), space.costs(found)
    return bool(space.budgets) and all(
        budget.of(mine) < budget.of(best) - TOLERANCE * budget.limit for budget in space.budgets
    )


def _score(values: tuple[float, ...]) -> Score:
    mean, error = mean_and_error(values)
    return Score(mean=mean, standard_error=error, sequences=len(values))


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

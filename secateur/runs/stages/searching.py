"""Runs the searches of a run, and notes what they choose."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ...fitness.bench import Bench
from ...fitness.workers import calls
from ...fitness.workers.team import Team
from ...search.archive import Archive, Goal
from ...search.limited import Limited, settled
from ...search.loop import Allowance, Spending, Step, run
from ...search.memo import Memo
from ...search.steps import AskTell, Batch, Pool, Steps
from ...search.validated import Validated, as_good
from ...space.errors import SecateurError
from ...space.evaluation import Evaluation
from ...space.front import knee, thinned
from ...space.genome import Genome
from ...space.limits import Limit
from ...space.scores import SCORES
from ...space.space import Space
from ..asked.recipe import Recipe
from ..problem import asked_problem
from ..record.facts import (
    CORNERS,
    HYPERVOLUME,
    RANKS,
    SEARCHED,
    TOKENS,
    VALIDATION,
    WHOLE,
    CornersFact,
    ValidationFact,
)
from ..record.folder import RunFolder
from ..record.journal import CALIBRATION, FOUND, MEMBER, Choice, Journal, Turn
from ..watcher import Watcher
from .replay import is_searched
from .starts import from_files, starting
from .trained import note_training

WINDOW = 6
"""Batches over which tokens a second are counted."""


@dataclass
class Execution:
    """A run being carried out: what `execute` keeps in hand."""

    folder: RunFolder
    space: Space
    bench: Bench
    watcher: Watcher
    memo: Memo
    pool: Pool
    goal: Goal | None = None
    team: Team | None = None

    @property
    def recipe(self) -> Recipe:
        """The run's recipe."""
        return self.folder.recipe


class Pace:
    """Tokens a second over the last batches, so that what a journal answers at once is soon forgotten."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: deque[tuple[float, int]] = deque([(clock(), 0)], maxlen=WINDOW)

    def at(self, tokens: int) -> float:
        """Notes that so many tokens are behind; how many a second that makes, 0 where no time has passed."""
        self._last.append((self._clock(), tokens))
        (before, first), (now, last) = self._last[0], self._last[-1]
        return (last - first) / (now - before) if now > before else 0.0


def in_words(values: Mapping[str, float]) -> str:
    """What a search has come to (see `watcher.Progress.values`), in a few words."""
    words = []
    if "loss" in values:
        beside = f" (rules {values['baseline']:.4f})" if "baseline" in values else ""
        words.append(f"best {values['loss']:.4f} on {values['sequences']:.0f} sequences{beside}")
    if "of dense" in values:
        words.append(f"smallest {values['of dense']:.3f} of dense")
    elif "front" in values:
        words.append(f"{values['front']:.0f} on the front, hypervolume {values['hypervolume']:.4f}")
    if "rank_correlation" in values:
        words.append(f"rank correlation {values['rank_correlation']:.2f}")
    if "tokens_per_second" in values:
        words.append(f"{values['tokens_per_second']:,.0f} tokens/s")
    return ", ".join(words)


def search_as(
    execution: Execution,
    name: str,
    title: str,
    steps: Steps,
    allowance: Allowance,
    beside: Sequence[Genome] = (),
) -> Archive | None:
    """Runs a strategy as `name` and notes its choice; for a front, the knee. Returns what a front was made from.

    `beside`: genomes by rules, whose best loss is shown beside the best so far while it lasts.
    """
    pace, journal = Pace(), execution.folder.journal
    spending = Spending(execution.pool.tokens_per_sequence)
    execution.watcher.phase(title, allowance.tokens)
    seconds = 0.0
    archive = archive_of(execution, execution.goal) if execution.goal is not None else None
    curve: list[tuple[int, int, float]] = []
    known: dict[Genome, tuple[float, int]] = {}
    over: dict[Genome, tuple[int, float]] = {}
    kept: list[Genome] = []
    goal, limits, dense = execution.goal, execution.recipe.limits, execution.space.dense
    judged = Limited(execution.memo, dense, limits)
    timed: set[tuple[Genome, range, tuple[float, ...]]] = set()
    ranks: list[tuple[int, int, float]] = []
    measured = {turn.tokens for turn in journal.turns(name)}

    def watch(step: Step) -> None:
        nonlocal seconds
        for evaluation in step.evaluations:
            # After a training it is another evaluation, with other losses.
            told = (evaluation.genome, evaluation.sequences, evaluation.primary)
            if told not in timed:
                timed.add(told)
                seconds += evaluation.seconds
        known.update((one.genome, (one.loss, len(one.sequences))) for one in step.evaluations)
        whole = [one for one in step.evaluations if one.sequences == range(execution.pool.sequences)]
        kept.extend(one.genome for one in whole if one.status == "ok" and one.excess is not None and one.keeps)
        for one in step.evaluations:
            # A race looks at its incumbent on little text again; what was kept from the search decides nothing here.
            longest = len(one.sequences) >= over.get(one.genome, (0, 0.0))[0]
            if one.excess is not None and one.sequences.start == 0 and longest:
                over[one.genome] = len(one.sequences), one.excess
        incumbent = step.incumbent
        values: dict[str, float] = {}
        if archive is not None:
            archive.add(step.evaluations, execution.space.dense)
            incumbent, front = archive.knee(), len(archive.front())
            curve.append((step.spending.evaluations, step.spending.tokens, archive.hypervolume()))
            values = {"front": front, "hypervolume": curve[-1][2]}
            if goal is not None and goal.smallest and incumbent is not None:
                values["of dense"] = share_of(execution.space, incumbent, goal.costs[0])
        elif incumbent is not None and over.get(incumbent, (0, 0.0))[1] > 0:
            incumbent = None
        elif incumbent in known:
            best, compared = known[incumbent]
            values = {"loss": best, "sequences": compared}
            if losses := [known[one][0] for one in beside if one in known and known[one][1] == compared]:
                values["baseline"] = min(losses)
        if step.correlation is not None:
            ranks.append((step.spending.evaluations, step.spending.tokens, step.correlation))
            values["rank_correlation"] = step.correlation
        if rate := pace.at(step.spending.tokens):
            values["tokens_per_second"] = rate
        if values and step.spending.tokens not in measured:  # what is replayed has been measured
            execution.watcher.measured(name, step.spending.tokens, values)
        journal.turn(Turn(name, step.spending.tokens, step.spending.evaluations, incumbent))
        execution.watcher.at(step.spending.tokens, in_words(values))

    incumbent = run(AskTell(steps), judged, spending, allowance, watch)
    if archive is not None and archive.goal.smallest:
        execution.watcher.phase("on all of the calibration text", None)
        incumbent = settled(archive, execution.space, execution.pool, judged, kept)
    elif archive is not None:
        incumbent = archive.knee()
        journal.note(HYPERVOLUME, curve, name)
    elif incumbent is not None and over.get(incumbent, (0, 0.0))[1] > 0:
        raise _nothing_keeps(title, spending, limits, over[incumbent][1])
    if ranks:
        journal.note(RANKS, ranks, name)
    if incumbent is None and over and not any(beyond <= 0 for _, beyond in over.values()):
        raise _nothing_keeps(title, spending, limits, min(beyond for _, beyond in over.values()))
    if incumbent is None:
        told = [one for text, one in journal.evaluations() if text.partition(",")[0] == CALIBRATION]
        failed = [one.reason for one in told if one.status == "failed"]
        why = f"; {len(failed)} evaluations failed, the last one: {failed[-1]}" if failed else ""
        raise SecateurError(
            f"{title}: ended after {spending.tokens:,} tokens without a genome that keeps the budgets{why}; "
            + ("mend what fails, or " if failed else "")
            + "let it search for longer ('effort', or the strategy's 'schedule')"
        )
    journal.choose(Choice(name, incumbent, spending.tokens, spending.evaluations, seconds))
    return archive


def _nothing_keeps(title: str, spending: Spending, limits: Sequence[Limit], beyond: float) -> SecateurError:
    return SecateurError(
        f"{title}: ended after {spending.tokens:,} tokens, and nothing it came to keeps "
        f"{' and '.join(map(str, limits))} (the nearest is {100 * beyond:.0f} % of the way from dense beyond); raise "
        "that, or the budgets on costs, or let it search for longer"
    )


def share_of(space: Space, genome: Genome, cost: str) -> float:
    """A cost of a genome, relative to the dense model's."""
    value, dense = (getattr(costs, cost) for costs in (space.costs(genome), space.dense_costs))
    return float(value) / max(1, int(dense))


def archive_of(execution: Execution, goal: Goal) -> Archive:
    """An empty archive that knows the dense model, to which all is relative; its evaluation is not the search's.

    Raises:
        SecateurError: the dense model failed, or a reference leaves no room for a front.
    """
    archive, evaluation = Archive(goal), dense_keeps(execution, goal.sequences, execution.recipe.limits)
    archive.add([evaluation], execution.space.dense)
    worst, ideal = goal.worst(evaluation), goal.ideal(evaluation)
    for objective, high, low in zip(goal.objectives, worst, ideal, strict=True):
        if high <= low and not goal.smallest:
            raise SecateurError(f"reference.{objective.name}: {high:g} is not above {low:g}, the best there can be")
    journal = execution.folder.journal
    corners: CornersFact = {"worst": list(worst), "ideal": list(ideal)}
    journal.note(CORNERS, corners)
    return archive


def dense_keeps(execution: Execution, sequences: int, limits: Sequence[Limit]) -> Evaluation:
    """The dense model on the first sequences, which is not the search's.

    Raises:
        SecateurError: it failed, or is itself at one of the limits or over it.
    """
    [evaluation] = execution.memo(Batch((execution.space.dense,), range(sequences)))
    if evaluation.status == "failed":
        raise SecateurError(f"{execution.space.origin} cannot be scored: {evaluation.reason}")
    for limit in limits:
        high, low = limit.value(evaluation), limit.objective.of(evaluation)
        if high <= low:
            raise SecateurError(
                f"budgets.{limit.objective.name}: {high:g}, but {execution.space.origin} has {low:g}; write more"
            )
    return evaluation


def search_found(execution: Execution) -> None:
    """The search that the recipe asks for, unless it has come to its end before."""
    recipe, journal = execution.recipe, execution.folder.journal
    if is_searched(journal):
        return
    tokens = recipe.effort.tokens
    if recipe.effort.minutes is not None:
        if journal.of(TOKENS) is None:
            measured = int(_speed(execution) * 60 * recipe.effort.minutes)
            journal.note(TOKENS, min(measured, tokens or measured))
        tokens = journal.of(TOKENS)
    space, bench, strategy = execution.space, execution.bench, recipe.strategy
    starts = starting(recipe, space, bench, execution.goal) + from_files(strategy.start_names(), space, journal)
    problem, selection = asked_problem(recipe, space, tokens, starts, journal.of(WHOLE) != 0)
    if recipe.validation is not None and selection is None:
        execution.watcher.say("the minutes are too few to choose on text that the search has not seen: it has them all")
    steps, allowance = strategy.steps(problem), problem.allowance
    if selection is not None:
        steps, allowance = selection.steps(steps, allowance), Allowance(tokens)
    # Of other scores a plan may do better than the dense model.
    distances = [one for one in recipe.limits if one.objective.name in SCORES and SCORES[one.objective.name].distance]
    if distances and execution.goal is None:
        dense_keeps(execution, execution.pool.sequences, distances)
    title = f"searching with {recipe.strategy.name}"
    archive = search_as(execution, FOUND, title, steps, allowance, starts)
    if archive is not None and not archive.goal.smallest:
        choose_members(execution, archive)
    if recipe.training is not None:
        assert not isinstance(selection, Validated)
        note_training(recipe, journal, execution.memo, selection)
    if isinstance(selection, Validated):
        note_validation(journal, selection)
    journal.note(SEARCHED, 1)


def note_validation(journal: Journal, selection: Validated) -> None:
    """Notes who were the finalists of the search, and which were as good as the best of them."""
    good = [list(one.genome.levels) for one in as_good(selection.told)]
    values: ValidationFact = {
        "first": selection.used.start,
        "finalists": [list(one.genome.levels) for one in selection.told],
        "good": good,
        "searched": list(selection.searched.levels) if selection.searched is not None else [],
    }
    journal.note(VALIDATION, values)


def _speed(execution: Execution) -> float:
    """Tokens a second, of all workers."""
    team = execution.team
    return execution.bench.tokens_per_second() if team is None else team.count * team.one(calls.speed)


def choose_members(execution: Execution, archive: Archive) -> None:
    """Notes the members of the front that are confirmed and timed: all, or as many as stand for them, and the knee."""
    genomes = [genome for genome in archive.front() if genome != execution.space.dense]
    points = [archive.members[genome] for genome in genomes]
    chosen = thinned(points, execution.recipe.front.members) if genomes else []
    best = knee(points) if genomes else 0
    if chosen and best not in chosen:
        chosen = sorted({*chosen[:-1], best}) if len(chosen) > 1 else [best]
    for number, index in enumerate(chosen, start=1):
        execution.folder.journal.choose(Choice(f"{MEMBER}{number:02d}", genomes[index], 0, 0, 0.0))

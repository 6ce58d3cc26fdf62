"""EvoPress (Sieberling et al. 2024, arXiv 2410.14649): (1 + lambda) evolution by level switches, selected in stages.

As published (commit 50888a0188): one parent, `offspring` children a generation, each made by min(U{1..3}, U{1..3})
level switches; several selection stages, each with more tokens for fewer survivors; the parent competes in the last
stage; every stage draws a fresh random minibatch without replacement that all its candidates share; a random start
drops as many attention sublayers as MLPs. With the same draws it makes the same children and keeps the same survivors
(`tests/search/test_evopress_trace.py`). Here a minibatch is of whole sequences: what a stage's tokens lack to a whole
one is added, where upstream cuts the last one. Further differences, each an option: minibatches may be nested prefixes
of the pool instead (`fresh=False`), so that nothing is computed twice and the parent's losses are free; switches may be
in exact cost units (`mutation="costs"`), so that attention is traded for MLP; the first parent may be given; and
children may race against the parent (`race.race`) instead of being selected in stages.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from ...operators.mutation import switch_costs, switch_levels
from ...operators.rules.table import RULES
from ...operators.sampling import as_many_of_each, on_budget
from ...space.errors import SecateurError
from ...space.evaluation import Evaluation
from ...space.genome import Genome
from ...space.question import Chain
from ...space.settings import Positive, Probability, Settings
from ...space.space import Space
from ..minibatch import minibatch, scored
from ..problem import Problem
from ..race import looks, race
from ..steps import Pool, Steps, best_of
from ..strategy import Strategy
from ..warm import GOOD_RULES, check_initial, check_rules, first, runs_first, warm_start
from .table import AnyStrategy

Mutation = Literal["levels", "costs"]
MUTATIONS = {"levels": switch_levels, "costs": switch_costs}
TRIES = 50
GENERATIONS = 5


class Schedule(Settings):
    """How a search by stages spends its tokens.

    `survivors` and `tokens` have one entry per selection stage.
    """

    generations: Positive
    """How many there are."""
    offspring: Positive
    """Children of each."""
    survivors: tuple[Positive, ...]
    """How many are left after each stage; the last leaves 1."""
    tokens: tuple[Positive, ...]
    """On which each stage scores."""
    first: Positive = 1
    """Random genomes among which the first parent is chosen, on the first stage's tokens, when none is given."""

    @model_validator(mode="after")
    def _stages_fit(self) -> "Schedule":
        if len(self.survivors) != len(self.tokens) or not self.survivors or self.survivors[-1] != 1:
            raise ValueError("survivors and tokens need one entry per stage, and the last survivor is one")
        if list(self.survivors) != sorted(self.survivors, reverse=True) or self.survivors[0] > self.offspring:
            raise ValueError("each stage keeps at most as many as the one before it")
        return self

    def tokens_per_generation(self, fresh: bool = True) -> int:
        """Forwarded by one generation, the parent in the last stage included.

        With nested minibatches a survivor pays only for what a stage adds, and the parent for nothing.
        """
        entrants = (self.offspring, *self.survivors[:-1])
        if fresh:
            return sum(n * t for n, t in zip(entrants, self.tokens, strict=True)) + self.tokens[-1]
        added = (self.tokens[0], *(late - early for early, late in itertools.pairwise(self.tokens)))
        return sum(n * max(0, t) for n, t in zip(entrants, added, strict=True))


PUBLISHED = {
    "published-sparsity": Schedule(generations=400, offspring=64, survivors=(8, 2, 1), tokens=(2048, 16384, 65536)),
    "published-depth": Schedule(generations=160, offspring=32, survivors=(2, 1), tokens=(2048, 32768), first=64),
}
"""The settings of the published scripts (Apache-2.0, commit 50888a0188); depth is for 12 of 32 blocks."""


class Evopress(Strategy):
    """EvoPress's (1 + lambda) evolution by level switches, for one plan."""

    name: Literal["evopress"] = "evopress"
    schedule: Literal["auto", "published-depth", "published-sparsity"] | Schedule = "auto"
    """Sized from the effort, as published, or explicit numbers."""
    mutation: Mutation | None = None
    """Switches of `levels` or of `costs`; null: levels with a published schedule, else costs."""
    minibatches: Literal["fresh", "nested"] | None = None
    """Other text at every stage, or prefixes of one; null: fresh with a published schedule, else nested."""
    initial: tuple[str, ...] = Field(default=("random",), examples=[["uniform"], ["rules", "knapsack"]])
    """Where it starts: `random` genomes, rules of the baselines (`rules`: all good ones that apply), plan files, ours
    or other tools', and `knapsack` or `greedy`, which are run first."""
    warm: AnyStrategy | None = None
    """The settings of those that are run first, which take half of the effort together."""
    race: Probability | None = None
    """Children race against their parent instead of being selected in stages: at most half of them go on after a look,
    and the test loses one that is better than the parent with this probability at most, as far as differences are
    normal and the parent was not lucky on this text; null: none."""

    revision: ClassVar[int] = 2

    @model_validator(mode="after")
    def _settings_fit(self) -> "Evopress":
        check_race(self.race, not self._fresh)
        check_plan_initial(self.initial, self.warm)
        return self

    @property
    def _published(self) -> bool:
        return isinstance(self.schedule, str) and self.schedule in PUBLISHED

    @property
    def _fresh(self) -> bool:
        return (self.minibatches or ("fresh" if self._published else "nested")) == "fresh"

    def _schedule(self) -> Schedule | None:
        """What is set; None where the tokens decide."""
        return PUBLISHED.get(self.schedule) if isinstance(self.schedule, str) else self.schedule

    def check(self, problem: Problem) -> None:
        schedule = self._schedule()
        if schedule is not None:
            stage_sequences(schedule, problem.pool)
        elif problem.allowance.tokens is None and not problem.timed:
            raise SecateurError(
                "effort: schedule 'auto' is sized from effort.tokens or effort.minutes; give one of them"
            )
        check_rules(self.initial, problem.space)
        first(problem, self.name, self.initial, self.warm)

    def expected(self, problem: Problem) -> int | None:
        schedule = self._schedule()
        return None if schedule is None else schedule.generations * schedule.tokens_per_generation(self._fresh)

    def steps(self, problem: Problem) -> Steps:
        space, pool, schedule, fresh, risk = problem.space, problem.pool, self._schedule(), self._fresh, self.race
        mutation: Mutation = self.mutation or ("levels" if self._published else "costs")
        tokens, limited = problem.allowance.tokens, problem.limited

        def then(answers: list[Genome], spent: int) -> Steps:
            sizes = schedule
            if sizes is None:
                assert tokens is not None
                sizes = sized(tokens - spent, pool, fresh)
            starts = [*problem.starts, *answers]
            # Budgets on scores are judged batch by batch.
            return evopress(space, pool, problem.seed, sizes, mutation, fresh, starts, risk, scattered=not limited)

        return warm_start(pool, first(problem, self.name, self.initial, self.warm), then)

    def start_names(self) -> tuple[str, ...]:
        return self.initial

    def warming(self) -> Strategy | None:
        return self.warm


def check_race(risk: float | None, nested: bool) -> None:
    """Raises ValueError for races over minibatches that are drawn anew for each stage."""
    if risk is not None and not nested:
        raise ValueError("race: children are compared on nested prefixes of the text; set minibatches: nested")


def check_plan_initial(names: Sequence[str], warm: Strategy | None) -> None:
    """Raises ValueError for what a search for one plan cannot start from."""
    check_initial(names, warm, ("random", *RULES, GOOD_RULES, *runs_first()))


def sized(tokens: int, pool: Pool, fresh: bool = True) -> Schedule:
    """The default schedule for a search of about `tokens` forwarded tokens on `pool`.

    16 children, the best 4 of them scored again on six times the text, so that most tokens go to candidates and the
    choice between the parent and the best child rests on many. As many sequences a stage, of 8, 4, 2 and 1, as leave
    `GENERATIONS` generations.
    """
    for sequences in (8, 4, 2, 1):
        per_stage = (min(sequences, pool.sequences), min(6 * sequences, pool.sequences))
        tokens_per_stage = tuple(count * pool.tokens_per_sequence for count in per_stage)
        schedule = Schedule(generations=1, offspring=16, survivors=(4, 1), tokens=tokens_per_stage)
        generations = tokens // schedule.tokens_per_generation(fresh)
        if generations >= GENERATIONS:
            break
    return schedule.model_copy(update={"generations": max(1, generations)})


def stage_sequences(schedule: Schedule, pool: Pool) -> tuple[int, ...]:
    """Sequences of each stage; raises SecateurError when a stage asks for more text than the pool has."""
    if max(schedule.tokens) > pool.sequences * pool.tokens_per_sequence:
        raise SecateurError(
            f"schedule: a stage wants {max(schedule.tokens):,} tokens, the calibration text has "
            f"{pool.sequences * pool.tokens_per_sequence:,}; lower the stage or raise calibration.sequences"
        )
    return tuple(-(-tokens // pool.tokens_per_sequence) for tokens in schedule.tokens)


def evopress(
    space: Space,
    pool: Pool,
    seed: int,
    schedule: Schedule,
    mutation: Mutation = "levels",
    fresh: bool = True,
    initial: Sequence[Genome] = (),
    risk: float | None = None,
    trained: Sequence[Chain] = (),
    scattered: bool = True,
) -> Steps:
    """Searches from the best of `initial` (brought onto the budgets beforehand), or of `schedule.first` random genomes.

    `risk`: that the test of a race drops a child that is better than its parent; then a generation looks at the
    sequences of the first stage, at twice as many, and so on to those of the last, with half of the children at each,
    whatever `survivors` says. Races compare on nested prefixes; None: stages, as published. `trained`: what candidates
    are trained on by each stage before they are scored there; see `darwin`. A race then looks at its candidates once a
    stage. `scattered`: fresh minibatches are sequences from anywhere in the pool, which come as several batches; else,
    and where candidates are trained, adjacent ones.

    Raises:
        SecateurError: a stage asks for more text than the pool has, or `initial` breaks a budget.
    """
    stages = stage_sequences(schedule, pool)
    for genome in initial:
        if not space.feasible(genome):
            raise SecateurError("evopress: an initial genome breaks a budget; bring it onto the budgets first")

    def drawn(count: int, rng: np.random.Generator) -> tuple[range, ...]:
        if fresh and scattered and not trained:
            return minibatch(pool, count, rng)
        start = int(rng.integers(pool.sequences - count + 1)) if fresh else 0
        return (range(start, start + count),)

    rng = np.random.default_rng((seed, 0))
    starts = tuple(dict.fromkeys(initial)) or _random(space, schedule.first, mutation, rng)
    parent = starts[0]
    proven: Genome | None = None
    if len(starts) > 1:
        told = yield from scored(starts, drawn(stages[0] if not initial else stages[-1], rng), None)
        chosen = best_of(told)
        parent, proven = (chosen.genome, chosen.genome) if chosen else (parent, None)
    for generation in range(1, schedule.generations + 1):
        rng = np.random.default_rng((seed, generation))
        candidates = _children(space, parent, schedule.offspring, mutation, risk is None, rng)
        if not candidates:
            break
        if risk is not None:
            counts = stages if trained else looks(stages[0], stages[-1])
            won = yield from race(candidates, parent, counts, risk, answer=proven, trained=trained)
            parent = won.genome if won else parent
            proven = won.genome if won else None
            continue
        for stage, (survivors, count) in enumerate(zip(schedule.survivors, stages, strict=True)):
            last = stage == len(stages) - 1
            # By stage and not by number of survivors: upstream compares values and lets the parent in too early.
            entrants = tuple(dict.fromkeys((*candidates, parent))) if last else candidates
            told = yield from scored(entrants, drawn(count, rng), proven, trained[stage] if trained else ())
            candidates = _selected(told, survivors)
        # Where all have failed, the parent among them, the search goes on from it but does not answer with it.
        parent = candidates[0] if candidates else parent
        proven = parent if candidates else None
    return proven


def _random(space: Space, count: int, mutation: Mutation, rng: np.random.Generator) -> tuple[Genome, ...]:
    """Distinct random genomes on the budgets; fewer than `count` where there are hardly any."""
    draw = as_many_of_each if mutation == "levels" else on_budget
    return _distinct(count, lambda: draw(space, rng))


def _children(
    space: Space, parent: Genome, count: int, mutation: Mutation, staged: bool, rng: np.random.Generator
) -> tuple[Genome, ...]:
    """Distinct children; fewer than `count` when mutation finds no more.

    The parent is none of them. Where levels other than drops are switched and selected in stages it may be one, as in
    the published script for them.
    """
    may_stay = staged and mutation == "levels" and not any(gene.drops for gene in space.genes)
    return _distinct(count, lambda: MUTATIONS[mutation](parent, space, rng), () if may_stay else (parent,))


def _distinct(count: int, draw: Callable[[], Genome], known: Sequence[Genome] = ()) -> tuple[Genome, ...]:
    """Up to `count` draws that differ from each other and from those known."""
    found: dict[Genome, None] = {}
    for _ in range(count):
        for _ in range(TRIES):
            genome = draw()
            if genome not in found and genome not in known:
                found[genome] = None
                break
    return tuple(found)


def _selected(told: Sequence[Evaluation], survivors: int) -> tuple[Genome, ...]:
    results = [evaluation for evaluation in told if evaluation.status == "ok"]
    ranked = sorted(range(len(results)), key=lambda index: (results[index].rank, index))
    return tuple(results[index].genome for index in ranked[:survivors])

"""Our own strategy: a sweep, a lazy greedy path through all budgets, then candidates from a model of the loss, raced.

1. What it is given to start from, such as plans by published rules, is raced, so that there is an answer from the
   beginning. Every single change is scored on little text (`sweep`), and a greedy walk goes from the dense model
   through all budgets, trying again only what looks best (`greedy.walk_through`). Every point on it is a first answer
   to its budget. Where there are so many levels that each of its steps would make several changes, the sweep alone
   gives the first answers: such a walk takes more than the search needs to get as far.
   Where the evaluator has slopes, of one answer to one budget, it then goes downhill (`downhill`) by them, on ever more
   text: one pass backwards says of every level of every gene what scoring each would take hundreds of evaluations for.
2. `LossModel` is fitted on all evaluations so far, of every budget.
3. For each budget local search on the model proposes genomes; those that promise most, of all budgets together, make a
   batch. A share of each batch comes from mutation alone, and most of it where the model ranks poorly.
4. The batch is raced against the incumbents (`race`); then from 2 again. When nothing promises much any more, the best
   are raced on twice the text, and so on until there is no more. A race whose challengers are all dropped ends before
   it has used its text, so that an answer may have been scored on less than all of it.

Nothing is forwarded twice: everything is scored on prefixes of one shuffled text, and answers for one budget are data
for all others.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from ...operators.rules.table import RULES
from ...operators.sampling import ends, limited
from ...space.budget import parse_limit
from ...space.errors import SecateurError
from ...space.genome import Genome
from ...space.settings import Positive, Probability
from ...space.slopes import PASSES, SLOPES
from ...space.space import Space
from ..archive import Archive, Goal
from ..model.options import PATH, Options
from ..model.search import Search
from ..model.smallest import surrogate_smallest
from ..problem import Problem
from ..steps import Pool, Steps, noted
from ..strategy import Strategy, Swept
from ..warm import GOOD_RULES, check_initial, check_rules, is_plan_file

BEGINNING = 0.6
"""Of the effort, what sweep and path may take at most."""
DEFAULT = Options()


class Surrogate(Strategy):
    """A sweep, a lazy greedy path through all budgets, then candidates from a model of the loss, raced.

    For one plan or a front; the default.
    """

    name: Literal["surrogate"] = "surrogate"
    sequences: Positive = 8
    """On which answers are compared, and on twice as many each time it gets quiet, up to the whole text; a front stays
    on these."""
    first: Positive = 2
    """On which sweep, path and first looks are."""
    anchors: Positive | None = 2
    """Levels of each gene that the sweep scores; null: all."""
    lazy: Positive = 6
    """Genes that are tried again at each step of the path."""
    path: Positive | None = None
    """Evaluations that the path may take; null: three for each gene. Where these are less than a step for every two
    changes, there is no path."""
    batch: Annotated[int, Field(ge=2)] = 6
    """Candidates a round; more keep more workers busy, and learn less from each."""
    risk: Probability = 0.2
    """That a race's test loses a candidate that is better than the incumbent, as far as differences are normal."""
    mutated: Annotated[float, Field(ge=0, le=1)] = 0.17
    """Share of a round that mutation alone makes, one at least."""
    tolerance: Annotated[float, Field(ge=0)] = 1e-3
    """It is quiet when no candidate promises to lower a loss by this share."""
    slopes: bool = True
    """Whether, where sparsity is searched for one budget by kl or cross_entropy, it goes downhill by what one pass
    backwards says of every level, on up to 64 sequences."""
    sizes: Positive | Annotated[tuple[str, ...], Field(min_length=1)] = Field(default=8, examples=[["0.9x", "0.8x"]])
    """For a front, limits of each cost that are searched at once: how many, evenly down to half of what can go (all of
    it where types of few bits are searched), or limits of the one cost."""
    initial: tuple[str, ...] = Field(default=(GOOD_RULES,), examples=[["theirs/plan.json"]])
    """Rules and plan files to start from besides, `rules` being all good ones that apply; of rules for a front
    `uniform` alone."""
    libraries: ClassVar[tuple[str, ...]] = ("scipy",)
    revision: ClassVar[int] = 2

    @model_validator(mode="after")
    def _initial_exists(self) -> "Surrogate":
        check_initial(self.initial, None, (*RULES, GOOD_RULES))
        return self

    def check(self, problem: Problem) -> None:
        check_rules(self.initial, problem.space)
        if problem.goal is not None and not all(
            name in ("uniform", GOOD_RULES) or is_plan_file(name) for name in self.initial
        ):
            raise SecateurError("strategy.initial: a front by surrogate starts from its path, 'uniform' and plan files")
        self._options(problem, self._limits(problem))

    def steps(self, problem: Problem) -> Steps:
        space, pool, seed, limits = problem.space, problem.pool, problem.seed, self._limits(problem)
        options = self._options(problem, limits)
        if problem.goal is not None and problem.goal.smallest:
            options = replace(options, sequences=problem.goal.sequences, growing=False)
            return surrogate_smallest(space, problem.goal, pool, seed, options, problem.starts)
        if problem.goal is None:
            options = replace(options, slopes=self.slopes and SLOPES.name in problem.questions)
            return surrogate(space, pool, seed, [space], options, problem.starts)
        return surrogate_front(space, problem.goal, pool, seed, limits, options, problem.starts)

    def start_names(self) -> tuple[str, ...]:
        return self.initial

    def compared(self) -> int:
        return self.sequences

    def swept(self) -> Swept:
        return Swept(min(self.sequences, self.first), self.anchors)

    def descends(self) -> bool:
        return self.slopes

    def _options(self, problem: Problem, limits: Sequence[tuple[str, int]]) -> Options:
        """With sweep and path on as much text as leaves something to search with.

        Raises:
            SecateurError: the effort does not reach for a sweep and a path.
        """
        space, pool, allowance = problem.space, problem.pool, problem.allowance
        levels = max(len(gene.levels) for gene in space.genes)
        anchors = min(self.anchors or levels, levels)
        options = Options(
            anchors=anchors,
            lazy=self.lazy,
            batch=self.batch,
            risk=self.risk,
            mutated=self.mutated,
            tolerance=self.tolerance,
            limited=problem.limited,
        )
        by_slopes = self.slopes and problem.goal is None and SLOPES.name in problem.questions
        swept = [gene for gene in space.genes if not (by_slopes and "bits" in gene.features)]
        singles = 1 + sum(min(anchors, len(gene.levels) - 1) for gene in swept)
        singles += PASSES if len(swept) < len(space.genes) else 0
        # Who has swept nothing does not walk.
        steps = self.lazy if swept else 0
        last = min(self.sequences, pool.sequences)
        # What every target's first answer takes on all its text comes off before.
        kept = last * max(1, len(limits))
        sequences = None if allowance.tokens is None else allowance.tokens // pool.tokens_per_sequence
        for first in sorted({min(self.first, last), 1}, reverse=True):
            left = [] if sequences is None else [BEGINNING * (sequences - kept) / first]
            left += [] if allowance.evaluations is None else [BEGINNING * allowance.evaluations]
            room = int(min(left)) - singles if left else None
            if room is None or room > steps:
                wanted = self.path or PATH * len(space.genes)
                path = wanted if room is None else min(wanted, room)
                return replace(options, sequences=last, first=first, path=path)
        needed = math.ceil((singles + steps + 1) / BEGINNING)
        raise SecateurError(
            f"effort: surrogate needs {(needed + kept) * pool.tokens_per_sequence:,} tokens, or {needed} evaluations, "
            "for its sweep of single changes, a path, and answers to compare; raise the effort, or lower "
            "strategy.anchors or strategy.sequences"
        )

    def _limits(self, problem: Problem) -> list[tuple[str, int]]:
        """The (cost, limit) of each target of a search for a front; none where one plan is searched.

        Raises:
            SecateurError: sizes that cannot be read or kept, or that could be of several costs; nothing but costs and
                one score to minimise.
        """
        goal, space = problem.goal, problem.space
        if goal is None:
            return []
        if len(goal.objectives) != len(goal.costs) + 1 or not goal.costs:
            raise SecateurError("objectives: surrogate searches for a front of one score and costs, such as [kl, macs]")
        limits = []
        if isinstance(self.sizes, int):
            stored = any("bits" in gene.features for gene in space.genes)
            for cost in (cost for cost in goal.costs if getattr(space.dense_costs, cost) is not None):
                least, most = ends(space, cost)
                # A third of the bytes is where types begin.
                steps = self.sizes if stored else 2 * self.sizes
                limits += [(cost, most - (most - least) * number // steps) for number in range(1, self.sizes + 1)]
            return list(dict.fromkeys(limits))
        if len(goal.costs) > 1:
            raise SecateurError("strategy.sizes: several costs are objectives; write how many sizes of each, such as 8")
        for raw in self.sizes:
            limit = parse_limit(goal.costs[0], raw, space.dense_costs, "strategy.sizes")
            if limit is not None:
                limited(space, goal.costs[0], limit).check_budgets()
                limits.append((goal.costs[0], limit))
        return list(dict.fromkeys(limits))


def surrogate(
    space: Space,
    pool: Pool,
    seed: int,
    targets: Sequence[Space],
    options: Options = DEFAULT,
    initial: Sequence[Genome] = (),
) -> Steps:
    """Searches all `targets` at once; answers with the best genome of the first.

    `targets`: the space under one budget each, at least one. `initial`: genomes to begin with besides the path; each
    counts for the targets whose budgets it keeps.
    """
    return (yield from Search(space, pool, seed, targets, options).steps(initial))


def surrogate_front(
    space: Space,
    goal: Goal,
    pool: Pool,
    seed: int,
    limits: Sequence[tuple[str, int]],
    options: Options = DEFAULT,
    initial: Sequence[Genome] = (),
) -> Steps:
    """A whole front: one target for each of `limits` (cost, limit), all on the goal's sequences. Answers: the knee."""
    targets = [limited(space, cost, limit) for cost, limit in limits]
    archive = Archive(goal)
    options = replace(options, sequences=goal.sequences, growing=False)
    steps = surrogate(space, pool, seed, targets, options, initial)
    yield from noted(
        steps,
        lambda batch, told: archive.add(told, space.dense),
        lambda batch: replace(batch, incumbent=archive.knee()),
    )
    return archive.knee()

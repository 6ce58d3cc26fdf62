"""A sweep of single changes, then the exact knapsack over it (SPDY, Frantar and Alistarh 2022, arXiv 2201.13096)."""

import contextlib
from typing import Literal

from ...operators.sampling import ends, limited
from ...space.settings import Positive
from ...space.space import Space
from ..archive import Archive, Goal
from ..model.knapsack import FailedLevelsError, check_clusters, solve
from ..problem import Problem
from ..steps import Batch, Pool, Steps, best_of
from ..strategy import Strategy, Swept
from ..sweep import affordable_anchors, sweep


class Knapsack(Strategy):
    """SPDY's: a sweep of single changes, then the exact knapsack over it; for one plan or a front."""

    name: Literal["knapsack"] = "knapsack"
    sequences: Positive = 4
    """On which everything is scored."""
    anchors: Positive | None = None
    """Levels of each gene that the sweep scores; null: all."""
    sizes: Positive = 32
    """For a front, limits of each cost that it is solved for."""

    def check(self, problem: Problem) -> None:
        check_clusters(problem.space)
        self._anchors(problem)

    def expected(self, problem: Problem) -> int:
        singles = 1 + sum(min(self.anchors or len(g.levels), len(g.levels) - 1) for g in problem.space.genes)
        return (singles + 1) * self.sequences * problem.pool.tokens_per_sequence

    def steps(self, problem: Problem) -> Steps:
        anchors = self._anchors(problem)
        if problem.goal is None:
            return knapsack(problem.space, problem.pool, self.sequences, anchors)
        return knapsack_front(problem.space, problem.goal, self._sizes(problem, problem.goal), anchors)

    def _sizes(self, problem: Problem, goal: Goal) -> int:
        """Limits of each cost: at most a quarter of the evaluations goes to solutions, the rest to the sweep."""
        affordable = problem.affordable(self.sequences)
        most = self.sizes if affordable is None else affordable // (4 * max(1, len(goal.costs)))
        return max(1, min(self.sizes, most))

    def _anchors(self, problem: Problem) -> int | None:
        goal = problem.goal
        solutions = 1 if goal is None else self._sizes(problem, goal) * len(goal.costs) + 1
        return affordable_anchors(problem, self.name, self.swept(), solutions)

    def compared(self) -> int:
        return self.sequences

    def swept(self) -> Swept:
        return Swept(self.sequences, self.anchors)


POINT_CELLS = 20_000
"""Of the table for each of a front's points, which need not be as exact as the answer to one budget."""


def knapsack(space: Space, pool: Pool, sequences: int, anchors: int | None = None) -> Steps:
    """Sweeps single changes on the first `sequences` of the pool, solves for the budgets, scores the solution."""
    used = range(min(sequences, pool.sequences))
    table = yield from sweep(space, used, anchors)
    genome = solve(space, table)
    told = yield Batch((genome,), used)
    best = best_of(told)
    return best.genome if best else None


def knapsack_front(space: Space, goal: Goal, points: int, anchors: int | None = None) -> Steps:
    """A whole front from one sweep: solves for `points` limits of each cost of the goal, and scores the solutions.

    Limits lie evenly between the smallest genome and the budgets. The answer is the knee.
    """
    used, archive = range(goal.sequences), Archive(goal)
    table = yield from sweep(space, used, anchors)
    solutions = {space.dense: None}
    with contextlib.suppress(FailedLevelsError):
        solutions.setdefault(solve(space, table))
    for cost in goal.costs:
        least, most = ends(space, cost)
        for number in range(points):
            limit = most - (most - least) * number // points
            with contextlib.suppress(FailedLevelsError):
                solutions.setdefault(solve(limited(space, cost, limit), table, POINT_CELLS))
    archive.add((yield Batch(tuple(solutions), used)), space.dense)
    return archive.knee()

"""Greedy compression from the dense model, one best change at a time.

SLEB (arXiv 2402.09025), BlockPruner (2406.10594) and MultiPruner (2501.09949) remove, at each step, the unit whose
removal leaves the least loss, trying every unit that is left. Here a step is one level of one gene, ranked by loss per
saved cost so that attention, MLP and sparsity compete, and only the `lazy` genes with the best last-known marginal are
tried again (Minoux 1978, accelerated greedy).
"""

from typing import Literal

import numpy as np

from ...operators.repair import tighten
from ...space.settings import Positive
from ...space.space import Space
from ..problem import Problem, fewest
from ..steps import Batch, Pool, Steps, best_of
from ..strategy import Strategy, Swept
from ..sweep import affordable_anchors, sweep
from ..walk import walk


class Greedy(Strategy):
    """One best change at a time, from the dense model until the budgets hold; for one plan."""

    name: Literal["greedy"] = "greedy"
    sequences: Positive = 4
    """On which everything is scored."""
    anchors: Positive | None = None
    """Levels of each gene that the sweep before scores; null: as many as are affordable."""
    lazy: Positive | None = 8
    """Genes that are tried again at each step; null: all, as published."""
    evaluations: Positive | None = None
    """At most so many, by several changes a step; null: one change a step."""

    def check(self, problem: Problem) -> None:
        self._anchors(problem)

    def expected(self, problem: Problem) -> int | None:
        length = problem.pool.tokens_per_sequence
        return self.evaluations * self.sequences * length if self.evaluations else None

    def steps(self, problem: Problem) -> Steps:
        most = fewest(self.evaluations, problem.affordable(self.sequences))
        anchors = self._anchors(problem)
        return greedy(problem.space, problem.pool, problem.seed, self.sequences, self.lazy, anchors, most)

    def _anchors(self, problem: Problem) -> int | None:
        return affordable_anchors(problem, self.name, self.swept())

    def compared(self) -> int:
        return self.sequences

    def swept(self) -> Swept:
        return Swept(self.sequences, self.anchors)


def greedy(
    space: Space,
    pool: Pool,
    seed: int,
    sequences: int,
    lazy: int | None = 8,
    anchors: int | None = None,
    evaluations: int | None = None,
) -> Steps:
    """Sweeps single changes on the first `sequences` of the pool, then walks from dense until the budgets hold.

    `lazy`: genes tried again at each step, None for all, as the papers do. `evaluations`: how many the whole walk
    may take at most; when one change a step would take more, a step makes several, of those known to be best, and when
    not even one step is left the rest is done by what is known.
    """
    used = range(min(sequences, pool.sequences))
    table = yield from sweep(space, used, anchors)
    spent = 1 + sum(min(anchors or len(gene.levels), len(gene.levels) - 1) for gene in space.genes)
    left = None if evaluations is None else max(0, evaluations - spent - 2)
    walked = yield from walk(space, table, used, lazy, left)
    candidates = tuple(dict.fromkeys((walked, tighten(walked, space, np.random.default_rng(seed)))))
    told = yield Batch(candidates, used)
    best = best_of(told)
    return best.genome if best else None

"""Random search: the neutral baseline (Random Search as a Baseline, arXiv 2403.08265)."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np

from ...operators.sampling import sized
from ...space.evaluation import Evaluation
from ...space.settings import Positive
from ...space.space import Space
from ..problem import Problem
from ..steps import Batch, Pool, Steps, best_of
from ..strategy import Strategy

BATCH, TRIES = 8, 50


class Random(Strategy):
    """Random genomes on the budget, for one plan or a front."""

    name: Literal["random"] = "random"
    sequences: Positive = 4
    """On which everything is scored."""
    ends: ClassVar[bool] = False

    def steps(self, problem: Problem) -> Steps:
        costs = problem.goal.costs if problem.goal is not None else ()
        affordable = problem.affordable(self.sequences)
        # The dense model comes first where there are costs to vary.
        batch = BATCH if affordable is None else min(BATCH, max(1, affordable - bool(costs)))
        return random_search(problem.space, problem.pool, problem.seed, self.sequences, batch, costs=costs)

    def compared(self) -> int:
        return self.sequences


def random_search(
    space: Space,
    pool: Pool,
    seed: int,
    sequences: int,
    batch: int = BATCH,
    batches: int | None = None,
    costs: Sequence[str] = (),
) -> Steps:
    """Scores random genomes on the budget, each once, on the first `sequences` of the pool; keeps the best.

    With `costs`, for a front, genomes of every size in them (`operators.sampling.sized`), the dense model first. Ends
    after `batches` batches of `batch` genomes (None: when the allowance does), or when new genomes have become hard to
    find.
    """
    seen = set()
    best: Evaluation | None = None
    step = 0
    if costs:
        seen.add(space.dense)
        best = best_of((yield Batch((space.dense,), range(min(sequences, pool.sequences)))))
    while batches is None or step < batches:
        rng = np.random.default_rng((seed, step))
        fresh = []
        for _ in range(batch):
            for _ in range(TRIES):
                genome = sized(space, costs, rng)
                if genome not in seen:
                    seen.add(genome)
                    fresh.append(genome)
                    break
        if not fresh:
            break
        told = yield Batch(tuple(fresh), range(min(sequences, pool.sequences)), best.genome if best else None)
        best = best_of([*([best] if best else []), *told])
        step += 1
    return best.genome if best else None

"""Random search: the neutral baseline (Random Search as a Baseline, arXiv 2403.08265)."""

import numpy as np

from ..operators.sampling import on_budget
from ..space.evaluation import Evaluation
from ..space.space import Space
from .strategy import Batch, Pool, Steps, best_of

TRIES = 50


def random_search(
    space: Space, pool: Pool, seed: int, sequences: int, batch: int = 8, batches: int | None = None
) -> Steps:
    """Scores random genomes on the budget, each once, on the first `sequences` of the pool; keeps the best.

    Ends after `batches` batches of `batch` genomes (None: when the allowance does), or when new genomes have become
    hard to find.
    """
    seen = set()
    best: Evaluation | None = None
    step = 0
    while batches is None or step < batches:
        rng = np.random.default_rng((seed, step))
        fresh = []
        for _ in range(batch):
            for _ in range(TRIES):
                genome = on_budget(space, rng)
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

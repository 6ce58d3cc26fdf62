"""FLAP's allocation (An et al. 2024, arXiv 2312.11983, sec. 4.2): one threshold for all heads and channels."""

import numpy as np

from ...space.errors import SecateurError
from ...space.genome import Genome
from ...space.space import Space
from .rule import Rule, Statistics, UnitScores


def flap(space: Space, scores: UnitScores) -> Genome:
    """Every unit under the lowest threshold at which the budgets hold goes; counts are rounded up to levels.

    A sublayer keeps its smallest level above nothing at least, as in the authors' code.
    """
    thresholds = sorted({one for rows in scores.values() for row in rows for one in row})
    low, high = 0, len(thresholds) - 1
    found: Genome | None = None
    while low <= high:
        middle = (low + high) // 2
        genome = _over_threshold(space, scores, thresholds[middle])
        if space.feasible(genome):
            found, high = genome, middle - 1
        else:
            low = middle + 1
    if found is None:
        raise SecateurError("no threshold of FLAP's scores keeps the budgets")
    return found


def _over_threshold(space: Space, scores: UnitScores, threshold: float) -> Genome:
    levels = []
    for gene in space.genes:
        if gene.kind.dimension not in scores or not gene.narrows:
            levels.append(0)
            continue
        # One width for several layers: as many as they want on average.
        rows = [scores[gene.kind.dimension][block] for block in gene.blocks]
        wanted = sum(one >= threshold for row in rows for one in row) / len(rows)
        enough = [index for index, level in enumerate(gene.counts) if level >= wanted]
        levels.append(enough[-1])
    return space.canonical(Genome(tuple(levels)))


def _genome(space: Space, statistics: Statistics, _rng: np.random.Generator) -> Genome:
    return flap(space, statistics.fluctuations())


RULE = Rule(_genome, "widths", good=True)

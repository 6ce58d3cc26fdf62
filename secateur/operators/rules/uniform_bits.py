"""Every linear in one type."""

import numpy as np

from ...space.errors import SecateurError
from ...space.genome import Genome
from ...space.space import Space
from ...space.treatments import Treatment
from .rule import Rule, Statistics


def uniform_bits(space: Space) -> Genome:
    """The largest type of the genes' levels that keeps the budgets, in every linear that may have it.

    Where a gene has not that type it takes its next smaller one.

    Raises:
        SecateurError: not even the smallest keeps them.
    """
    genes = [gene for gene in space.genes if "bits" in gene.features]
    types = sorted({level for gene in genes for level in gene.treatments}, key=lambda level: (level.share, str(level)))
    for wanted in types:
        levels = [_level(gene.treatments, wanted) if "bits" in gene.features else 0 for gene in space.genes]
        genome = space.canonical(Genome(tuple(levels)))
        if space.feasible(genome):
            return genome
    raise SecateurError("no type in every linear keeps the budgets")


def _level(own: tuple[Treatment, ...], wanted: Treatment) -> int:
    if wanted in own:
        return own.index(wanted)
    return next((index for index, level in enumerate(own) if level.share >= wanted.share), len(own) - 1)


def _genome(space: Space, _statistics: Statistics, _rng: np.random.Generator) -> Genome:
    return uniform_bits(space)


RULE = Rule(_genome, "bits", good=True, line=True, uniform=True)

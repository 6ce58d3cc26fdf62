"""Every sparsity gene at the same share."""

import numpy as np

from ...space.errors import SecateurError
from ...space.gene import nearest_level
from ...space.genome import Genome
from ...space.space import Space
from .profiles import sparse
from .rule import Rule, Statistics


def uniform_sparsity(space: Space) -> Genome:
    """The densest level that keeps the budgets.

    Uniform means uniform: where no level lies on the budget, what is left over is not given back.
    """
    shares = sorted({level.share for gene in sparse(space) for level in gene.treatments})
    for share in shares:
        levels = [nearest_level(g, share) if "zeros" in g.features else 0 for g in space.genes]
        genome = space.canonical(Genome(tuple(levels)))
        if space.feasible(genome):
            return genome
    raise SecateurError("no uniform sparsity level keeps the budgets")


def _genome(space: Space, _statistics: Statistics, _rng: np.random.Generator) -> Genome:
    return uniform_sparsity(space)


RULE = Rule(_genome, "zeros", good=True, line=True, uniform=True)

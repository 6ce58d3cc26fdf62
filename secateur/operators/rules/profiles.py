"""Real-valued profiles of sparsity, brought onto the budgets."""

from collections.abc import Callable

import numpy as np

from ...space.errors import SecateurError
from ...space.gene import Gene, nearest_level
from ...space.genome import Genome
from ...space.space import Space
from ..sampling import from_shares

Profile = Callable[[Gene, float], float]
"""(gene, base sparsity) -> share of zeros of that gene."""


def sparse(space: Space) -> list[Gene]:
    """The sparsity genes of a space."""
    return [gene for gene in space.genes if "zeros" in gene.features]


def scaled(space: Space, share: Profile, rng: np.random.Generator) -> Genome:
    """The least base sparsity at which the profile keeps the budgets before rounding is repaired.

    Raises:
        SecateurError: no base sparsity does.
    """
    for base in np.arange(0.0, 1.0, 0.005).tolist():
        shares = [min(1.0, max(0.0, share(g, base))) if "zeros" in g.features else 0.0 for g in space.genes]
        levels = tuple(nearest_level(g, s) for g, s in zip(space.genes, shares, strict=True))
        if space.feasible(space.canonical(Genome(levels))):
            return from_shares(space, shares, rng)
    raise SecateurError("no profile of this rule keeps the budgets")

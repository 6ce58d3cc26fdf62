"""Every layer as narrow as every other."""

import numpy as np

from ...space.errors import SecateurError
from ...space.gene import Gene
from ...space.genome import Genome
from ...space.space import Space
from .rule import Rule, Statistics


def uniform_width(space: Space) -> Genome:
    """The largest share of heads, channels and residual width at which the budgets hold.

    Levels nearest to the share, never dropped; nothing is given back.
    """
    for share in np.arange(1.0, 0.0, -0.005).tolist():
        genome = space.canonical(Genome(tuple(_width_level(gene, share) for gene in space.genes)))
        if space.feasible(genome):
            return genome
    raise SecateurError(
        "no width that all layers share, short of dropping them, is small enough; give genes narrower levels"
    )


def _width_level(gene: Gene, share: float) -> int:
    """The level that keeps nearest to `share`, dropped not among them; dense for genes that do not narrow."""
    if not gene.narrows:
        return 0
    kept = gene.counts
    return min(range(len(kept)), key=lambda level: (abs(kept[level] / kept[0] - share), level))


def _genome(space: Space, _statistics: Statistics, _rng: np.random.Generator) -> Genome:
    return uniform_width(space)


RULE = Rule(_genome, "widths", good=True, line=True, uniform=True)

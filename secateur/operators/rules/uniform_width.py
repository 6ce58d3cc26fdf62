"""Every layer as narrow as every other."""

from collections.abc import Sequence

import numpy as np

from ...space.errors import SecateurError
from ...space.gene import Gene
from ...space.genome import Genome
from ...space.space import Space
from .rule import Rule, Statistics


def uniform_width(space: Space, others: Sequence[int] = ()) -> Genome:
    """The largest share of heads, channels and residual width at which the budgets hold.

    Levels nearest to the share, never dropped; nothing is given back. `others`: levels of genes that do not narrow,
    by default dense.
    """
    kept = others or (0,) * len(space.genes)
    for share in np.arange(1.0, 0.0, -0.005).tolist():
        levels = [
            _width_level(gene, share) if gene.narrows else level for gene, level in zip(space.genes, kept, strict=True)
        ]
        genome = space.canonical(Genome(tuple(levels)))
        if space.feasible(genome):
            return genome
    raise SecateurError(
        "no width that all layers share, short of dropping them, is small enough; give genes narrower levels"
    )


def _width_level(gene: Gene, share: float) -> int:
    """The level of a gene that narrows that keeps nearest to `share`, dropped not among them."""
    kept = gene.counts
    return min(range(len(kept)), key=lambda level: (abs(kept[level] / kept[0] - share), level))


def _genome(space: Space, _statistics: Statistics, _rng: np.random.Generator) -> Genome:
    return uniform_width(space)


RULE = Rule(_genome, "widths", good=True, line=True, uniform=True)

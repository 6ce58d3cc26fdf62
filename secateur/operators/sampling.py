"""New genomes from nothing, or from a profile."""

from collections.abc import Sequence

import numpy as np

from ..space.gene import Gene, Sparsity
from ..space.genome import Genome
from ..space.space import Space
from .repair import compress, repair, tighten


def uniform(space: Space, rng: np.random.Generator) -> Genome:
    """Each gene at a level drawn uniformly; legal, but over or far under the budgets. Canonical."""
    return space.canonical(Genome(tuple(int(rng.integers(len(gene.levels))) for gene in space.genes)))


def on_budget(space: Space, rng: np.random.Generator) -> Genome:
    """A random genome that keeps every budget and leaves no room for a denser gene."""
    return tighten(compress(space.dense, space, rng), space, rng)


def near_profile(space: Space, profile: Genome, noise: float, rng: np.random.Generator) -> Genome:
    """`profile` with normal noise of `noise` levels on every active gene, brought back onto the budgets."""
    shifted = np.array(profile.levels) + np.rint(rng.normal(0.0, noise, len(profile.levels))).astype(int)
    shifted = np.where(space.active(profile), shifted, 0)
    levels = tuple(int(np.clip(level, 0, len(g.levels) - 1)) for level, g in zip(shifted, space.genes, strict=True))
    return repair(Genome(levels), space, rng)


def from_shares(space: Space, shares: Sequence[float], rng: np.random.Generator) -> Genome:
    """The genome nearest to a real-valued profile, brought onto the budgets.

    `shares` has, for each gene, the share to remove in [0, 1]: of zero weights, or of what a structured gene keeps.
    """
    levels = tuple(nearest_level(gene, share) for gene, share in zip(space.genes, shares, strict=True))
    return repair(Genome(levels), space, rng)


def nearest_level(gene: Gene, share: float) -> int:
    """The level of `gene` that removes a share closest to `share`; the denser one when two are as close."""
    removed = [level.share if isinstance(level, Sparsity) else 1 - level / _dense(gene) for level in gene.levels]
    return min(range(len(removed)), key=lambda index: (abs(removed[index] - share), index))


def _dense(gene: Gene) -> int:
    first = gene.levels[0]
    assert isinstance(first, int)
    assert first > 0
    return first

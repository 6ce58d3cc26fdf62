"""Outlier-weighed sparsity: blocks with more outliers stay denser (Yin et al. 2023, arXiv 2310.05175, sec. 3.3)."""

from collections.abc import Sequence

import numpy as np

from ...space.genome import Genome
from ...space.space import Space
from .profiles import scaled
from .rule import Rule, Statistics

OWL_RANGE = 0.08
"""Half the width of OWL's band of layer sparsities (its `Lamda`)."""


def owl(space: Space, outliers: Sequence[float], rng: np.random.Generator) -> Genome:
    """The profile of each block's share of `outliers`, on the budgets."""
    ratio = np.array(outliers)
    spread = ratio.max() - ratio.min()
    shift = (ratio - ratio.min()) / (spread if spread > 0 else 1.0) * 2 * OWL_RANGE
    shift -= shift.mean()
    return scaled(space, lambda gene, base: base - float(np.mean([shift[b] for b, _ in gene.members])), rng)


def _genome(space: Space, statistics: Statistics, rng: np.random.Generator) -> Genome:
    return owl(space, statistics.outliers(), rng)


RULE = Rule(_genome, "zeros", good=True)

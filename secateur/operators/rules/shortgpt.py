"""ShortGPT: drops the blocks of least influence (Men et al. 2024, arXiv 2403.03853)."""

from collections.abc import Sequence

import numpy as np

from ...space.genome import Genome
from ...space.space import Space
from .dropping import drop_blocks
from .rule import Rule, Statistics


def shortgpt(space: Space, influence: Sequence[float]) -> Genome:
    """Drops the blocks of least `influence`, one value each, until the budgets hold."""
    return drop_blocks(space, np.argsort(influence, kind="stable").tolist())


def _genome(space: Space, statistics: Statistics, _rng: np.random.Generator) -> Genome:
    return shortgpt(space, statistics.influence())


RULE = Rule(_genome, "drops", good=True, line=True)

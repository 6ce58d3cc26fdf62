"""Drops blocks from the end backwards."""

import numpy as np

from ...space.genome import Genome
from ...space.space import Space
from .dropping import drop_blocks
from .rule import Rule, Statistics


def last_blocks(space: Space) -> Genome:
    """Drops blocks from the end backwards."""
    return drop_blocks(space, reversed(range(len(space.anatomy.blocks))))


def _genome(space: Space, _statistics: Statistics, _rng: np.random.Generator) -> Genome:
    return last_blocks(space)


RULE = Rule(_genome, "drops")

"""Drops the consecutive blocks whose input and output differ least in angle (Gromov et al. 2024, arXiv 2403.17887)."""

from collections.abc import Sequence

import numpy as np

from ...space.errors import SecateurError
from ...space.genome import Genome
from ...space.space import Space
from .dropping import drop_blocks
from .rule import Rule, Statistics


def angular_window(space: Space, angular: Sequence[Sequence[float]]) -> Genome:
    """The window is as long as the budgets need; of the last block of the window only what is needed.

    `angular`: by length and first block, the distance between a window's input and output.
    """
    for length in range(1, len(space.anatomy.blocks) + 1):
        for start in np.argsort(angular[length], kind="stable").tolist():
            try:
                return drop_blocks(space, reversed(range(start, start + length)))
            except SecateurError:
                continue
    raise SecateurError("no window of blocks keeps the budgets")


def _genome(space: Space, statistics: Statistics, _rng: np.random.Generator) -> Genome:
    return angular_window(space, statistics.angular())


RULE = Rule(_genome, "drops", good=True)

"""Steps downhill: many changes at once, of those that the slopes around a genome promise most for."""

import contextlib

import numpy as np

from ...space.errors import SecateurError
from ...space.genome import Genome
from ...space.slopes import Slopes
from ...space.space import Space
from ..sweep import Table
from .knapsack import solve
from .propose import CELLS

REACHES = (1, 2, 4)
"""How many levels a gene may move at most."""
CAUTIONS = (0.5, 1.0, 2.0, 4.0)
"""How heavily the second order counts: the more, the fewer genes move. Changes together do not add up, so that how far
one may go has to be tried."""


def downhill(space: Space, slopes: Slopes) -> list[Genome]:
    """Where to go from a genome within the budgets: the exact knapsack on its slopes, for every reach and caution.

    Distinct, without the genome itself, and in the order of reach, then caution; genes of which nothing is known stay.
    """
    here, found = slopes.genome, {slopes.genome: None}
    for reach in REACHES if not slopes.reason else ():
        for caution in CAUTIONS:
            rows = slopes.added(caution)
            near = [
                [loss if abs(level - own) <= reach else np.inf for level, loss in enumerate(row)]
                for own, row in zip(here.levels, rows, strict=True)
            ]
            # Other budgets, or genes that hang together too much, may leave nothing.
            with contextlib.suppress(SecateurError):
                found[solve(space, Table(0.0, tuple(tuple(row) for row in near)), CELLS)] = None
    return [genome for genome in found if genome != here and space.feasible(genome)]

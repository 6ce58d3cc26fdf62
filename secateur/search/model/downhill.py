"""Steps downhill: many changes at once, of those that the slopes around a genome promise most for."""

import contextlib
from collections.abc import Sequence

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


def prices(slopes: Slopes) -> dict[int, list[float]]:
    """What each level adds to that of least loss, by slopes around a genome, of the genes of which they tell; 0 for the
    first level, rising, and beyond what they reach as steep as before."""
    rows = {}
    for gene, row in enumerate(slopes.added() if not slopes.reason else ()):
        known = [level for level, value in enumerate(row) if np.isfinite(value)]
        if len(known) < 2:
            continue
        values = np.array([row[level] for level in known])
        first, last = (values[1] - values[0], values[-1] - values[-2])
        filled = np.interp(range(len(row)), known, values)
        filled[: known[0]] = values[0] - first * np.arange(known[0], 0, -1)
        filled[known[-1] + 1 :] = values[-1] + last * np.arange(1, len(row) - known[-1])
        rows[gene] = np.maximum.accumulate(filled - filled[0]).tolist()
    return rows


def _with_known(rows: Sequence[Sequence[float]], here: Genome, added: Sequence[Sequence[float]]) -> list[list[float]]:
    """Rows in which differences of `added` stand for what is infinite."""
    filled = [list(row) for row in rows]
    for own, row, known in zip(here.levels, filled, added or rows, strict=True):
        if np.isfinite(known[own]):
            for level, value in enumerate(row):
                row[level] = value if np.isfinite(value) else float(known[level] - known[own])
    return filled


def downhill(space: Space, slopes: Slopes, added: Sequence[Sequence[float]] = ()) -> list[Genome]:
    """Where to go from a genome within the budgets: the exact knapsack on its slopes, for every reach and caution.

    Distinct, without the genome itself, and in the order of reach, then caution. Of levels that slopes do not tell of,
    such as those that bring something back, `added` says what they add (a row a gene, as a sweep's table); without it,
    or where it does not know either, nobody goes there.
    """
    here, found = slopes.genome, {slopes.genome: None}
    for reach in REACHES if not slopes.reason else ():
        for caution in CAUTIONS:
            rows = _with_known(slopes.added(caution), here, added)
            near = [
                [loss if abs(level - own) <= reach else np.inf for level, loss in enumerate(row)]
                for own, row in zip(here.levels, rows, strict=True)
            ]
            # Other budgets, or genes that hang together too much, may leave nothing.
            with contextlib.suppress(SecateurError):
                found[solve(space, Table(0.0, tuple(tuple(row) for row in near)), CELLS)] = None
    return [genome for genome in found if genome != here and space.feasible(genome)]

"""The answer of a search chosen on text that it has not seen: a share of the calibration text is kept for that.

Who is best on the text that everything was compared on has been lucky there. The best few are scored on what was kept;
of those that are within one standard error of the best there, the one that costs least is taken (Breiman et al. 1984,
"Classification and Regression Trees", sec. 3.4.3), and of equally dear ones the best.
"""

import math
from collections.abc import Sequence

import numpy as np

from ..space.evaluation import Evaluation
from ..space.genome import Genome
from ..space.space import Space
from .loop import Allowance
from .steps import Batch, Pool, Steps
from .trained import ranked_by, within

SAME = 0.002
"""Share of the dense model's cost within which two plans cost the same."""


class Validated:
    """Runs a search on its part of the text, then scores its best `finalists` on the `kept` sequences after that.

    Attributes:
        searched: the search's own answer.
        told: the finalists on what was kept, once that is done.
    """

    def __init__(self, space: Space, pool: Pool, kept: int, finalists: int) -> None:
        self.space, self.pool, self.count = space, pool, finalists
        self.used = range(pool.sequences, pool.sequences + kept)
        self.searched: Genome | None = None
        self.told: list[Evaluation] = []

    def cost(self) -> int:
        """Tokens that the finalists take at most."""
        return self.count * len(self.used) * self.pool.tokens_per_sequence

    def steps(self, search: Steps, allowance: Allowance) -> Steps:
        """The search, as far as its own allowance goes, then the choice."""
        known: dict[Genome, Evaluation] = {}
        self.searched = yield from within(search, allowance, self.pool, known)
        entrants = [self.searched] if self.searched is not None else []
        entrants = list(dict.fromkeys([*entrants, *ranked_by(known.values(), self.space)]))[: self.count]
        if len(entrants) < 2:
            return self.searched
        self.told = yield Batch(tuple(entrants), self.used, self.searched)
        return self.chosen()

    def chosen(self) -> Genome | None:
        """Of the finalists, the cheapest that is as good as the best."""
        good = as_good(self.told)
        # Where none keeps a budget on a score there, what was kept has nothing to choose by.
        if not good or not any(one.keeps for one in good):
            return self.searched
        return min(good, key=lambda one: (self._size(one.genome), one.rank)).genome

    def _size(self, genome: Genome) -> tuple[int, ...]:
        """Budgeted costs in steps of `SAME`; parameters and non-zero weights where nothing is budgeted."""
        costs, dense = self.space.costs(genome), self.space.dense_costs
        names = dict.fromkeys(budget.cost for budget in self.space.budgets) or ("parameters", "nonzero_parameters")
        return tuple(round(getattr(costs, name) / (SAME * max(1, getattr(dense, name)))) for name in names)


def as_good(told: Sequence[Evaluation]) -> list[Evaluation]:
    """The best of some evaluations on the same sequences, and all whose paired difference to it is within one standard
    error; those that keep the budgets on scores, where some do."""
    results = [one for one in told if one.status == "ok"]
    results = [one for one in results if one.keeps] or results
    if not results:
        return []
    best = min(results, key=lambda one: one.rank)
    return [one for one in results if one is best or _near(one, best)]


def _near(one: Evaluation, best: Evaluation) -> bool:
    difference = np.subtract(one.compared, best.compared)
    error = float(difference.std(ddof=1)) / math.sqrt(len(difference)) if len(difference) > 1 else 0.0
    return float(difference.mean()) <= error

"""Our own search for the smallest plan that keeps a budget on a score: sizes that close in on where it is met."""

from collections.abc import Generator, Sequence

from ...operators.sampling import ends, limited
from ...space.evaluation import Evaluation
from ...space.genome import Genome
from ...space.space import Space
from ..archive import Goal
from ..steps import Batch, Pool, Steps, noted
from .options import Options
from .search import Search

SIZES = 8
"""That sweep and path are aimed at, over all that can go."""
AT_ONCE = 3
"""Sizes that are searched side by side."""
FINE = 1 / 500
"""Of all that can go, which it is not worth to look any closer."""


def surrogate_smallest(
    space: Space, goal: Goal, pool: Pool, seed: int, options: Options, initial: Sequence[Genome] = ()
) -> Steps:
    """Answers with the genome of least cost that keeps the budgets on scores; compared on the goal's sequences.

    At each size the least score is searched for, as for a front. The sizes lie between the smallest genome that keeps
    the budgets and the one below which none is expected to: when it gets quiet there, that is raised by half of the way
    up, until they meet. Each answer that lasts is scored on the whole text, and what that makes of its score is taken
    to hold for those like it (`Closest`).
    """
    cost = goal.costs[0]
    least, most = ends(space, cost)
    targets = [limited(space, cost, most - (most - least) * part // SIZES) for part in range(1, SIZES + 1)]
    search, closest = Search(space, pool, seed, targets, options), Closest(space, goal, pool)

    def size() -> int:
        return most + 1 if closest.answer is None else closest.size(closest.answer)

    if given := tuple(dict.fromkeys(genome for genome in initial if space.feasible(genome))):
        # All of them on all of the goal's sequences: rules in several sizes close in on the answer by themselves.
        closest.note((yield Batch(given, range(goal.sequences))))
        yield from closest.checked()
    yield from noted(search.begin(initial), lambda _, told: closest.note(told))
    yield from closest.checked()
    low, high = least, size()
    while high > least:
        sizes = dict.fromkeys(high - 1 - (high - 1 - low) * part // AT_ONCE for part in range(AT_ONCE))
        search.aim([limited(space, cost, one) for one in sizes])
        while not search.finished and size() == high:
            yield from noted(search.turn(), lambda _, told: closest.note(told))
        if size() != high and closest.answer is not None:
            yield from closest.checked()
        elif high - 1 - low <= FINE * (most - least):
            break
        else:
            low = (low + high) // 2
        low, high = min(low, size() - 1), size()
    return closest.answer


class Closest:
    """The smallest genome so far that is taken to keep the budgets on scores on the whole text.

    Few sequences may be easy ones: of the way from dense to a limit, a genome goes a part on these and another on all
    of them. How many times as far the last answer went there is what everything is multiplied by.
    """

    def __init__(self, space: Space, goal: Goal, pool: Pool) -> None:
        self._space, self._goal, self._pool = space, goal, pool
        self._ways = {genome: 0.0 for genome in [space.dense] if space.feasible(genome)}
        self._whole: dict[Genome, float] = {}
        self._harder = 1.0
        self.answer: Genome | None = None

    def size(self, genome: Genome) -> int:
        """What a genome costs."""
        return int(getattr(self._space.costs(genome), self._goal.costs[0]))

    def note(self, told: Sequence[Evaluation]) -> None:
        """Takes evaluations, on the goal's sequences and on the whole text."""
        for one in told:
            if one.status == "ok" and one.excess is not None:
                if one.sequences == range(self._goal.sequences):
                    self._ways[one.genome] = 1 + one.excess
                if one.sequences == range(self._pool.sequences):
                    self._whole[one.genome] = 1 + one.excess
        kept = [genome for genome in self._ways if self._way(genome) <= 1]
        self.answer = min(kept, key=lambda genome: (self.size(genome), self._way(genome)), default=None)

    def checked(self) -> Generator[Batch, list[Evaluation], None]:
        """Scores the answer on the whole text, then the next one where that does not keep the budgets there."""
        while self.answer is not None and self.answer not in self._whole and self.answer != self._space.dense:
            answer = self.answer
            told = yield Batch((answer,), range(self._pool.sequences), answer)
            if told[0].excess is None:  # it has failed
                del self._ways[answer]
            elif self._ways[answer] > 0 and told[0].excess > -1:
                self._harder = (1 + told[0].excess) / self._ways[answer]
            self.note(told)

    def _way(self, genome: Genome) -> float:
        """How much of the way from dense to the limits it goes on the whole text, as far as is known."""
        return self._whole.get(genome, self._ways[genome] * self._harder)

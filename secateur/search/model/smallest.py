"""Our own search for the smallest plan that keeps a budget on a score: sizes that close in on where it is met."""

from collections.abc import Sequence

from ...operators.sampling import ends, limited
from ...space.evaluation import Evaluation
from ...space.genome import Genome
from ...space.space import Space
from ..archive import Archive, Goal
from ..steps import Batch, Pool, Steps, noted
from .search import Options, Search

SIZES = 8
"""That sweep and path are aimed at, over all that can go."""
AT_ONCE = 3
"""Sizes that are searched side by side."""
FINE = 1 / 500
"""Of all that can go, which it is not worth to look any closer."""


def surrogate_smallest(
    space: Space, goal: Goal, pool: Pool, seed: int, options: Options, initial: Sequence[Genome] = ()
) -> Steps:
    """Answers with the genome of least cost that keeps the budgets on scores; all on the goal's sequences.

    At each size the least score is searched for, as for a front. The sizes lie between the smallest genome that keeps
    the budgets and the one below which none is expected to: when it gets quiet there, that is raised by half of the way
    up, until they meet.
    """
    archive, cost = Archive(goal), goal.costs[0]
    least, most = ends(space, cost)
    targets = [limited(space, cost, most - (most - least) * part // SIZES) for part in range(1, SIZES + 1)]
    search = Search(space, pool, seed, targets, options)

    def note(_batch: Batch, told: list[Evaluation]) -> None:
        archive.add(told, space.dense)

    def size() -> int:
        answer = archive.knee()
        return most + 1 if answer is None else int(getattr(space.costs(answer), cost))

    yield from noted(search.begin(initial), note)
    low, high = least, size()
    while high > least:
        sizes = dict.fromkeys(high - 1 - (high - 1 - low) * part // AT_ONCE for part in range(AT_ONCE))
        search.aim([limited(space, cost, one) for one in sizes])
        while not search.finished and size() == high:
            yield from noted(search.turn(), note)
        if size() == high:
            if high - 1 - low <= FINE * (most - least):
                break
            low = (low + high) // 2
        low, high = min(low, size() - 1), size()
    return archive.knee()

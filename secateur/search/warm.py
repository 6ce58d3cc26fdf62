"""EvoPress from a warm start: other strategies first, then evolution with what is left of the tokens."""

from collections.abc import Callable, Sequence

from ..space.genome import Genome
from ..space.space import Space
from .evopress import Mutation, Schedule, evopress, sized
from .loop import Spending
from .strategy import Pool, Steps


def warm_evopress(
    space: Space,
    pool: Pool,
    seed: int,
    schedule: Schedule | int,
    mutation: Mutation,
    fresh: bool,
    initial: Sequence[Genome],
    first: Sequence[Callable[[], Steps]],
) -> Steps:
    """Runs each strategy of `first`, then EvoPress from their answers and `initial`.

    `schedule`: explicit, or the number of tokens for everything together, of which the schedule is sized from what the
    first strategies leave.
    """
    spending = Spending(pool.tokens_per_sequence)
    starts = list(initial)
    for make in first:
        answer = yield from _counted(make(), spending)
        if answer is not None:
            starts.append(answer)
    if isinstance(schedule, int):
        schedule = sized(schedule - spending.tokens, pool, fresh)
    return (yield from evopress(space, pool, seed, schedule, mutation, fresh, starts))


def _counted(steps: Steps, spending: Spending) -> Steps:
    """Passes batches through and adds them up."""
    try:
        batch = next(steps)
        while True:
            told = yield batch
            spending.add(batch)
            batch = steps.send(told)
    except StopIteration as end:
        answer: Genome | None = end.value
        return answer

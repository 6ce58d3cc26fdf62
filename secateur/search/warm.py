"""Warm starts: other strategies first, then the one that was asked for with what is left of the tokens."""

from collections.abc import Callable, Sequence

from ..space.front import thinned
from ..space.genome import Genome
from ..space.space import Space
from .archive import Archive, Goal
from .loop import Spending
from .strategy import Batch, Pool, Steps, noted


def warm_start(pool: Pool, first: Sequence[Callable[[], Steps]], then: Callable[[list[Genome], int], Steps]) -> Steps:
    """Runs each strategy of `first`, then `then` with their answers and the tokens that they have taken."""
    spending = Spending(pool.tokens_per_sequence)
    answers = []
    for make in first:
        answer = yield from noted(make(), lambda batch, told: spending.add(batch))
        if answer is not None:
            answers.append(answer)
    return (yield from then(answers, spending.tokens))


def warm_front(
    space: Space,
    goal: Goal,
    most: int,
    initial: Sequence[Genome],
    first: Sequence[Callable[[], Steps]],
    then: Callable[[list[Genome]], Steps],
) -> Steps:
    """Scores `initial`, runs each strategy of `first`, then `then` from at most `most` members of the front so far.

    Nothing is lost of the others: whoever keeps an archive of the whole search has them.
    """
    archive = Archive(goal)
    if initial:
        archive.add((yield Batch(tuple(dict.fromkeys(initial)), range(goal.sequences))), space.dense)
    for make in first:
        yield from noted(make(), lambda batch, told: archive.add(told, space.dense))
    front = [genome for genome in archive.front() if genome != space.dense]
    chosen = thinned([archive.members[genome] for genome in front], most) if front else []
    return (yield from then([front[index] for index in chosen]))

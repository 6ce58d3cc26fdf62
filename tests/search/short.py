"""Searches that are stopped, since they need not have an end of their own."""

from secateur.search.steps import Steps
from secateur.space.genome import Genome


def short(steps: Steps, batches: int = 8) -> Steps:
    """The first batches of a strategy, and its answer then."""
    batch = next(steps)
    for _ in range(batches):
        told = yield batch
        try:
            batch = steps.send(told)
        except StopIteration as end:
            answer: Genome | None = end.value
            return answer
    return batch.incumbent

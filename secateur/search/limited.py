"""Evaluations judged by budgets on scores, whoever searches."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..space.errors import SecateurError
from ..space.evaluation import Evaluation
from ..space.genome import Genome
from ..space.limits import Limit, excess
from ..space.space import Space
from .archive import Archive
from .steps import Batch, Pool

Evaluate = Callable[[Batch], list[Evaluation]]


class Limited:
    """Says of every evaluation how far it is over the budgets on scores.

    What the dense model is worth on the same sequences is asked besides; that is not the search's.
    """

    def __init__(self, evaluate: Evaluate, dense: Genome, limits: Sequence[Limit]) -> None:
        self._evaluate, self._dense, self._limits = evaluate, dense, tuple(limits)

    def __call__(self, batch: Batch) -> list[Evaluation]:
        """As `evaluate`; raises SecateurError where the dense model cannot be scored."""
        told = self._evaluate(batch)
        if not self._limits:
            return told
        [dense] = self._evaluate(Batch((self._dense,), batch.sequences))
        if dense.status == "failed":
            raise SecateurError(f"the dense model cannot be scored: {dense.reason}")
        return [one if one.status == "failed" else self._judged(one, dense) for one in told]

    def _judged(self, one: Evaluation, dense: Evaluation) -> Evaluation:
        return replace(one, excess=excess(self._limits, one, dense))


def settled(
    archive: Archive, space: Space, pool: Pool, evaluate: Evaluate, whole: Sequence[Genome] = ()
) -> Genome | None:
    """The smallest of a front that keeps the budgets on scores on the whole text, found by halving: the larger a
    member, the less it loses. None where none does.

    Members were compared on a part of the text, which may have been an easy one. This comes on top of what the search
    may spend: as many evaluations as the front has to be halved. `whole`: what is known to keep them there.
    """
    [cost] = archive.goal.costs

    def size(genome: Genome) -> int:
        return int(getattr(space.costs(genome), cost))

    found = min(whole, key=size, default=None)
    members = sorted(archive.front(), key=lambda genome: (size(genome), archive.members[genome]))
    if archive.goal.sequences >= pool.sequences:
        return members[0] if members else None
    if found is not None:
        members = [genome for genome in members if size(genome) < size(found)]
    low, high = 0, len(members) - 1
    while low <= high:
        middle = (low + high) // 2
        [told] = evaluate(Batch((members[middle],), range(pool.sequences)))
        if told.status != "failed" and told.keeps:
            found, high = members[middle], middle - 1
        else:
            low = middle + 1
    return found

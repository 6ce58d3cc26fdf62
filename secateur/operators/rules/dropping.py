"""Dropping blocks in an order that a rule gives."""

from collections.abc import Iterable

from ...space.errors import SecateurError
from ...space.genome import Genome
from ...space.space import Space


def drop_blocks(space: Space, order: Iterable[int]) -> Genome:
    """Drops blocks in `order` until the budgets hold, and of the last one only the sublayers that are needed.

    Raises:
        SecateurError: dropping them all is not enough, or the space has no genes that drop.
    """
    genome = space.dense
    for block in order:
        if space.feasible(genome):
            break
        whole = [i for i, g in enumerate(space.genes) if g.drops and g.members[0][0] == block]
        # The cheapest sufficient part of the last block, so that the rule removes no more than a search has to.
        parts = [_dropped(space, genome, [index]) for index in whole]
        sufficient = [part for part in parts if space.feasible(part)]
        if sufficient:
            return max(sufficient, key=lambda part: space.costs(part).parameters)
        genome = _dropped(space, genome, whole)
    if not space.feasible(genome):
        raise SecateurError("dropping these blocks does not keep the budgets")
    return genome


def _dropped(space: Space, genome: Genome, indices: Iterable[int]) -> Genome:
    for index in indices:
        genome = genome.with_level(index, len(space.genes[index].levels) - 1)
    return space.canonical(genome)

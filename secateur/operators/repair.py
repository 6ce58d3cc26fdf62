"""Bringing a genome onto the budgets: compress until they hold, then give back what fits."""

import numpy as np

from ..space.errors import SecateurError
from ..space.genome import Genome
from ..space.space import Space


def compress(genome: Genome, space: Space, rng: np.random.Generator, keep: frozenset[int] = frozenset()) -> Genome:
    """Deepens random genes by one level at a time until every budget holds; returns a canonical genome.

    Genes in `keep` are deepened only when no other gene is left.

    Raises:
        SecateurError: no genome of the space keeps the budgets.
    """
    genome = space.canonical(genome)
    deepest = [len(gene.levels) - 1 for gene in space.genes]
    preferred: list[int] = []
    while not space.feasible(genome):
        if not preferred:
            places = zip(space.active(genome), genome.levels, deepest, strict=True)
            open_genes = [index for index, (active, level, last) in enumerate(places) if active and level < last]
            preferred = [index for index in open_genes if index not in keep] or open_genes
        if not preferred:
            space.check_budgets()
            raise SecateurError("the budgets cannot be kept from this genome")
        index = preferred[int(rng.integers(len(preferred)))]
        genome = space.canonical(genome.with_level(index, genome.levels[index] + 1))
        # Where no gene silences another, the list stays as it is until one has come to its end.
        if not space.activity.independent or genome.levels[index] == deepest[index]:
            preferred = []
    return genome


def tighten(genome: Genome, space: Space, rng: np.random.Generator, keep: frozenset[int] = frozenset()) -> Genome:
    """Returns budget that is left over: makes genes denser, in random order, while every budget still holds.

    Afterwards no single gene outside `keep` can be made one level denser. Keeps every budget that held before.
    """
    genome = space.canonical(genome)
    if not space.budgets:
        return genome
    active = space.active(genome)
    for index in rng.permutation(len(space.genes)).tolist():
        while index not in keep and active[index] and genome.levels[index] > 0:
            denser = space.canonical(genome.with_level(index, genome.levels[index] - 1))
            if not space.feasible(denser):
                break
            genome, active = denser, space.active(denser)
    return genome


def repair(genome: Genome, space: Space, rng: np.random.Generator) -> Genome:
    """Any legal genome to one that keeps every budget and leaves no room for a denser gene."""
    return tighten(compress(genome, space, rng), space, rng)

"""New genomes from nothing, or from a profile."""

from collections.abc import Iterable, Sequence

import numpy as np

from ..space.budget import Budget
from ..space.gene import Kind, nearest_level
from ..space.genome import Genome
from ..space.space import Space
from ..space.state import BlockState
from .repair import compress, repair, tighten


def uniform(space: Space, rng: np.random.Generator) -> Genome:
    """Each gene at a level drawn uniformly; legal, but over or far under the budgets. Canonical."""
    return space.canonical(Genome(tuple(int(rng.integers(len(gene.levels))) for gene in space.genes)))


def on_budget(space: Space, rng: np.random.Generator) -> Genome:
    """A random genome that keeps every budget and leaves no room for a denser gene."""
    return tighten(compress(space.dense, space, rng), space, rng)


def as_many_of_each(space: Space, rng: np.random.Generator) -> Genome:
    """A random genome that drops as many genes of each kind, the fewest that keep every budget: EvoPress's start.

    As published (commit 50888a0188): attention is drawn first, then MLP. What a budget leaves beside that number is
    given back. Where genes can be more than kept or dropped, or no such number keeps the budgets, `on_budget`.
    """
    kinds: dict[Kind, list[int]] = {}
    for index, gene in enumerate(space.genes):
        kinds.setdefault(gene.kind, []).append(index)
    if any(not gene.drops or len(gene.levels) > 2 for gene in space.genes):
        return on_budget(space, rng)

    def dropping(genes: Iterable[int]) -> Genome:
        gone = frozenset(genes)
        return space.canonical(Genome(tuple(int(index in gone) for index in range(len(space.genes)))))

    for fewest in range(min(map(len, kinds.values())) + 1):
        if space.feasible(dropping(index for genes in kinds.values() for index in genes[:fewest])):
            drawn = [genes[int(at)] for genes in kinds.values() for at in rng.choice(len(genes), fewest, replace=False)]
            genome = dropping(drawn)
            return tighten(genome if space.feasible(genome) else compress(genome, space, rng), space, rng)
    return on_budget(space, rng)


def sized(space: Space, costs: Sequence[str], rng: np.random.Generator) -> Genome:
    """A random genome of a random size: on a limit of one of `costs`, drawn evenly from the smallest to the budgets.

    Genes drawn one by one would nearly all give genomes of middling size; a front needs every size. Without `costs` the
    genome is on the budgets.
    """
    return spread(space, [costs[int(rng.integers(len(costs)))]] if costs else (), 1, rng)[0]


def spread(space: Space, costs: Sequence[str], count: int, rng: np.random.Generator) -> list[Genome]:
    """`count` random genomes whose sizes are spread evenly over the range of each of `costs` in turn."""
    if not costs:
        return [on_budget(space, rng) for _ in range(count)]
    genomes = []
    for number in range(count):
        cost, place, places = costs[number % len(costs)], number // len(costs), -(-count // len(costs))
        least, most = ends(space, cost)
        limit = least + int((place + rng.random()) / places * (most - least + 1))
        genomes.append(on_budget(limited(space, cost, limit), rng))
    return genomes


def ends(space: Space, cost: str) -> tuple[int, int]:
    """What the smallest genome costs, and the most that the budgets allow.

    Where the model has zeros by itself, that a repair fills, the dense one may have fewer weights than the smallest.
    """
    budget = Budget(cost, 0, "")
    limits = [one.limit for one in space.budgets if one.cost == cost]
    least = budget.of(space.costs(space.smallest))
    return least, max(least, min([budget.of(space.costs(space.dense)), *limits]))


def limited(space: Space, cost: str, limit: int) -> Space:
    """The space with one more limit; of two on the same cost the smaller counts."""
    limit = min([limit, *(one.limit for one in space.budgets if one.cost == cost)])
    others = tuple(one for one in space.budgets if one.cost != cost)
    return space.with_budgets((*others, Budget(cost, limit, f"<= {limit}")))


def near_profile(space: Space, profile: Genome, noise: float, rng: np.random.Generator) -> Genome:
    """`profile` with normal noise of `noise` levels on every active gene, brought back onto the budgets."""
    shifted = np.array(profile.levels) + np.rint(rng.normal(0.0, noise, len(profile.levels))).astype(int)
    shifted = np.where(space.active(profile), shifted, 0)
    levels = tuple(int(np.clip(level, 0, len(g.levels) - 1)) for level, g in zip(shifted, space.genes, strict=True))
    return repair(Genome(levels), space, rng)


def from_shares(space: Space, shares: Sequence[float], rng: np.random.Generator) -> Genome:
    """The genome nearest to a real-valued profile, brought onto the budgets.

    `shares` has, for each gene, the share to remove in [0, 1]: of zero weights, or of what a structured gene keeps.
    """
    levels = tuple(nearest_level(gene, share) for gene, share in zip(space.genes, shares, strict=True))
    return repair(Genome(levels), space, rng)


def from_states(space: Space, states: Sequence[BlockState]) -> Genome:
    """The genome nearest to what another plan makes of each block, gene by gene; it may break the budgets."""
    levels = [gene.kind.nearest(gene, states, space.anatomy) for gene in space.genes]
    return space.canonical(Genome(tuple(levels)))

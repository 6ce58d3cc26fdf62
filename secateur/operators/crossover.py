"""One genome from two: each returns a child on the budgets that has, before repair, only levels of its parents."""

from collections.abc import Callable

import numpy as np

from ..space.genome import Genome
from ..space.space import Space
from .repair import repair

Settle = Callable[[Genome, Space, np.random.Generator], Genome]
"""What is done about the budgets; `compress` keeps a child's own size where `repair` uses a budget up."""


def uniform(first: Genome, second: Genome, space: Space, rng: np.random.Generator, settle: Settle = repair) -> Genome:
    """Each gene from either parent with equal chance."""
    return _mix(first, second, rng.random(len(space.genes)) < 0.5, space, rng, settle)


def graft(first: Genome, second: Genome, space: Space, rng: np.random.Generator, settle: Settle = repair) -> Genome:
    """The first parent with a random share of the genes, at most half, from the second."""
    return _mix(first, second, rng.random(len(space.genes)) >= rng.random() / 2, space, rng, settle)


def one_point(first: Genome, second: Genome, space: Space, rng: np.random.Generator, settle: Settle = repair) -> Genome:
    """Blocks before a random block from one parent, the others from the second; a gene over several goes by its first.

    Genes are cut in depth order, not in the order in which a recipe declares their kinds.
    """
    cut = int(rng.integers(1, max(2, len(space.anatomy.blocks))))
    return _mix(first, second, np.array([gene.members[0][0] < cut for gene in space.genes]), space, rng, settle)


def by_block(first: Genome, second: Genome, space: Space, rng: np.random.Generator, settle: Settle = repair) -> Genome:
    """All genes of a block from the same parent, blocks with equal chance."""
    chosen = rng.random(len(space.anatomy.blocks)) < 0.5
    return _mix(first, second, np.array([chosen[gene.members[0][0]] for gene in space.genes]), space, rng, settle)


def _mix(
    first: Genome, second: Genome, mask: np.ndarray, space: Space, rng: np.random.Generator, settle: Settle
) -> Genome:
    pairs = zip(mask, first.levels, second.levels, strict=True)
    return settle(Genome(tuple(a if take else b for take, a, b in pairs)), space, rng)

"""Bringing a genome onto the budgets: compress until they hold, then give back what fits."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..space.errors import SecateurError
from ..space.genome import Genome
from ..space.space import Space
from ..space.steps import is_free, room, step, steps

Levels = NDArray[np.intp]
DRAWN = 4
"""Steps that are drawn at first, for each gene; then twice as many, until the budgets hold."""


def compress(genome: Genome, space: Space, rng: np.random.Generator, keep: frozenset[int] = frozenset()) -> Genome:
    """Deepens random genes by one level at a time until every budget holds; returns a canonical genome.

    Genes in `keep` are deepened only when no other gene is left.

    The steps are drawn first, and how many of them are needed is then found by bisection: no level raises any cost. A
    step of a gene that is at its end, or that others have silenced, is none, so that those that count are drawn evenly
    from the genes that can go deeper.

    Raises:
        SecateurError: no genome of the space keeps the budgets.
    """
    genome = space.canonical(genome)
    if space.feasible(genome):
        return genome
    deepest = np.array([len(gene.levels) - 1 for gene in space.genes])
    kept = np.zeros(len(deepest), dtype=bool)
    kept[list(keep)] = True
    for genes in (np.flatnonzero(~kept), np.flatnonzero(kept)):
        left = np.zeros_like(deepest)
        left[genes] = deepest[genes] - np.array(genome.levels)[genes]
        if not left.any():
            continue
        last = _deeper(space, genome, left)
        if space.feasible(last):
            return _first(space, genome, left, genes, rng)
        genome = last
    space.check_budgets()
    raise SecateurError("the budgets cannot be kept from this genome")


def _first(space: Space, genome: Genome, left: Levels, genes: Levels, rng: np.random.Generator) -> Genome:
    """The first genome on a random way down that keeps the budgets; that of all steps that are `left` does."""
    drawn = genes[rng.integers(len(genes), size=DRAWN * len(genes))]

    def after(count: int) -> Genome:
        return _deeper(space, genome, np.minimum(np.bincount(drawn[:count], minlength=len(left)), left))

    while not space.feasible(after(len(drawn))):
        drawn = np.concatenate([drawn, genes[rng.integers(len(genes), size=len(drawn))]])
    low, high = 0, len(drawn)  # of these steps the first are too few, and the second are enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if space.feasible(after(middle)) else (middle, high)
    return after(high)


def _deeper(space: Space, genome: Genome, by: Levels) -> Genome:
    return space.canonical(Genome(tuple((np.array(genome.levels) + by).tolist())))


def tighten(genome: Genome, space: Space, rng: np.random.Generator, keep: frozenset[int] = frozenset()) -> Genome:
    """Returns budget that is left over: makes genes denser, in random order, while every budget still holds.

    Afterwards no single gene outside `keep` can be made one level denser. Keeps every budget that held before.
    """
    genome = space.canonical(genome)
    if not space.budgets:
        return genome
    spare = Spare(space, genome)
    for index in spare.possible(rng.permutation(len(space.genes))):
        while index not in keep and spare.fits(index):
            spare.make_denser(index)
    return spare.genome


class Spare:
    """A genome and what the budgets leave beside it, as its genes are made denser."""

    def __init__(self, space: Space, genome: Genome) -> None:
        self.space, self.genome = space, genome
        self._look()

    def _look(self) -> None:
        self._active = self.space.active(self.genome)
        if self.space.adds_up:
            self._room, self._added = room(self.space, self.genome), steps(self.space, self.genome, -1)
            self._compare()

    def possible(self, genes: Levels) -> list[int]:
        """Those of the genes that may be made denser, now or after others."""
        if self.space.adds_up and self.space.pricing.free.all():  # the room then never grows
            genes = genes[np.array(self._fit)[genes]]
        found: list[int] = genes.tolist()
        return found

    def fits(self, index: int) -> bool:
        """Whether a gene can be made a level denser."""
        if not self._active[index] or not self.genome.levels[index]:
            return False
        free = is_free(self.space, index)
        # A step to dense may leave nothing in the file that is packed.
        rounds = self.space.rounds and (not free or self.genome.levels[index] == 1)
        if rounds or not self.space.adds_up or index == self.space.everywhere:
            return self.space.feasible(self._denser(index))
        return self._fit[index] if free else bool((self._step(index) <= self._room).all())

    def make_denser(self, index: int) -> None:
        """Makes it so, where it fits."""
        free = is_free(self.space, index)
        if free:
            self._room = self._room - self._added[index]
        self.genome = self._denser(index)
        if not free:  # who is active may have changed, and what everything takes
            self._look()
            return
        if self.genome.levels[index]:
            self._added[index] = self._step(index)
        self._compare()

    def _denser(self, index: int) -> Genome:
        return self.space.canonical(self.genome.with_level(index, self.genome.levels[index] - 1))

    def _step(self, index: int) -> NDArray[np.int64]:
        return step(self.space, self.genome, index, self.genome.levels[index] - 1)

    def _compare(self) -> None:
        fit = np.all(self._added <= self._room, axis=1)
        self._fit: Sequence[bool] = fit.tolist()


def repair(genome: Genome, space: Space, rng: np.random.Generator) -> Genome:
    """Any legal genome to one that keeps every budget and leaves no room for a denser gene."""
    return tighten(compress(genome, space, rng), space, rng)

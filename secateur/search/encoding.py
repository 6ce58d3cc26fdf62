"""Two ways in which a library's vector of numbers stands for a genome.

`Levels`: one whole number per gene, its level. `Shares`: one real number per gene, how much its compression hurts, and
one more, how large the genome may be in the goal's first cost; the exact knapsack decodes them, so that every vector is
a genome on its budgets (SPDY, Frantar and Alistarh 2022, arXiv 2201.13096, sec. 3.3).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..operators.repair import compress
from ..operators.sampling import ends, limited, spread
from ..space.genome import Genome
from ..space.space import Space
from .model.knapsack import check_clusters, solve
from .problem import Problem
from .sweep import Table

CELLS = 2000
"""Table cells of one decoding; a few milliseconds."""
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Levels:
    """One level per gene."""

    space: Space
    costs: tuple[str, ...]

    @property
    def upper(self) -> Vector:
        """The largest value of each variable; the smallest is 0."""
        return np.array([len(gene.levels) - 1 for gene in self.space.genes], dtype=np.float64)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(gene.key for gene in self.space.genes)

    def decode(self, vector: Sequence[float]) -> Genome:
        """The canonical genome, compressed onto the budgets where it breaks them, always in the same way."""
        levels = tuple(int(level) for level in vector)
        return compress(Genome(levels), self.space, np.random.default_rng(levels))

    def excess(self, vector: Sequence[float]) -> list[float]:
        """How far the genome is over each budget before it is compressed, in shares of the limit; at most 0 is kept."""
        costs = self.space.costs(self.space.canonical(Genome(tuple(int(level) for level in vector))))
        return [budget.excess(costs) for budget in self.space.budgets]

    def encode(self, genome: Genome) -> Vector:
        return np.array(genome.levels, dtype=np.float64)

    def random(self, count: int, rng: np.random.Generator) -> list[Vector]:
        """Genomes of every size (`operators.sampling.spread`)."""
        return [self.encode(genome) for genome in spread(self.space, self.costs, count, rng)]


@dataclass(frozen=True)
class Shares:
    """A sensitivity per gene and, where the goal has a cost, a size in the first of them, all in [0, 1]."""

    space: Space
    costs: tuple[str, ...]

    @property
    def upper(self) -> Vector:
        return np.ones(len(self.names))

    @property
    def names(self) -> tuple[str, ...]:
        return (*(gene.key for gene in self.space.genes), *(f"size {cost}" for cost in self.costs[:1]))

    @cached_property
    def _removed(self) -> list[list[float]]:
        """The share that each level of each gene removes, squared: SPDY's guess at how loss grows."""
        return [[gene.removed(level) ** 2 for level in range(len(gene.levels))] for gene in self.space.genes]

    @cached_property
    def _ends(self) -> list[tuple[int, int]]:
        return [ends(self.space, cost) for cost in self.costs[:1]]

    def decode(self, vector: Sequence[float]) -> Genome:
        """The genome of least summed sensitivity that keeps the budgets and the sizes."""
        genes = len(self.space.genes)
        weights = [max(float(value), 1e-6) for value in vector[:genes]]
        added = tuple(tuple(w * r for r in row) for w, row in zip(weights, self._removed, strict=True))
        space = self.space
        for cost, size, (least, most) in zip(self.costs[:1], vector[genes:], self._ends, strict=True):
            space = limited(space, cost, least + int(float(size) * (most - least)))
        return solve(space, Table(0.0, added), CELLS)

    def excess(self, vector: Sequence[float]) -> list[float]:
        """Nothing: every vector keeps the budgets."""
        return []

    def encode(self, genome: Genome) -> Vector:
        """A vector that decodes to nearly this genome: what it compresses most is least sensitive."""
        costs = self.space.costs(genome)
        kept = [1 - row[level] for row, level in zip(self._removed, genome.levels, strict=True)]
        sizes = [
            (getattr(costs, cost) - least) / max(1, most - least)
            for cost, (least, most) in zip(self.costs[:1], self._ends, strict=True)
        ]
        return np.clip([0.05 + 0.9 * value for value in kept] + sizes, 0.0, 1.0)

    def random(self, count: int, rng: np.random.Generator) -> list[Vector]:
        """Any vectors: the last number makes genomes of every size of them."""
        return list(rng.random((count, len(self.upper))))


Encoding = Levels | Shares
EncodingName = Literal["levels", "shares"]


def encoding_of(name: EncodingName, problem: Problem) -> Encoding:
    """The encoding of that name for a search for a front.

    Raises:
        SecateurError: too many structured genes hang together for `shares` to be decoded.
    """
    costs = problem.goal.costs if problem.goal is not None else ()
    if name == "levels":
        return Levels(problem.space, costs)
    check_clusters(problem.space)
    return Shares(problem.space, costs)

"""Covariances around one genome: what a change or two make of them, without a look at all the other genes.

A local search asks for thousands of neighbours of one genome. Every term of the covariance with what is known is a sum
over genes, or over pairs of genes that are near each other, divided by a total: so a neighbour's terms are those of the
genome and what its changes add to them.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Levels = NDArray[np.intp]
MOST = 2
"""Changes of a neighbour that are added up here."""


@dataclass(frozen=True)
class Tables:
    """What a model knows gene by gene; tables are filled up with zeros where a gene has fewer levels.

    Attributes:
        added: (genes, levels), what each level adds to the loss.
        depths: (genes, levels), the level from 0 to 1; 0 for genes of two levels.
        alike: (genes, levels, levels), what two levels have in common; 0 for genes of two levels.
        near: (genes, genes), 1 where two genes are near each other; sparse.
        shares, levels: (known, genes), of the genomes that are known: unit vectors, and levels.
        middle: (genes,), of the depths.
    """

    added: Array
    depths: Array
    alike: Array
    near: Any
    shares: Array
    levels: Levels
    middle: Array


class Sums(NamedTuple):
    """Of neighbours, (neighbours,) each: of what levels add, its squares, near pairs' products, squared depths; and
    (neighbours, known) each: of products with shares squared, with shares, of near pairs, of depths, of likeness."""

    total: Array
    squared: Array
    paired: Array
    deep: Array
    squares: Array
    dots: Array
    pairs: Array
    slopes: Array
    curves: Array


class Around:
    """The sums of one genome's neighbours."""

    def __init__(self, tables: Tables, genome: Levels) -> None:
        self._tables, self._genome = tables, genome
        places = np.arange(len(genome))
        self._added, self._depth = tables.added[places, genome], tables.depths[places, genome] - tables.middle
        self._root = np.sqrt(self._added)
        weighted = tables.shares * self._root
        self._beside, self._own_beside = (tables.near @ weighted.T).T, tables.near @ self._added
        self._depths = tables.depths[places, tables.levels] - tables.middle
        self._alike = tables.alike[places, genome]
        self._base = Sums(
            self._added.sum(),
            (self._added**2).sum(),
            self._added @ self._own_beside / 2,
            (self._depth**2).sum(),
            tables.shares**2 @ self._added,
            weighted.sum(axis=1),
            (weighted * self._beside).sum(axis=1) / 2,
            self._depths @ self._depth,
            self._alike[places, tables.levels].sum(axis=1),
        )

    def few(self, levels: Levels) -> NDArray[np.bool_]:
        """(neighbours,), whose levels (neighbours, genes) differ in so few genes that `sums` can be asked."""
        changes = (levels != self._genome).sum(axis=1)
        found: NDArray[np.bool_] = (changes > 0) & (changes <= MOST)
        return found

    def sums(self, levels: Levels) -> Sums:
        """Of neighbours, levels (neighbours, genes)."""
        tables = self._tables
        rows, genes = np.nonzero(levels != self._genome)
        first = np.searchsorted(rows, np.arange(len(levels)))
        old, new = self._genome[genes], levels[rows, genes]
        more = tables.added[genes, new] - self._added[genes]
        deeper = tables.depths[genes, new] - tables.depths[genes, old]
        shares, known = tables.shares[:, genes].T, tables.levels[:, genes].T
        rooted = (np.sqrt(tables.added[genes, new]) - self._root[genes])[:, None] * shares
        # Of a neighbour's two changes the second also meets the first.
        met = np.flatnonzero(np.diff(rows, prepend=-1) == 0)
        near = np.asarray(tables.near[genes[met], genes[met - 1]]).ravel()
        own_met, met_pairs = np.zeros(len(rows)), np.zeros_like(rooted)
        own_met[met] = near * more[met] * more[met - 1]
        met_pairs[met] = near[:, None] * rooted[met] * rooted[met - 1]
        changes = np.arange(len(genes))[:, None]
        alike = tables.alike[genes, new][changes, known] - tables.alike[genes, old][changes, known]
        added = Sums(
            more,
            more * (2 * self._added[genes] + more),
            more * self._own_beside[genes] + own_met,
            deeper * (2 * self._depth[genes] + deeper),
            more[:, None] * shares**2,
            rooted,
            rooted * self._beside[:, genes].T + met_pairs,
            deeper[:, None] * self._depths[:, genes].T,
            alike,
        )
        return Sums(*(base + np.add.reduceat(one, first, axis=0) for base, one in zip(self._base, added, strict=True)))

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
        touching: the same, dense.
        shares, levels: (known, genes), of the genomes that are known: unit vectors, and levels.
        middle: (genes,), of the depths.
    """

    added: Array
    depths: Array
    alike: Array
    near: Any
    touching: NDArray[np.bool_]
    shares: Array
    levels: Levels
    middle: Array


class Scales(NamedTuple):
    """Variances of the terms that are added up here."""

    squares: float
    near: float
    pairs: float
    slopes: float
    curves: float


class Sums(NamedTuple):
    """Of neighbours, (neighbours,) each: of what levels add, its squares, near pairs' products, squared depths; and
    (neighbours, known) each, by `Scales`: what is divided by the total, products with shares, depths and likeness."""

    total: Array
    squared: Array
    paired: Array
    deep: Array
    shared: Array
    dots: Array
    free: Array


class Around:
    """The sums of one genome's neighbours."""

    def __init__(self, tables: Tables, genome: Levels, scales: Scales) -> None:
        self._tables, self._genome, self._scales = tables, genome, scales
        places = np.arange(len(genome))
        self._added, self._depth = tables.added[places, genome], tables.depths[places, genome] - tables.middle
        self._root = np.sqrt(self._added)
        weighted = tables.shares * self._root
        self._beside, self._own_beside = (tables.near @ weighted.T).T, tables.near @ self._added
        self._depths = tables.depths[places, tables.levels] - tables.middle
        squares, near = tables.shares**2 @ self._added, (weighted * self._beside).sum(axis=1) / 2
        alike = tables.alike[places, genome][places, tables.levels].sum(axis=1)
        self._base = Sums(
            self._added.sum(),
            (self._added**2).sum(),
            self._added @ self._own_beside / 2,
            (self._depth**2).sum(),
            (scales.squares - scales.pairs / 2) * squares + scales.near * near,
            weighted.sum(axis=1),
            scales.slopes * (self._depths @ self._depth) + scales.curves * alike,
        )

    def few(self, levels: Levels) -> NDArray[np.bool_]:
        """(neighbours,), whose levels (neighbours, genes) differ in so few genes that `sums` can be asked."""
        changes = (levels != self._genome).sum(axis=1)
        found: NDArray[np.bool_] = (changes > 0) & (changes <= MOST)
        return found

    def sums(self, levels: Levels) -> Sums:
        """Of neighbours, levels (neighbours, genes): what each change makes of the base, and what two make together."""
        rows, genes = np.nonzero(levels != self._genome)
        most = self._tables.added.shape[1]
        # Many neighbours have the same changes.
        changes, place = np.unique(genes * most + levels[rows, genes], return_inverse=True)
        gene, level = np.divmod(changes, most)
        one = self._changes(gene, level)
        first = np.searchsorted(rows, np.arange(len(levels)))
        found = Sums(*(base + of[place[first]] for base, of in zip(self._base, one, strict=True)))
        second = np.flatnonzero(np.diff(rows, prepend=-1) == 0)
        both = rows[second]
        for total, of in zip(found, one, strict=True):
            total[both] += of[place[second]]
        # Of a neighbour's two changes the second also meets the first, where their genes are near each other.
        a, b = place[second - 1], place[second]
        met = np.flatnonzero(self._tables.touching[gene[a], gene[b]])
        a, b, both = a[met], b[met], both[met]
        found.paired[both] += one.total[a] * one.total[b]
        found.shared[both] += self._scales.near * one.dots[a] * one.dots[b]
        return found

    def _changes(self, genes: Levels, new: Levels) -> Sums:
        """What each of some changes adds to the base."""
        tables, scales, old = self._tables, self._scales, self._genome[genes]
        more = tables.added[genes, new] - self._added[genes]
        deeper = tables.depths[genes, new] - tables.depths[genes, old]
        shares, known = tables.shares[:, genes].T, tables.levels[:, genes].T
        rooted = (np.sqrt(tables.added[genes, new]) - self._root[genes])[:, None] * shares
        numbers = np.arange(len(genes))[:, None]
        alike = tables.alike[genes, new][numbers, known] - tables.alike[genes, old][numbers, known]
        squares = more[:, None] * shares**2
        return Sums(
            more,
            more * (2 * self._added[genes] + more),
            more * self._own_beside[genes],
            deeper * (2 * self._depth[genes] + deeper),
            (scales.squares - scales.pairs / 2) * squares + scales.near * rooted * self._beside[:, genes].T,
            rooted,
            scales.slopes * deeper[:, None] * self._depths[:, genes].T + scales.curves * alike,
        )

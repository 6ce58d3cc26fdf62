"""The surrogate: what a genome's loss will be, and how sure that is, from all that a run has evaluated.

An additive prior times a learned correction. The prior adds up what every level costs on its own; where removals act on
the residual stream independently, that is the loss. What it misses is learned by a Gaussian process on the logarithm of
loss over prior (Rasmussen and Williams 2006, sec. 2.7 and 5.4), whose covariance has terms for the size of the cut, for
each gene, and for pairs of genes: pairs of the same and of neighbouring blocks have one of their own. Genes of more
than two levels have two more: a slope along the levels, and an effect of every level, like that of its neighbours
(additive processes, Duvenaud et al. 2011), since a sweep of few levels says little of the curve between them.

The features follow from second-order perturbation: if a change i alone adds m_i = |d_i|^2, then several add
|sum d_i|^2 = sum m_i + 2 sum rho_ij sqrt(m_i m_j). With u_i = sqrt(m_i / sum m), a unit vector, the ratio to the
prior is 1 + 2 sum rho_ij u_i u_j: unknown rho are learned as weights of the products u_i u_j, whatever the size of
the cut.
"""

from collections.abc import Sequence

import numpy as np
import scipy  # whose parts are loaded when they are first used
from numpy.typing import NDArray

from ...space.genome import Genome
from ...space.space import Space
from .features import FLOOR, JITTER, Array, Features, curves_of, increasing, matrix, near_pairs
from .near import Around, Scales, Tables

TERMS = ("constant", "size", "gene", "near pair", "pair", "slope", "level", "noise")
START = (0.3, 0.1, 0.5, 0.5, 0.5, 0.1, 0.03, 0.05)
"""Standard deviations of the terms of the logarithm of the loss before the data have had their say."""
WIDTH = 1.5
"""Of the prior on the logarithms of these."""
REFIT = 1.15
BOUNDS = (
    *((1e-3, 3.0), (1e-3, 1.0), (1e-3, 3.0), (1e-3, 5.0), (1e-3, 5.0), (1e-3, 1.0), (1e-3, 0.3)),
    (3e-3, 0.5),
)
AT_ONCE = 200
"""Genomes that the model looks at together."""


class LossModel:
    """Predicts the logarithm of the loss of genomes of `space`.

    `added` has one row for each gene with the loss that each level adds on its own, level 0 first; see `sweep.Table`.
    """

    def __init__(self, space: Space, added: Sequence[Sequence[float]]) -> None:
        deepest = [row[-1] for row in added if 0 < row[-1] < np.inf]
        least = FLOOR * float(np.median(deepest)) if deepest else 1e-6
        most = 100 * max(deepest, default=1.0)
        self._added = [increasing(np.array(row, dtype=float), least, most) for row in added]
        self._least = least / 1000
        self._near_pairs = near_pairs(space)
        self._many = [(index, curves_of(len(row))) for index, row in enumerate(self._added) if len(row) > 2]
        self._scales = np.array(START)
        self._known: Features | None = None
        self._centre, self._spread, self._fitted = 0.0, 1.0, 0
        self._middle = np.zeros(len(self._many))

    def features(self, levels: NDArray[np.intp]) -> Features:
        added = np.stack([row[levels[:, index]] for index, row in enumerate(self._added)], axis=1)
        total = np.maximum(added.sum(1), self._least)
        none = np.zeros((len(levels), 0))
        depths = [levels[:, index] / (len(curves) - 1) for index, curves in self._many]
        curves = [curves[levels[:, index]] for index, curves in self._many]
        return Features(
            np.log(total),
            np.sqrt(added / total[:, None]),
            np.stack(depths, axis=1) if depths else none,
            np.concatenate(curves, axis=1) if curves else none,
        )

    def fit(
        self, genomes: Sequence[Genome], losses: Sequence[float], sequences: Sequence[int], told: int | None = None
    ) -> None:
        """Learns from evaluations; each loss is a mean over a number of `sequences`, which says how noisy it is.

        The scales of the terms are those of the greatest marginal likelihood, kept from straying by a wide prior, and
        found anew when `REFIT` times as many evaluations were told, of which these may be a part.
        """
        known = self.features(matrix(genomes))
        self._centre, self._spread = float(known.prior.mean()), float(known.prior.std()) or 1.0
        self._middle = known.depths.mean(0)
        target = np.log(np.maximum(losses, self._least)) - known.prior
        counts = np.array(sequences, dtype=float)
        grams = self._grams(known, known)
        if (told or len(genomes)) >= REFIT * self._fitted:
            self._fitted = told or len(genomes)
            self._scales = _likeliest(grams, target, counts, self._scales)
        factor = _factor(grams, self._scales, counts)
        assert factor is not None
        self._factor, self._weights = factor, scipy.linalg.cho_solve(factor, target)
        self._known, self._tables = known, self._in_tables(known, matrix(genomes))

    def mean(self, levels: NDArray[np.intp]) -> Array:
        """Of the logarithm of the loss (genomes,), for levels (genomes, genes)."""
        return self._told(levels, deviating=False)[0]

    def predict(self, levels: NDArray[np.intp]) -> tuple[Array, Array]:
        """Mean and standard deviation (genomes,) of the logarithm of the loss over the whole text; see `matrix`."""
        return self._told(levels)

    def around(self, genome: Genome, levels: NDArray[np.intp], deviating: bool = True) -> tuple[Array, Array]:
        """`predict` for neighbours of a genome, of most of which it looks at what differs only.

        `deviating`: false where only the means are wanted, which takes less.
        """
        near = None
        if self._known is not None:
            _, _, *scales = (self._scales[:-1] ** 2).tolist()
            near = Around(self._tables, np.array(genome.levels, dtype=np.intp), Scales(*scales))
        return self._told(levels, near, deviating)

    def _told(
        self, levels: NDArray[np.intp], near: Around | None = None, deviating: bool = True
    ) -> tuple[Array, Array]:
        """Some at a time, since each has features for every pair of genes that are near each other."""
        mean, deviation = np.empty(len(levels)), np.full(len(levels), START[0])
        few = near.few(levels) if near is not None else np.zeros(len(levels), dtype=bool)
        for where in (np.flatnonzero(few), np.flatnonzero(~few)):
            for some in np.array_split(where, -(-len(where) // AT_ONCE)) if len(where) else ():
                if self._known is None:
                    mean[some] = self.features(levels[some]).prior
                    continue
                if near is not None and few[some[0]]:
                    cross, prior, own = self._near(near, levels[some])
                else:
                    cross, prior, own = self._far(levels[some])
                mean[some] = prior + cross @ self._weights
                if deviating:
                    variance = own - np.einsum("ij,ji->i", cross, scipy.linalg.cho_solve(self._factor, cross.T))
                    deviation[some] = np.sqrt(np.maximum(variance, 1e-10))
        return mean, deviation

    def _near(self, around: Around, levels: NDArray[np.intp]) -> tuple[Array, Array, Array]:
        """Covariances with what is known, (neighbours, known), logarithms of the prior, and own variances."""
        assert self._known is not None
        one, many = around.sums(levels), len(self._many) * (1 + JITTER)
        total = np.maximum(one.total, self._least)
        prior = np.log(total)
        size = (prior - self._centre) / self._spread
        scales = self._scales[:-1] ** 2
        cross = one.dots**2
        cross *= scales[4] / 2
        cross += one.shared
        cross /= total[:, None]
        cross += one.free
        cross += np.outer(scales[1] * size, self._size(self._known)) + scales[0]
        squared = one.squared / total**2
        paired = ((one.total / total) ** 2 - squared) / 2
        own = (1.0, size**2, squared, one.paired / total**2, paired, one.deep, many)
        return cross, prior, np.asarray(sum(s * term for s, term in zip(scales, own, strict=True)))

    def _far(self, levels: NDArray[np.intp]) -> tuple[Array, Array, Array]:
        """The same, from the features of each."""
        assert self._known is not None
        asked, squares = self.features(levels), self._scales[:-1] ** 2
        cross = np.tensordot(squares, self._grams(asked, self._known), 1)
        return cross, asked.prior, np.tensordot(squares, self._diagonals(asked), 1)

    def _in_tables(self, known: Features, levels: NDArray[np.intp]) -> Tables:
        """What `Around` adds up."""
        genes, most = len(self._added), max(map(len, self._added))
        added, depths, middle = np.zeros((genes, most)), np.zeros((genes, most)), np.zeros(genes)
        alike = np.zeros((genes, most, most))
        for index, row in enumerate(self._added):
            added[index, : len(row)] = row
        for place, (index, curves) in enumerate(self._many):
            count = len(curves)
            depths[index, :count] = np.arange(count) / (count - 1)
            alike[index, :count, :count] = curves @ curves.T
            middle[index] = self._middle[place]
        first, second = self._near_pairs
        pairs = (np.ones(2 * len(first)), (np.concatenate([first, second]), np.concatenate([second, first])))
        near = scipy.sparse.csr_array(pairs, shape=(genes, genes))
        touching = np.zeros((genes, genes), dtype=bool)
        touching[np.concatenate([first, second]), np.concatenate([second, first])] = True
        return Tables(added, depths, alike, near, touching, known.shares, levels, middle)

    def joint(self, levels: NDArray[np.intp]) -> tuple[Array, Array]:
        """Mean (genomes,) as `predict`, and the covariance (genomes, genomes)."""
        asked = self.features(levels)
        squares = self._scales[:-1] ** 2
        own = np.tensordot(squares, self._grams(asked, asked), 1)
        if self._known is None:
            return asked.prior, own
        cross = np.tensordot(squares, self._grams(asked, self._known), 1)
        return asked.prior + cross @ self._weights, own - cross @ scipy.linalg.cho_solve(self._factor, cross.T)

    @property
    def scales(self) -> dict[str, float]:
        """Standard deviation of each term; `noise` is that of one sequence."""
        return dict(zip(TERMS, self._scales.tolist(), strict=True))

    def _size(self, features: Features) -> Array:
        return (features.prior - self._centre) / self._spread

    def _grams(self, first: Features, second: Features) -> Array:
        """(terms, first, second): the covariance of each term at scale one."""
        size = np.outer(self._size(first), self._size(second))
        squares = first.shares**2 @ (second.shares**2).T
        pairs = ((first.shares @ second.shares.T) ** 2 - squares) / 2
        near = self._near_products(first) @ self._near_products(second).T
        slopes = (first.depths - self._middle) @ (second.depths - self._middle).T
        curves = first.curves @ second.curves.T
        return np.stack([np.ones_like(size), size, squares, near, pairs, slopes, curves])

    def _diagonals(self, features: Features) -> Array:
        squares = (features.shares**4).sum(1)
        pairs = ((features.shares**2).sum(1) ** 2 - squares) / 2
        near = (self._near_products(features) ** 2).sum(1)
        slopes, curves = ((features.depths - self._middle) ** 2).sum(1), (features.curves**2).sum(1)
        return np.stack([np.ones_like(squares), self._size(features) ** 2, squares, near, pairs, slopes, curves])

    def _near_products(self, features: Features) -> Array:
        return features.shares[:, self._near_pairs[0]] * features.shares[:, self._near_pairs[1]]


def by_share(space: Space) -> list[list[float]]:
    """A prior without a sweep: the share of the linears' weights that a level removes."""
    dense = space.costs(space.dense).linear_weights
    return [
        [
            1 - space.costs(space.canonical(space.dense.with_level(index, level))).linear_weights / dense
            for level in range(len(gene.levels))
        ]
        for index, gene in enumerate(space.genes)
    ]


def _likeliest(grams: Array, target: Array, counts: Array, near: Array) -> Array:
    """The scales of greatest posterior density; the search for them begins `near` the last ones."""
    centre = np.log(np.array(START))

    def cost(log_scales: Array) -> float:
        factor = _factor(grams, np.exp(log_scales), counts)
        if factor is None:
            return 1e10
        fit = float(target @ scipy.linalg.cho_solve(factor, target))
        log_determinant = 2 * float(np.log(np.diag(factor[0])).sum())
        return 0.5 * (fit + log_determinant + float((((log_scales - centre) / WIDTH) ** 2).sum()))

    result = scipy.optimize.minimize(cost, np.log(near), method="L-BFGS-B", bounds=np.log(np.array(BOUNDS)))
    scales: Array = np.exp(result.x)
    return scales


def _factor(grams: Array, scales: Array, counts: Array) -> tuple[Array, bool] | None:
    covariance = np.tensordot(scales[:-1] ** 2, grams, 1)
    covariance[np.diag_indices_from(covariance)] += scales[-1] ** 2 / counts + 1e-8
    try:
        factor: tuple[Array, bool] = scipy.linalg.cho_factor(covariance, lower=True)
    except np.linalg.LinAlgError:
        return None
    return factor

"""Genomes as the model of the loss sees them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...space.genome import Genome
from ...space.space import Space

Array = NDArray[np.float64]
FLOOR = 0.05
"""Least loss that a gene's last level is taken to add, relative to the median; noise can make it nothing or less."""
ALIKE = 0.1
"""How far levels have to be apart, in shares of all levels of the gene, to have little in common."""
JITTER = 1e-6


@dataclass(frozen=True, slots=True)
class Features:
    """Genomes as the model sees them.

    Attributes:
        prior: (genomes,), logarithm of the additive guess.
        shares: (genomes, genes), the unit vectors u.
        depths: (genomes, genes of more than two levels), the level from 0 to 1.
        curves: (genomes, levels of these genes), whose products are how much two levels have in common.
    """

    prior: Array
    shares: Array
    depths: Array
    curves: Array


def increasing(row: Array, least: float, most: float) -> Array:
    """Added losses with a floor that rises with the level, so that no two levels of a gene look the same."""
    levels = np.arange(len(row)) / (len(row) - 1)
    last = min(max(row[-1], least), most)
    floor = FLOOR * last * levels
    floor[-1] = last
    result: Array = np.clip(np.maximum(row, floor), 0.0, most)
    result[0] = 0.0
    return result


def curves_of(count: int) -> Array:
    """Features (levels, levels) of each level of a gene, so that their products fall off with the distance."""
    depths = np.arange(count) / (count - 1)
    alike = np.exp(-(((depths[:, None] - depths[None]) / ALIKE) ** 2) / 2)
    return np.asarray(np.linalg.cholesky(alike + JITTER * np.eye(count)), dtype=float)


def matrix(genomes: Sequence[Genome]) -> NDArray[np.intp]:
    """Levels (genomes, genes)."""
    return np.array([genome.levels for genome in genomes], dtype=np.intp)


def near_pairs(space: Space) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs of genes that touch the same block or neighbouring ones."""
    blocks = [{block for block, _ in gene.members} for gene in space.genes]
    pairs = [
        (first, second)
        for first in range(len(blocks))
        for second in range(first + 1, len(blocks))
        if any(abs(a - b) <= 1 for a in blocks[first] for b in blocks[second])
    ]
    return np.array([i for i, _ in pairs], dtype=np.intp), np.array([j for _, j in pairs], dtype=np.intp)

"""One change at a time: what each level of each gene costs in loss on its own."""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from ..space.evaluation import Evaluation
from ..space.gene import Gene, Sparsity
from ..space.genome import Genome
from ..space.space import Space
from .strategy import Batch


@dataclass(frozen=True, slots=True)
class Table:
    """Loss of the dense model, and for each gene the loss added by each level alone (level 0: none)."""

    dense: float
    added: tuple[tuple[float, ...], ...]

    def sum(self, genome: Genome) -> float:
        """The additive guess at the loss of a canonical genome."""
        return self.dense + sum(row[level] for row, level in zip(self.added, genome.levels, strict=True))


def sweep(space: Space, sequences: range, anchors: int | None = None) -> Generator[Batch, list[Evaluation], Table]:
    """Scores the dense model and every single change; the levels between `anchors` are interpolated.

    `anchors`: how many levels of a gene to score (None: all), spread evenly with the last one always included.
    A level that failed counts as infinitely bad. Monotone: a deeper level never gets a smaller loss than a denser one.
    """
    chosen = [_anchor_levels(gene, anchors) for gene in space.genes]
    singles = [(i, level) for i, levels in enumerate(chosen) for level in levels]
    genomes = (space.dense, *(space.canonical(space.dense.with_level(i, level)) for i, level in singles))
    told = yield Batch(genomes, sequences)
    dense = told[0].loss
    scored: list[dict[int, float]] = [{0: 0.0} for _ in space.genes]
    for (i, level), evaluation in zip(singles, told[1:], strict=True):
        scored[i][level] = evaluation.loss - dense
    return Table(dense, tuple(_filled(gene, row) for gene, row in zip(space.genes, scored, strict=True)))


def _anchor_levels(gene: Gene, anchors: int | None) -> Sequence[int]:
    last = len(gene.levels) - 1
    if anchors is None or anchors >= last:
        return range(1, last + 1)
    return sorted({round(last * (index + 1) / anchors) for index in range(anchors)})


def _filled(gene: Gene, scored: dict[int, float]) -> tuple[float, ...]:
    """All levels from the scored ones, linear in the share removed."""
    sizes = [level.share if isinstance(level, Sparsity) else -float(level) for level in gene.levels]
    known = sorted(scored)
    guessed = np.interp(sizes, [sizes[level] for level in known], [min(scored[level], 1e30) for level in known])
    # Two levels may remove the same share (0.5 and 2:4); a scored one keeps its own score.
    values = [scored.get(level, guess) for level, guess in enumerate(guessed.tolist())]
    # Noise on a few sequences can make a deeper level look better; a plan must not be lured by that.
    row = np.maximum.accumulate(values)
    return tuple(math.inf if value >= 1e30 else float(value) for value in row)

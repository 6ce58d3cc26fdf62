"""One change at a time: what each level of each gene costs in loss on its own."""

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from ..space.errors import SecateurError
from ..space.evaluation import Evaluation
from ..space.gene import Gene
from ..space.genome import Genome
from ..space.space import Space
from .problem import Problem
from .steps import Batch
from .strategy import Swept


@dataclass(frozen=True, slots=True)
class Table:
    """Loss of the dense model, and for each gene the loss added by each level alone (level 0: none)."""

    dense: float
    added: tuple[tuple[float, ...], ...]

    def sum(self, genome: Genome) -> float:
        """The additive guess at the loss of a canonical genome."""
        return self.dense + sum(row[level] for row, level in zip(self.added, genome.levels, strict=True))


def sweep(
    space: Space,
    sequences: range,
    anchors: int | None = None,
    priced: Mapping[int, Sequence[float]] = MappingProxyType({}),
) -> Generator[Batch, list[Evaluation], Table]:
    """Scores the dense model and every single change; the levels between `anchors` are interpolated.

    `anchors`: how many levels of a gene to score (None: all), spread evenly with the last one always included.
    `priced`: rows of genes of which is known what their levels add, and that are not scored. A level that failed counts
    as infinitely bad. Monotone: a deeper level never gets a smaller loss than a denser one.
    """
    chosen = [() if index in priced else _anchor_levels(gene, anchors) for index, gene in enumerate(space.genes)]
    singles = [(i, level) for i, levels in enumerate(chosen) for level in levels]
    genomes = (space.dense, *(space.canonical(space.dense.with_level(i, level)) for i, level in singles))
    told = yield Batch(genomes, sequences)
    dense = told[0].loss
    scored: list[dict[int, float]] = [{0: 0.0} for _ in space.genes]
    for (i, level), evaluation in zip(singles, told[1:], strict=True):
        scored[i][level] = evaluation.loss - dense
    rows = [_filled(gene, row) for gene, row in zip(space.genes, scored, strict=True)]
    return Table(dense, tuple(tuple(priced.get(index, row)) for index, row in enumerate(rows)))


def affordable_anchors(problem: Problem, name: str, sweep: Swept, solutions: int = 1) -> int | None:
    """How many levels of each gene strategy `name` scores: what is set, or as many as are affordable.

    `solutions`: evaluations that it needs besides its sweep.

    Raises:
        SecateurError: not even one level of each gene is.
    """
    genes, affordable = problem.space.genes, problem.affordable(sweep.sequences)
    if affordable is None:
        return sweep.anchors
    wanted = sweep.anchors or max(1, (affordable - 1 - solutions) // len(genes))
    singles = 1 + solutions + sum(min(wanted, len(gene.levels) - 1) for gene in genes)
    if singles > affordable:
        raise SecateurError(
            f"effort: {name} needs {singles} evaluations for its sweep of single changes, "
            f"{singles * sweep.sequences * problem.pool.tokens_per_sequence:,} tokens at {sweep.sequences} sequences "
            "each; raise 'effort', or lower 'sequences' or 'anchors'"
        )
    return min(wanted, max(len(gene.levels) for gene in genes))


def _anchor_levels(gene: Gene, anchors: int | None) -> Sequence[int]:
    last = len(gene.levels) - 1
    if anchors is None or anchors >= last:
        return range(1, last + 1)
    return sorted({round(last * (index + 1) / anchors) for index in range(anchors)})


def _filled(gene: Gene, scored: dict[int, float]) -> tuple[float, ...]:
    """All levels from the scored ones: a power law of the share removed between two scored levels.

    Loss grows much faster than the share, so that a straight line would make light pruning look far too dear; below the
    first scored level the law of the first two goes on. Where losses are not positive the line is straight.
    """
    removed = [gene.removed(level) for level in range(len(gene.levels))]
    known = sorted(level for level in scored if level)
    finite = [level for level in known if 0 < scored[level] < math.inf]
    if len(finite) > 1 and len(finite) == len(known) and removed[finite[0]] < removed[finite[-1]]:
        x, y = np.log([removed[level] for level in finite]), np.log([scored[level] for level in finite])
        slope = max(1.0, (y[1] - y[0]) / max(x[1] - x[0], 1e-9))
        shares = np.log(np.maximum(removed, 1e-9))
        below = y[0] + slope * (shares - x[0])
        guessed = np.exp(np.where(shares < x[0], below, np.interp(shares, x, y)))
    else:
        values = [min(scored[level], 1e30) for level in (0, *known)]
        guessed = np.interp(removed, [removed[level] for level in (0, *known)], values)
    # Two levels may remove the same share (0.5 and 2:4); a scored one keeps its own score.
    row = [scored.get(level, guess) for level, guess in enumerate(guessed.tolist())]
    # Noise on a few sequences can make a deeper level look better; a plan must not be lured by that.
    return tuple(math.inf if value >= 1e30 else float(value) for value in np.maximum.accumulate(row))

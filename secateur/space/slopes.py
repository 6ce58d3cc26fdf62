"""What single changes around a genome would add to its loss, estimated from one pass backwards instead of scored."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .genome import Genome
from .scores import SCORES
from .space import Space

PASSES = 4
"""What the slopes of a sequence cost, in forward passes: one forward, one back to the inputs, one each to the products
of gradients and inputs and of their squares."""

Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Slopes:
    """The loss around a genome to second order, mean over a range of sequences.

    Attributes:
        genome: canonical.
        key: of the subnet (`Space.key`).
        sequences: which sequences of the pool were used.
        first: for each gene, for each of its levels: gradient times change of the weights, nats per token; NaN where
            nothing is known of a level, 0 for the genome's own.
        second: likewise the squares of both, summed over weights: a positive guess at what curvature adds.
        reason: why there are none; empty when there are.
        tokens: forwarded, a sequence counted `PASSES` times.
        seconds: wall-clock.
    """

    genome: Genome
    key: str
    sequences: range
    first: Rows
    second: Rows
    reason: str = ""
    tokens: int = 0
    seconds: float = 0.0

    def added(self, caution: float = 1.0) -> list[list[float]]:
        """For each gene what each of its levels adds to the loss; infinity where nothing is known.

        `caution` multiplies the second order; see `fitness.slopes` for why 1 is the honest guess.
        """
        return [
            [math.inf if math.isnan(slope) else slope + caution * bend for slope, bend in zip(*rows, strict=True)]
            for rows in zip(self.first, self.second, strict=True)
        ]


def joined(parts: Sequence[Slopes]) -> Slopes:
    """Slopes of one genome on adjacent ranges, given in order, as one; without any where a part has none."""
    failed = next((part for part in parts if part.reason), None)
    counts = [len(part.sequences) for part in parts]

    def mean(tables: Sequence[Rows]) -> Rows:
        return tuple(
            tuple(
                sum(c * v for c, v in zip(counts, values, strict=True)) / sum(counts)
                for values in zip(*rows, strict=True)
            )
            for rows in zip(*tables, strict=True)
        )

    return replace(
        failed or parts[0],
        sequences=range(parts[0].sequences.start, parts[-1].sequences.stop),
        first=() if failed else mean([part.first for part in parts]),
        second=() if failed else mean([part.second for part in parts]),
        tokens=sum(part.tokens for part in parts),
        seconds=sum(part.seconds for part in parts),
    )


def has_slopes(space: Space, score: str) -> bool:
    """Whether there are slopes of a score in a space: they are those of zeros in matrices."""
    return score in SCORES and SCORES[score].slopes and any(any(gene.treatments) for gene in space.genes)

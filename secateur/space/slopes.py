"""What single changes around a genome would add to its loss, estimated from one pass backwards instead of scored."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from .genome import Genome
from .question import Record, Status
from .scores import SCORES
from .space import Space

PASSES = 4
"""What the slopes of a sequence cost, in forward passes: one forward, one back to the inputs, one each to the products
of gradients and inputs and of their squares. What cuts add, one linear a width, is not counted: about one pass more
where there are eight widths of every MLP."""

Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Slopes:
    """The loss around a genome to second order, mean over a range of sequences.

    Attributes:
        genome: canonical.
        key: of the subnet (`Space.key`).
        sequences: which sequences of the pool were used.
        first: for each gene, for each of its levels: gradient times change, of weights or, where sublayers are cut, of
            what they contribute, nats per token; NaN where nothing is known of a level, 0 for the genome's own.
        second: likewise the squares, summed over weights or tokens: a positive guess at what curvature adds.
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

    @property
    def status(self) -> Status:
        """Whether there are any."""
        return "failed" if self.reason else "ok"

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


class _Content(TypedDict):
    """Both tables; None where nothing is known."""

    first: list[list[float | None]]
    second: list[list[float | None]]


_CONTENT = TypeAdapter(_Content)


@dataclass(frozen=True, slots=True)
class SlopesQuestion:
    """What single changes around a subnet would add to the loss that search minimises."""

    @property
    def name(self) -> str:
        """In `QUESTIONS`."""
        return "slopes"

    def on(self, text: str) -> str:
        """The text's title."""
        return text

    def fits(self, space: Space, score: str) -> bool:
        """Whether there are slopes of a score in a space: where zeros are searched, alone or beside cuts."""
        return score in SCORES and SCORES[score].slopes and any(any(gene.treatments) for gene in space.genes)

    def charges(self, sequences: range, length: int) -> Mapping[Hashable, int]:
        """Every sequence once, as `PASSES` forward passes."""
        return dict.fromkeys(sequences, PASSES * length)

    def within(self, answer: Slopes, sequences: range) -> Slopes | None:
        """All or nothing: slopes are means."""
        return answer if answer.sequences == sequences else None

    def joined(self, answers: Sequence[Slopes], genome: Genome, sequences: range) -> Slopes:
        """Their means, by sequences."""
        return replace(joined(answers), genome=genome, sequences=sequences)

    def failed(self, space: Space, genome: Genome, sequences: range, reason: str) -> Slopes:
        """Without tables."""
        return Slopes(genome, space.key(genome), sequences, (), (), reason)

    def record(self, answer: Slopes) -> Record:
        """With both tables."""
        content = {"first": _written(answer.first), "second": _written(answer.second)}
        return Record(
            answer.genome,
            answer.key,
            answer.sequences,
            content,
            answer.status,
            answer.reason,
            answer.tokens,
            seconds=answer.seconds,
        )

    def read(self, record: Record) -> Slopes:
        """Raises ValueError where there are no tables, or not two of one shape."""
        content = _CONTENT.validate_python(record.content)
        first, second = _read(content["first"]), _read(content["second"])
        if [len(row) for row in first] != [len(row) for row in second] or bool(record.reason) == bool(first):
            raise ValueError("slopes")
        if (record.status == "failed") != bool(record.reason):
            raise ValueError("status")
        return Slopes(
            record.genome,
            record.key,
            record.sequences,
            first,
            second,
            record.reason,
            record.tokens,
            record.seconds,
        )


def _written(rows: Rows) -> list[list[float | None]]:
    return [[None if math.isnan(value) else value for value in row] for row in rows]


def _read(rows: Sequence[Sequence[float | None]]) -> Rows:
    return tuple(tuple(math.nan if value is None else value for value in row) for row in rows)


SLOPES = SlopesQuestion()

"""What is known of a genome after it was tried."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from .costs import Costs
from .genome import Genome
from .question import Question, Status, Told

FAR = 1e101
"""More than any loss: what is over a budget on a score comes after all that is not."""


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Losses of one genome on a range of the shuffled sequences of a text.

    Attributes:
        genome: canonical.
        key: of the subnet (`Space.key`).
        sequences: which sequences of the pool were scored.
        losses: for each score name, one loss per sequence in the order of `sequences`; nats per token for `kl` and
            `cross_entropy`; lower is better.
        status: `ok`; `infeasible`: scored (a sweep needs that) but over a budget, so that it can never be a result;
            `failed`: could not be scored, see `reason`.
        tokens: forwarded for this evaluation (shared prefixes count in full: what one-at-a-time would have cost).
        layer_passes: blocks really executed, once for each sequence.
        seconds: wall-clock; work shared through a prefix is charged to the candidate that came first.
        score: the name of the one that search minimises; needs not be said where there is one alone.
        also: answers to what else was asked of the genome, on the same sequences, by the names of the questions.
        excess: how far budgets on scores are exceeded, at most 0 where they are kept (see `limits.excess`); None where
            there are none. A journal does not keep it.
    """

    genome: Genome
    key: str
    sequences: range
    losses: Mapping[str, tuple[float, ...]]
    costs: Costs
    status: Status = "ok"
    reason: str = ""
    tokens: int = 0
    layer_passes: int = 0
    seconds: float = 0.0
    score: str = ""
    also: Mapping[str, Any] = field(default_factory=dict)
    excess: float | None = None

    @property
    def primary(self) -> tuple[float, ...]:
        """Per-sequence losses of the score that search minimises; empty when failed."""
        if not self.losses:
            return ()
        if self.score:
            return self.losses[self.score]
        [alone] = self.losses.values()
        return alone

    @property
    def loss(self) -> float:
        """Mean of the primary score over sequences; infinity when failed."""
        values = self.primary
        return sum(values) / len(values) if values and self.status != "failed" else math.inf

    @property
    def keeps(self) -> bool:
        """Whether it keeps all budgets on scores."""
        return self.excess is None or self.excess <= 0

    @property
    def compared(self) -> tuple[float, ...]:
        """What candidates are compared by: the primary losses, or, over a budget on a score, how far over."""
        values = self.primary
        if self.excess is None or self.excess <= 0:
            return values
        return (FAR * (1 + min(self.excess, FAR)),) * len(values)

    @property
    def rank(self) -> float:
        """Mean of `compared`; infinity when failed."""
        return self.loss if self.keeps or not self.primary or self.status == "failed" else self.compared[0]

    def answer(self, question: Question[Told]) -> Told:
        """What was answered to a question that was asked beside losses."""
        return cast(Told, self.also[question.name])

    @property
    def standard_error(self) -> float:
        """Of `loss`, over sequences; 0 for a single sequence."""
        return mean_and_error(self.primary)[1] if self.primary else 0.0


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean of at least one value and its standard error; 0 for a single one."""
    count = len(values)
    mean = sum(values) / count
    return mean, math.sqrt(sum((v - mean) ** 2 for v in values) / (count - 1) / count) if count > 1 else 0.0


def merged(parts: Sequence[Evaluation]) -> Evaluation:
    """Joins evaluations of one genome on adjacent ranges, given in order; a failed part makes the whole failed."""
    first = parts[0]
    failed = next((part for part in parts if part.status == "failed"), None)
    names = first.losses if failed is None else ()
    return replace(
        failed or first,
        sequences=range(first.sequences.start, parts[-1].sequences.stop),
        losses={name: tuple(loss for part in parts for loss in part.losses[name]) for name in names},
        tokens=sum(part.tokens for part in parts),
        layer_passes=sum(part.layer_passes for part in parts),
        seconds=sum(part.seconds for part in parts),
    )

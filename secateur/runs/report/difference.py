"""Losses of two plans on the same sequences, and how far they differ."""

from collections.abc import Iterable
from dataclasses import dataclass

from scipy import stats

from ...space.evaluation import Evaluation, merged
from ...space.scores import HELD_OUT_SCORES

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired difference of per-sequence losses, found minus other, with its confidence interval; negative is better.

    The interval is that of the paired t-test.
    """

    mean: float
    low: float
    high: float
    sequences: int

    @property
    def better(self) -> bool:
        """Found has the lower loss, outside the interval."""
        return self.high < 0


def joined(parts: list[Evaluation]) -> Evaluation | None:
    """All that is known of one subnet on one text; None when nothing is, or when it failed."""
    if not parts or any(part.status == "failed" for part in parts):
        return None
    return merged(sorted(parts, key=lambda part: part.sequences.start))


def compare(
    found: Iterable[Evaluation | None], other: Iterable[Evaluation | None], score: str = HELD_OUT_SCORES[0]
) -> Difference | None:
    """Pairs the losses sequence by sequence; None when either side is incomplete or has fewer than two."""
    differences: list[float] = []
    for one, two in zip(found, other, strict=True):
        if one is None or two is None or one.sequences != two.sequences:
            return None
        differences += [a - b for a, b in zip(one.losses[score], two.losses[score], strict=True)]
    if len(differences) < 2:
        return None
    mean = sum(differences) / len(differences)
    if max(differences) == min(differences):
        return Difference(mean, mean, mean, len(differences))
    interval = stats.ttest_1samp(differences, 0.0).confidence_interval(CONFIDENCE)
    return Difference(mean, float(interval.low), float(interval.high), len(differences))

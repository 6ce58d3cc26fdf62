"""How well a model of the loss has ranked candidates of late."""

import math
from collections import deque

import scipy

RECENT = 24
"""Candidates that are looked back on."""


class Ranking:
    """What a model said of its last candidates and what came out, both relative to the incumbent of then."""

    def __init__(self) -> None:
        self._pairs: deque[tuple[float, float]] = deque(maxlen=RECENT)

    def add(self, predicted: float, outcome: float) -> None:
        self._pairs.append((predicted, outcome))

    @property
    def correlation(self) -> float | None:
        """Spearman's rank correlation; None while there are few, or where all are alike."""
        predicted, outcomes = zip(*self._pairs, strict=True) if self._pairs else ((), ())
        if len(self._pairs) < RECENT // 2 or min(len(set(predicted)), len(set(outcomes))) < 2:
            return None
        value = float(scipy.stats.spearmanr(predicted, outcomes).statistic)
        return value if math.isfinite(value) else None

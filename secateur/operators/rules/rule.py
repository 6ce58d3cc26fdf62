"""What a rule is: a genome from statistics of the dense model, without search."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ...space.gene import Feature, features_of
from ...space.genome import Genome
from ...space.space import Space

UnitScores = Mapping[str, Sequence[Sequence[float]]]
"""By dimension ("groups", "channels"), for each block the scores of its units."""
WHY: Mapping[Feature, str] = {
    "zeros": "makes a sparsity profile; the recipe has no sparsity genes",
    "widths": "narrows sublayers; the recipe has no widths",
    "bits": "stores linears in fewer bits; the recipe has no bits genes",
    "treatments": "treats linears; the recipe has no genes that do",
    "drops": "drops blocks; the recipe has no genes that drop",
    "stream": "narrows the residual stream; the recipe has no genes that do",
}
"""Why a rule that is about a feature does not apply."""


class Statistics(Protocol):
    """Of the dense model on calibration text, measured when they are first asked for."""

    def influence(self) -> Sequence[float]:
        """Of each block: 1 - cos(input, output), averaged over tokens (Men et al. 2024, arXiv 2403.03853, eq. 1)."""

    def angular(self) -> Sequence[Sequence[float]]:
        """By length and first block: the angular distance that blocks in a row make (Gromov et al. 2024, eq. 7)."""

    def outliers(self) -> Sequence[float]:
        """Of each block: the share of weights with outlying scores (Yin et al. 2023, arXiv 2310.05175, sec. 3.2)."""

    def fluctuations(self) -> UnitScores:
        """FLAP's standardised scores (An et al. 2024, arXiv 2312.11983, eq. 6)."""

    def stored_errors(self, space: Space) -> Sequence[Sequence[float]]:
        """For each gene of bits what its levels do to weights, as `--target-bpw` measures it; zeros for others."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A published allocation.

    Attributes:
        genome: makes the canonical genome that keeps the budgets of a space; raises SecateurError where genes of what
            it is about cannot.
        about: which genes it sets; where a space has none of them it does not apply.
        good: one of those that `rules` in a strategy's `initial` stands for; each costs a search one candidate.
        line: a front is compared with it in several sizes.
        uniform: one of those that `uniform` in the `initial` of a search for a front stands for, in several sizes.
    """

    genome: Callable[[Space, Statistics, np.random.Generator], Genome]
    about: Feature
    good: bool = False
    line: bool = False
    uniform: bool = False

    def unfit(self, space: Space) -> str:
        """Why it does not apply, where the space has no genes of what it is about; else empty."""
        return "" if self.about in features_of(space.genes) else WHY[self.about]

"""How our own search goes about it."""

from dataclasses import dataclass

PATH = 3
"""Evaluations of the path for each gene, where nothing else is said."""


@dataclass(frozen=True, slots=True)
class Options:
    """How the search goes about it.

    Attributes:
        sequences: on which answers are compared at first, and for a front in the end too.
        first: on which sweep, path and every first look are scored; at most `sequences`.
        anchors: levels of each gene that the sweep scores; None: all.
        lazy: genes tried again at each step of the path.
        path: evaluations that the path may take; None: `PATH` for each gene. Where these are too few it is left out.
        batch: candidates a round.
        risk: that the test of a race drops a candidate that is better than the incumbent; see `race`.
        mutated: share of a batch that mutation makes without asking the model.
        tolerance: quiet is when no candidate promises to lower a loss by this share, `PATIENCE` times in a row.
        slopes: go downhill by slopes, which the evaluator then has to have.
        pricing: slopes take the place of the sweep, as far as they tell of levels.
        settled: sequences that answers are compared on before the rounds begin, where there are slopes and `growing`.
        limited: budgets on scores are learned too, since they are on others than the one that is minimised.
        growing: compare on twice the sequences when it is quiet, as long as there are more; else the search ends.
        sweeping, modelling, racing: parts that can be left out, to see what they are worth.
    """

    sequences: int = 8
    first: int = 2
    anchors: int | None = 2
    lazy: int = 6
    path: int | None = None
    batch: int = 6
    risk: float = 0.2
    mutated: float = 0.17
    tolerance: float = 1e-3
    slopes: bool = False
    pricing: bool = True
    settled: int = 64
    limited: bool = False
    growing: bool = True
    sweeping: bool = True
    modelling: bool = True
    racing: bool = True

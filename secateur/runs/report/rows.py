"""The rows that every report of one plan compares."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from ...plans.plan import Score
from ...space.genome import Genome
from ...space.latency import Measured
from ...space.scores import HELD_OUT_SCORES
from ..asked.recipe import Recipe
from .difference import Difference

ORIGINS = {"dense": "the dense model", "base": "the plan below"}
"""What the row is called that has every gene at level 0, and what that is."""
JUDGED = {"kl": "KL", "cross_entropy": "loss"}
"""What scores of every held-out text are called; both are in nats per token."""
SHOWN = {"kl": "KL", "cross_entropy": "perplexity"}
"""What columns of a held-out text are called; others by their scores."""


@dataclass(frozen=True, slots=True)
class Row:
    """One plan of the comparison.

    Attributes:
        scores: by text and score.
        against: compares `found` with it on all held-out sequences together.
        by_text: the same on each held-out text alone.
        slack: it ends so far below every budget that the comparison would not be fair.
        broken: on held-out text it does not keep the budgets on scores that the found one keeps there.
        measured: its latency end to end, where it was timed.
    """

    name: str
    genome: Genome
    costs: Mapping[str, int]
    scores: Mapping[str, Mapping[str, Score]]
    tokens: int
    evaluations: int
    seconds: float
    against: Difference | None
    slack: bool = False
    broken: bool = False
    measured: Measured | None = None
    by_text: Mapping[str, Difference] = field(default_factory=dict)


def origin_of(recipe: Recipe) -> str:
    """What the row of a run is called that has every gene at level 0."""
    return "dense" if recipe.base is None else "base"


def mean_held_out(row: Row, held_out: tuple[str, ...], score: str = HELD_OUT_SCORES[0]) -> float:
    """Mean of a score over all sequences of held-out text; infinity when it has not been scored."""
    parts = [row.scores[text][score] for text in held_out if score in row.scores.get(text, ())]
    if len(parts) < len(held_out) or not parts:
        return math.inf
    return sum(p.mean * p.sequences for p in parts) / sum(p.sequences for p in parts)

"""Budgets on scores: the most that a score may come to on the text that a candidate was scored on.

Whoever keeps them all comes before whoever does not, and of two that do not, the one that is nearer (Deb 2000, "An
efficient constraint handling method for genetic algorithms").
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .errors import SecateurError
from .evaluation import Evaluation
from .objective import Objective, parse_objectives
from .scores import EXPONENTIALS, SCORES

NUMBER = (
    r"(?:<=\s*)?(-?[0-9]+(?:_[0-9]+)*(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,3})?|\.[0-9]+(?:[eE][+-]?[0-9]{1,3})?)\s*(x|%|)"
)
LONGEST = 60


@dataclass(frozen=True, slots=True)
class Limit:
    """The most that a score may come to.

    Attributes:
        objective: the score, or the perplexity of one.
        most: a value, or where `relative`, how many times that of the dense model on the same text.
        text: what the user wrote.
    """

    objective: Objective
    most: float
    relative: bool
    text: str

    def value(self, dense: Evaluation) -> float:
        """The most there may be, where the dense model has been evaluated on the same sequences."""
        return self.most * self.objective.of(dense) if self.relative else self.most

    def excess(self, evaluation: Evaluation, dense: Evaluation) -> float:
        """How far it is exceeded, in shares of the way from the dense model to the limit; at most 0 where it is kept.

        Where the dense model itself is over it on these sequences, in shares of the limit.
        """
        most, least = self.value(dense), self.objective.of(dense)
        return (self.objective.of(evaluation) - most) / (most - least if most > least else max(abs(most), 1e-9))

    def __str__(self) -> str:
        return f"{self.objective.name} {self.text if self.text.startswith('<=') else f'<= {self.text}'}"


def excess(limits: Sequence[Limit], evaluation: Evaluation, dense: Evaluation) -> float:
    """How far the limit is exceeded that is exceeded most; see `Limit.excess`."""
    return max(limit.excess(evaluation, dense) for limit in limits)


def of_costs(budgets: Mapping[str, str | int | float]) -> dict[str, str | int | float]:
    """Those of a recipe's budgets that are on costs."""
    return {name: raw for name, raw in budgets.items() if not is_score(name)}


def is_score(name: str) -> bool:
    """Whether a budget is on a score, of ours or of the user's own."""
    return name in SCORES or name in EXPONENTIALS or ":" in name


def parse_limits(budgets: Mapping[str, str | int | float]) -> tuple[Limit, ...]:
    """Reads those of a recipe's budgets that are on scores, such as {"kl": "<= 0.5", "perplexity": "<= 1.1x"}.

    A value is a number, or relative to the dense model on the same text with `x` or `%`.

    Raises:
        SecateurError: a limit that cannot be read, or that the dense model would keep at most.
    """
    limits = []
    for name, raw in budgets.items():
        if not is_score(name):
            continue
        [objective] = parse_objectives((name,), "budgets")
        text = str(raw).strip() if not isinstance(raw, int) or raw.bit_length() < 1000 else "a number that long"
        match = re.fullmatch(NUMBER, text) if len(text) <= LONGEST else None
        if match is None:
            raise SecateurError(f"budgets.{name[:100]}: cannot read '{text[:LONGEST]}'; write '<= 0.5' or '<= 1.1x'")
        most = float(match[1].replace("_", "")) / (100 if match[2] == "%" else 1)
        if match[2] and name in SCORES and SCORES[name].distance:
            raise SecateurError(f"budgets.{name}: it is 0 for the dense model, of which {text} is 0; write '<= 0.5'")
        if not abs(most) < float("inf") or (":" not in name and most <= 0) or (match[2] and most <= 1):
            raise SecateurError(f"budgets.{name[:100]}: {text} is kept by the dense model at most; write more")
        limits.append(Limit(objective, most, bool(match[2]), text))
    return tuple(limits)

"""What a search minimises: scores of an evaluation, or costs."""

import math
import re
from dataclasses import dataclass

from .costs import COSTS, LATENCIES
from .errors import SecateurError, suggest
from .evaluation import Evaluation, mean_and_error
from .scores import EXPONENTIALS, SCORES

WORST = 3.0
"""Nats per token over the dense model beyond which a model is of no use: the default end of the front."""
ROUNDING = 1e-6
"""Up to here a score of the dense model is a zero that was computed in single precision."""


@dataclass(frozen=True, slots=True)
class Objective:
    """A score or a cost by its name; lower is better.

    Scores are means over sequences; `perplexity` is the exponential of the mean cross-entropy. A name with a colon is a
    score of the user's own, `module:function`, or the share of an lm-eval task's documents that are wrong,
    `lm-eval:TASK`; of several tasks the weighted mean, `lm-eval:2*TASK+OTHER`.
    """

    name: str

    @property
    def is_cost(self) -> bool:
        """Whether it is a cost and no score."""
        return self.name in COSTS

    @property
    def is_latency(self) -> bool:
        """Whether it is a latency, which a device has to be named for."""
        return self.name in LATENCIES

    @property
    def score(self) -> str:
        """The score that an evaluator has to compute for it."""
        return EXPONENTIALS.get(self.name, self.name)

    def of(self, evaluation: Evaluation) -> float:
        """Its value; infinity when the evaluation failed."""
        if self.is_cost:
            value = getattr(evaluation.costs, self.name)
            assert value is not None
            return float(value)
        return self.mean(mean_and_error(evaluation.losses[self.score])[0]) if evaluation.losses else math.inf

    def mean(self, loss: float) -> float:
        """The value for a mean loss."""
        return math.exp(min(loss, 700.0)) if self.name in EXPONENTIALS else loss

    def error(self, evaluation: Evaluation) -> float:
        """Standard error of the value over sequences (for perplexity by the delta method); 0 for costs."""
        if self.is_cost or not evaluation.losses:
            return 0.0
        mean, error = mean_and_error(evaluation.losses[self.score])
        return error * math.exp(min(mean, 700.0)) if self.name in EXPONENTIALS else error

    def worst(self, dense: Evaluation) -> float:
        """Where the front ends when nothing else is said.

        Costs: the dense model's. Nats per token: `WORST` more than the dense model, perplexity: that many times its
        own. Anything else: twice the dense value, or 1 where that is not positive but for rounding.
        """
        value = self.of(dense)
        if self.is_cost:
            return value
        if self.name in SCORES and SCORES[self.name].nats:
            return value + WORST
        if self.name in EXPONENTIALS:
            return value * math.exp(WORST)
        return 2 * value if value > ROUNDING else 1.0


def is_own(name: str) -> bool:
    """Whether a score is a function of the user's own or an lm-eval task, and none of ours."""
    return ":" in name


def task_weights(text: str, where: str = "objectives") -> dict[str, float]:
    """Weight of each task of a mixture such as `2*piqa+csqa`; they add up to 1. `where`: the key it stands at.

    Raises:
        SecateurError: this is no such text, or a task stands there twice.
    """
    weights: dict[str, float] = {}
    for part in text.split("+"):
        match = re.fullmatch(r"\s*(?:(\d+(?:\.\d*)?)\s*\*\s*)?([\w.-]+)\s*", part)
        if match is None or float(match[1] or 1) <= 0 or match[2] in weights:
            raise SecateurError(
                f"{where}: 'lm-eval:{text[:100]}' is no task; write lm-eval:TASK, or lm-eval:2*TASK+OTHER, each task "
                "once"
            )
        weights[match[2]] = float(match[1] or 1)
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def parse_objectives(names: tuple[str, ...], where: str = "objectives") -> tuple[Objective, ...]:
    """Checks names and what they ask for together; `where`: the key that they stand at.

    Raises:
        SecateurError: an unknown or repeated name, or objectives that no search is needed for.
    """
    known = (*SCORES, *EXPONENTIALS, *COSTS)
    for name in names:
        module, colon, function = name.partition(":")
        if module == "lm-eval" and task_weights(function, where):
            continue
        if colon and not (function.isidentifier() and all(part.isidentifier() for part in module.split("."))):
            raise SecateurError(f"{where}: '{name[:100]}' is no function; write module:function, or lm-eval:TASK")
        if not colon and name not in known:
            shown = name[:40]
            raise SecateurError(f"{where}: unknown '{shown}'; {suggest(shown, known)}, or module:function of your own")
        if names.count(name) > 1:
            raise SecateurError(f"objectives: '{name}' stands there twice")
    objectives = tuple(Objective(name) for name in names)
    if names and all(objective.is_cost for objective in objectives):
        raise SecateurError(
            f"{where}: costs alone are least for the smallest genome, no search is needed; add a score such as kl"
        )
    if len({objective.score for objective in objectives}) < len(objectives):
        raise SecateurError("objectives: cross_entropy and perplexity put models in the same order; keep one of them")
    return objectives

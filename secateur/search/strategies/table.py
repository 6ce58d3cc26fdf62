"""All strategies by the names that recipes have for them. A module is loaded when its strategy is named."""

from dataclasses import dataclass
from typing import Annotated, cast

from pydantic import BeforeValidator, SerializeAsAny

from ...space import tables
from ...space.gene import Feature
from ..strategy import Strategy


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of a strategy before it is loaded.

    Attributes:
        where: "module:class", relative to this package where it begins with a dot.
        plans: it searches for one plan.
        fronts: it searches for a front.
        baseline: what is found is compared with it, as far as genes can do `about`.
        front_baseline: so are fronts.
        about: what genes have to be able to do; None: anything.
        heeds: what it tries next depends on budgets on scores; others walk by the loss alone.
        first: its place among those that `initial` may run before another; 0: it is none.
    """

    where: str
    plans: bool = True
    fronts: bool = False
    baseline: bool = False
    front_baseline: bool = False
    about: Feature | None = None
    first: int = 0
    heeds: bool = True


STRATEGIES: dict[str, Entry] = {
    "surrogate": Entry(".surrogate:Surrogate", fronts=True),
    "evopress": Entry(".evopress:Evopress"),
    "darwin": Entry(".darwin:Darwin"),
    "greedy": Entry(".greedy:Greedy", baseline=True, first=2, heeds=False),
    "multipruner": Entry(".multipruner:Multipruner", baseline=True, about="widths", heeds=False),
    "knapsack": Entry(".knapsack:Knapsack", fronts=True, baseline=True, first=1, heeds=False),
    "random": Entry(".random:Random", fronts=True, baseline=True, front_baseline=True),
    "exhaustive": Entry(".exhaustive:Exhaustive", fronts=True),
    "nsga2": Entry(".evolution:Evolution", plans=False, fronts=True),
    "nsga3": Entry(".evolution:Evolution", plans=False, fronts=True),
    "sms-emoa": Entry(".evolution:Evolution", plans=False, fronts=True),
    "gates": Entry(".gates:Gates"),
    "ga": Entry(".genetic:Genetic"),
    "de": Entry(".genetic:Genetic"),
    "cma-es": Entry(".samplers:Sampler"),
    "tpe": Entry(".samplers:Sampler", fronts=True),
    "optuna-nsga2": Entry(".samplers:Sampler", plans=False, fronts=True),
    "gp": Entry(".samplers:Sampler", fronts=True),
}
"""Baselines in the order of reports."""


def load(name: str) -> type[Strategy]:
    """The class of a strategy of the table."""
    return cast(type[Strategy], tables.load(STRATEGIES[name].where, __package__))


AnyStrategy = Annotated[SerializeAsAny[Strategy], BeforeValidator(tables.section("name", STRATEGIES, load))]
"""A section that says by its `name` which strategy's settings the rest is."""

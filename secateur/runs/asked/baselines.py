"""What can stand beside a search: rules and strategies, as far as the genes are what they are about."""

from collections.abc import Collection, Mapping

from ...operators.rules.table import RULES
from ...search.strategies.table import STRATEGIES
from ...space.gene import Feature

ABOUT: Mapping[Feature, str] = {
    "drops": "dropped layers",
    "widths": "narrower sublayers",
    "zeros": "zeros",
    "stream": "a narrower residual stream",
    "bits": "fewer bits",
    "treatments": "what is done to linears",
}
"""What genes can do, in words."""


def search_baselines(front: bool = False) -> list[str]:
    """The strategies that are baselines of others; of those that search for a `front`."""
    return [name for name, entry in STRATEGIES.items() if (entry.front_baseline if front else entry.baseline)]


def baselines() -> list[str]:
    """Everything but files that a recipe may name as a baseline, in the order of reports."""
    return [*RULES, *search_baselines()]


def why_idle(name: str, features: Collection[Feature], front: bool) -> str:
    """Why a rule or strategy is no baseline where genes can do `features`; `front`: of a front."""
    about = RULES[name].about if name in RULES else STRATEGIES[name].about
    if about is not None and about not in features:
        return f"it is about {ABOUT[about]}, and the recipe has no such genes"
    return "it has no line of sizes for a front" if front else "it is no baseline of one plan"

"""Whether budgets on latency hold as timed end to end, in words."""

from collections.abc import Iterable

from ...space.budget import Budget, shown
from ...space.costs import LATENCIES
from ...space.latency import Measured, Ratio
from ...space.space import Space

KEPT, CLOSE, BROKEN, UNKNOWN = "kept by", "missed, by less than timings spread, by", "NOT kept by", "not known of"


def broken_budgets(space: Space, measured: Measured | None) -> list[str]:
    """Budgets on latency that a model does not keep as measured, though it does by the table."""
    if measured is None:
        return []
    return [
        budget.cost
        for budget in space.budgets
        if (ratio := measured.ratios.get(budget.cost)) is not None and standing(space, budget, ratio) == BROKEN
    ]


def missed(space: Space, measured: Measured | None) -> str:
    """A sentence on the budgets that a model misses as timed, however closely; nothing where it keeps them."""
    if measured is None:
        return ""
    told = []
    for budget in space.budgets:
        ratio = measured.ratios.get(budget.cost)
        how = standing(space, budget, ratio) if ratio is not None else KEPT
        if how in (BROKEN, CLOSE):
            near = ", by less than timings spread" if how == CLOSE else ""
            told.append(f"{budget.cost} <= {shown(budget.cost, budget.limit)}{near}")
    return f" As timed it does NOT keep {' and '.join(told)}." if told else ""


def latency_notes(space: Space, timed: Iterable[tuple[str, Measured]]) -> tuple[str, ...]:
    """A line for each budget on latency: which plans keep it as timed. `timed`: those that were, by name."""
    plans = list(timed)
    lines = []
    for budget in space.budgets:
        groups: dict[str, list[str]] = {}
        for name, measured in plans:
            ratio = measured.ratios.get(budget.cost)
            if budget.cost in LATENCIES and ratio is not None:
                groups.setdefault(standing(space, budget, ratio), []).append(name)
        if groups:
            limit, dense = (shown(budget.cost, value) for value in (budget.limit, budget.of(space.dense_costs)))
            told = [f"{how} {', '.join(groups[how])}" for how in (BROKEN, KEPT, CLOSE, UNKNOWN) if how in groups]
            lines.append(
                f"{budget.cost} <= {limit}, as timed on {plans[0][1].device} in turns with the dense model ({dense}): "
                f"{'; '.join(told)}"
            )
            if UNKNOWN in groups:
                lines[-1] += " (times spread by more than a tenth: time on a quieter machine, or raise latency.repeats)"
    return tuple(lines)


def standing(space: Space, budget: Budget, ratio: Ratio) -> str:
    """`KEPT`, or what else a timed ratio to dense says of a budget."""
    dense = budget.of(space.dense_costs)
    if not ratio.reliable:
        return UNKNOWN
    if ratio.median * dense <= budget.limit:
        return KEPT
    return BROKEN if (ratio.median - ratio.spread) * dense > budget.limit else CLOSE

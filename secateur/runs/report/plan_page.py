"""The page of a search for one plan."""

from collections.abc import Sequence
from pathlib import Path

from ...space.budget import labelled, shown
from ...space.latency import Measured
from ...space.space import Space
from ..record.folder import RunFolder
from ..record.journal import FOUND
from .comparison import as_timed, comparison
from .curves import comparison_chart, search_chart
from .page import Card, Chart, Grid, Page
from .profiles import alone, profile_chart
from .rows import ORIGINS, Row
from .summary import Summary
from .timed import BROKEN, CLOSE, KEPT, standing
from .units import human, perplexity, share, size_cost


def plan_page(folder: RunFolder, space: Space, summary: Summary, costs: Sequence[str], estimate: bool) -> Page:
    """What is shown of a run for one plan; `costs` are those that tables show, `estimate`: latency is one."""
    found = next((row for row in summary.rows if row.name == FOUND), None)
    parts: list[Chart | Grid | None] = []
    if found is not None:
        score = folder.recipe.scores[0]
        plans = [(row.name, kept(space, row), row.genome) for row in summary.rows if row.name not in ORIGINS]
        parts = [
            _budgets(space, summary),
            compared(summary, costs, estimate),
            comparison_chart(summary),
            profile_chart(space, plans, alone(folder, space), score),
            search_chart(folder, space),
        ]
    else:
        parts = [compared(summary, costs, estimate)]
    parts.append(tasks(summary))
    parts.append(all_costs(summary, found or summary.rows[-1], estimate))
    return Page(
        title=f"{model_name(folder)}: {', '.join(budgets_of(folder, space)) or 'no budget'}",
        under=f"Run {folder.path.name}; model {folder.recipe.model.path}; searched by {folder.recipe.strategy.name}.",
        verdict=summary.verdict,
        cards=_cards(space, summary, found) if found is not None else [],
        parts=[part for part in parts if part is not None],
        notes=notes(summary, [summary.slack and f"* {summary.slack}", *summary.latency, *summary.training]),
        recipe=folder.recipe.to_yaml(),
    )


def budgets_of(folder: RunFolder, space: Space) -> list[str]:
    """What was asked for, in short."""
    asked = [f"least {folder.recipe.score}"] if folder.recipe.smallest else []
    return [*asked, *(f"{budget.cost} {budget.text}" for budget in space.budgets), *map(str, folder.recipe.limits)]


SAID = {BROKEN: "NO, as timed", CLOSE: "no, by less than timings spread"}
"""Of a budget that was timed, where it is not kept."""


def notes(summary: Summary, first: Sequence[str]) -> list[str]:
    """What is said below: of this report, then of every one."""
    lines = [*summary.told, *first, *summary.source]
    lines += [f"Baseline {name} does not apply: {reason}" for name, reason in summary.skipped.items()]
    lines += [f"Some candidates failed: {reason}" for reason in summary.failures]
    lines.append(
        f"{summary.evaluations:,} evaluations in all, {summary.tokens:,} tokens one at a time, "
        f"{summary.layer_passes:,} layer passes "
        f"really made, {summary.seconds / 60:.1f} minutes of evaluation."
    )
    return [line for line in lines if line]


def compared(summary: Summary, costs: Sequence[str], estimate: bool) -> Grid:
    """Every plan beside what was found."""
    columns, rows = comparison(summary, costs, estimate, digits=4)
    bold = [number for number, row in enumerate(summary.rows) if row.name == FOUND]
    return Grid("Found plan against baselines", [column.heading for column in columns], rows, bold)


def tasks(summary: Summary) -> Grid | None:
    """Downstream tasks, where some were evaluated."""
    if not summary.tasks:
        return None
    headings, *rows = summary.tasks
    return Grid("Downstream tasks", headings, rows)


def all_costs(summary: Summary, row: Row, estimate: bool) -> Grid:
    """Every cost of a plan, in units people think in."""
    rows = [
        [
            labelled(name, estimate),
            human(name, value),
            human(name, summary.dense_costs[name]),
            share(value, summary.dense_costs[name]),
            shown(name, value),
        ]
        for name, value in row.costs.items()
    ]
    return Grid(f"Costs of {row.name}", ["cost", row.name, "dense", "of dense", "exactly"], rows)


def _cards(space: Space, summary: Summary, found: Row) -> list[Card]:
    dense = summary.dense_costs
    size = size_cost(found.costs)
    cards = [
        Card("size", human(size, found.costs[size]), f"of {human(size, dense[size])} dense"),
        Card(
            "parameters",
            human("parameters", found.costs["parameters"]),
            f"{share(found.costs['parameters'], dense['parameters'])} of dense",
        ),
        Card("compute", share(found.costs["macs"], dense["macs"]), "of the dense model's MACs a token"),
    ]
    if found.costs["linear_weights"] < dense["linear_weights"] and found.costs["parameters"] == dense["parameters"]:
        zeros = 1 - found.costs["linear_weights"] / dense["linear_weights"]
        cards[2] = Card("zeros", f"{100 * zeros:.1f} %", "of the linears' weights")
    measured = found.measured
    if measured is not None:
        cards.append(Card("request", *milliseconds(space, measured)))
    dense_row = summary.rows[-1]
    for text in summary.held_out:
        if "cross_entropy" not in summary.always:
            if text in found.scores:
                [first, _], scores = summary.always, found.scores[text]
                cards.append(
                    Card(f"{first}, {text}", f"{scores[first].mean:.4f}", f"± {scores[first].standard_error:.4f}")
                )
        elif text in found.scores and text in dense_row.scores:
            before = perplexity(dense_row.scores[text]["cross_entropy"].mean)
            cards.append(
                Card(
                    f"perplexity, {text}",
                    perplexity(found.scores[text]["cross_entropy"].mean),
                    f"{before} {dense_row.name}",
                )
            )
    return cards


def milliseconds(space: Space, measured: Measured) -> tuple[str, str]:
    """What a whole request takes as timed, and what it takes the dense model."""
    assert space.latency is not None
    own, dense = (times.request(space.latency.workload) for times in (measured.times, measured.dense))
    return human("latency", own), f"{human('latency', dense)} dense, timed in turns on {measured.device}"


def _budgets(space: Space, summary: Summary) -> Grid | None:
    """Every budget: its limit, what was found takes of it, and whether it is kept, as measured where that was done."""
    if not space.budgets:
        return None
    found = summary.rows[0]
    ratios = found.measured.ratios if found.measured is not None else {}
    rows = []
    for budget in space.budgets:
        value = found.costs[budget.cost]
        cells = [budget.cost, budget.text, human(budget.cost, budget.limit), human(budget.cost, value)]
        cells.append(f"{100 * value / max(1, budget.limit):.1f} %")
        how = standing(space, budget, ratios[budget.cost]) if budget.cost in ratios else KEPT
        cells += [as_timed(summary.dense_costs, found.measured, budget.cost), SAID.get(how, "yes")]
        rows.append(cells)
    headings = ["budget", "asked", "limit", "found", "of the limit", "as timed", "kept"]
    timed = any(row[5] for row in rows)
    kept = [index for index in range(len(headings)) if index != 5 or timed]
    return Grid("Budgets", [headings[i] for i in kept], [[row[i] for i in kept] for row in rows])


def model_name(folder: RunFolder) -> str:
    """The model of a run, in short."""
    return Path(folder.recipe.model.path.removeprefix("package:")).name


def kept(space: Space, row: Row) -> str:
    """A plan's size in a few words."""
    dense, costs = space.dense_costs, row.costs
    return f"{human('parameters', costs['parameters'])} parameters, {share(costs['macs'], dense.macs)} of dense MACs"

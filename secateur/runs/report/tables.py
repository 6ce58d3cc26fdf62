"""The report in the terminal."""

import math
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from ...plans.layers import unit
from ...plans.plan import Plan
from ...space.budget import labelled, shown
from .compare import Compared
from .front import FrontSummary
from .front_page import corner, table, table_errors
from .summary import Summary


def _perplexity(nats: float) -> str:
    value = math.exp(min(nats, 700.0))
    return f"{value:.1f}" if value < 10_000 else f"{value:.1e}"


def print_summary(
    console: Console, summary: Summary, budgets: list[str], costs: Sequence[str], estimate: bool = False
) -> None:
    """Prints verdict and comparison; `costs` are shown relative to dense. `estimate`: latency is one."""
    console.print(summary.verdict, style="bold")
    table = Table(title=f"Budget: {', '.join(budgets) or 'none'}", title_justify="left")
    headings = ["plan", *(f"{labelled(cost, estimate)}\nof dense" for cost in costs)]
    for text in summary.held_out:
        headings += [f"{text}\nKL", "\nppl"]
    headings += ["found minus this\n95 % interval", "search\ntokens"]
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "plan" else "right", no_wrap=True)
    for row in summary.rows:
        cells = [f"{row.name}{' *' * row.slack}"]
        cells += [f"{row.costs[cost] / max(1, summary.dense_costs[cost]):.4f}" for cost in costs]
        for text in summary.held_out:
            scores = row.scores.get(text)
            if scores is None:
                cells += ["", ""]
                continue
            kl = scores["kl"]
            cells += [f"{kl.mean:.3f} ± {kl.standard_error:.3f}", _perplexity(scores["cross_entropy"].mean)]
        d = row.against
        cells.append(f"{d.mean:+.4f} [{d.low:+.4f}, {d.high:+.4f}]" if d else "")
        cells.append(f"{row.tokens:,}" if row.tokens else "")
        table.add_row(*cells, style="bold" if row.name == "found" else "")
    console.print(table)
    if summary.slack:
        console.print(f"* {summary.slack}")
    _print_rest(console, summary)


def print_front(console: Console, front: FrontSummary, budgets: list[str]) -> None:
    """Prints verdict, members and references of a front, the knee in bold."""
    console.print(front.verdict, style="bold")
    headings, rows = table(front, brief=True)
    grid = Table(title=f"Budget: {', '.join(budgets) or 'none'}", title_justify="left")
    for heading in headings:
        grid.add_column(heading, justify="left" if heading == "plan" else "right", no_wrap=True)
    for row in rows:
        grid.add_row(*row, style="bold" if row[1] == front.knee else "")
    console.print(grid)
    ideal, worst = (", ".join(corner(front, values)) for values in front.corners)
    console.print(
        f"knee: {front.knee}; hypervolume {front.hypervolume:.4f} of the box from {ideal} to {worst}",
        markup=False,
        highlight=False,
    )
    for line in table_errors(front):
        console.print(line)
    _print_rest(console, front.summary, latency=False)


def print_compared(console: Console, runs: Sequence[Compared]) -> None:
    """Prints several runs side by side."""
    fronts = runs[0].volume is not None
    headings = ["run", "strategy", "evaluations", "tokens"]
    headings += (
        ["members", "on the joint\nfront", "hypervolume\ncalibration", "hypervolume\nheld-out KL"]
        if fronts
        else ["held-out KL", "minus the first run\npaired 95 %"]
    )
    grid = Table()
    for heading in headings:
        grid.add_column(heading, justify="left" if heading in ("run", "strategy") else "right", no_wrap=True)
    for one in runs:
        cells = [one.name, one.strategy, f"{one.evaluations:,}", f"{one.tokens:,}"]
        if fronts:
            cells += [str(one.members), str(one.shared), f"{one.volume or 0.0:.4f}"]
            cells.append(f"{one.held_volume:.4f}" if one.held_volume is not None else "")
        else:
            d = one.difference
            cells.append(f"{one.loss:.4f}" if one.loss is not None else "")
            cells.append(f"{d.mean:+.4f} [{d.low:+.4f}, {d.high:+.4f}]" if d else "")
        grid.add_row(*cells)
    console.print(grid)


def print_plan(console: Console, plan: Plan) -> None:
    """Prints one plan: its costs, scores, and what each layer keeps."""
    console.print(f"{plan.name}: {plan.model.path}", style="bold")
    for name, value in plan.costs.items():
        ratio = value / max(1, plan.dense_costs[name])
        label = labelled(name, plan.latency_estimate)
        console.print(f"{label:20} {shown(name, value):>20}   {ratio:.4f} of dense")
    if plan.latency is not None:
        for name, (ratio, spread) in plan.latency.ratios.items():
            console.print(f"{name:20} measured on {plan.latency.device}: {ratio:.4f} ± {spread:.4f} of dense")
    for text, scores in plan.scores.items():
        for name, score in scores.items():
            console.print(f"{text} {name}: {score.mean:.4f} ± {score.standard_error:.4f}")
    grid = Table()
    for heading in ("layer", *map(unit, plan.dimensions), "sparsity"):
        grid.add_column(heading, justify="right")
    for layer in plan.layers:
        levels = ", ".join(f"{name} {value}" for name, value in layer.levels.items())
        parts = [layer.kept.get(dimension) for dimension in plan.dimensions]
        cells = ["" if part is None else f"{part.kept} of {part.of}" if part.kept else "dropped" for part in parts]
        grid.add_row(str(layer.index), *cells, levels)
    console.print(grid)


def print_tasks(console: Console, grid: Sequence[Sequence[str]]) -> None:
    """Prints downstream tasks, the first row being headings."""
    headings, *rows = grid
    shown = Table(title="Downstream tasks", title_justify="left")
    for heading in headings:
        shown.add_column(heading, justify="left" if heading == "plan" else "right")
    for row in rows:
        shown.add_row(*(cell for cell in row))
    console.print(shown)


def print_tuned(
    console: Console, points: Sequence[tuple[int, Mapping[str, Mapping[str, float]]]], prediction: float | None
) -> None:
    """Prints what a plan loses after so many tokens of training, and what twice as many are predicted to leave."""
    grid = Table(title="Training", title_justify="left")
    texts = list(points[0][1])
    for heading in ("tokens", *(f"{text} {score}" for text in texts for score in ("KL", "perplexity"))):
        grid.add_column(heading, justify="right")
    for tokens, losses in points:
        cells = []
        for text in texts:
            cells += [f"{losses[text]['kl']:.4f}", _perplexity(losses[text]["cross_entropy"])]
        grid.add_row(f"{tokens:,}", *cells)
    console.print(grid)
    if prediction is not None:
        console.print(
            f"Prediction, not a measurement (P^2 law through these points): {2 * points[-1][0]:,} tokens would leave a "
            f"KL of {prediction:.4f}.",
            highlight=False,
        )


def _print_rest(console: Console, summary: Summary, latency: bool = True) -> None:
    for line in summary.latency if latency else ():
        console.print(line)
    for line in (summary.model, *summary.training, *summary.source):
        if line:
            console.print(line)
    if summary.tasks:
        print_tasks(console, summary.tasks)
    for name, reason in summary.skipped.items():
        console.print(f"baseline {name} does not apply: {reason}")
    for reason in summary.failures:
        console.print(f"some candidates failed: {reason}")
    console.print(
        f"{summary.evaluations:,} evaluations, {summary.tokens:,} tokens one at a time, "
        f"{summary.layer_passes:,} layer passes really made, {summary.seconds / 60:.1f} minutes of evaluation",
        highlight=False,
    )

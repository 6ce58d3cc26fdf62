"""The report in the terminal."""

from collections.abc import Mapping, Sequence

from rich.console import Console

from ...plans.plan import Plan
from ...space.budget import labelled, shown
from .compare import Compared
from .comparison import comparison
from .draws import Drawn, columns_and_rows
from .fitting import Column, print_table
from .front import FrontSummary
from .front_page import corner, random_search, table, table_errors
from .summary import Summary
from .units import perplexity


def print_summary(
    console: Console, summary: Summary, budgets: list[str], costs: Sequence[str], estimate: bool = False
) -> None:
    """Prints verdict and comparison; `costs` are shown relative to dense. `estimate`: latency is one."""
    console.print(summary.verdict, style="bold")
    columns, rows = comparison(summary, costs, estimate, digits=3)
    bold = [number for number, row in enumerate(summary.rows) if row.name == "found"]
    print_table(console, f"Budget: {', '.join(budgets) or 'none'}", columns, rows, bold, "secateur report RUN --json")
    if summary.slack:
        console.print(f"* {summary.slack}")
    _print_rest(console, summary)


def print_front(console: Console, front: FrontSummary, budgets: list[str]) -> None:
    """Prints verdict, members and references of a front, the knee in bold."""
    console.print(front.verdict, style="bold")
    headings, rows = table(front, brief=True)
    columns = [Column(heading, _rank(heading, front), heading == "plan") for heading in headings]
    bold = [number for number, row in enumerate(rows) if row[1] == front.knee]
    print_table(console, f"Budget: {', '.join(budgets) or 'none'}", columns, rows, bold, "secateur report RUN --json")
    ideal, worst = (", ".join(corner(front, values)) for values in front.corners)
    console.print(
        f"knee: {front.knee}; hypervolume {front.hypervolume:.4f} of the box from {ideal} to {worst}",
        markup=False,
        highlight=False,
    )
    for line in (*random_search(front), *table_errors(front)):
        console.print(line)
    _print_rest(console, front.summary, latency=False)


def _rank(heading: str, front: FrontSummary) -> int:
    """How soon a column of a front is left out where there is no room: costs and losses stay longest."""
    words = heading.split()
    for rank, last in enumerate((("held-out",), ("ms",), ("table", "ESTIMATE")), start=1):
        if words[-1] in last and words[0] not in ("KL", "prefill"):
            return rank
    if words[0] in ("prefill", "decode"):
        return 5
    sized = any(objective.name == words[0] for objective in front.objectives)
    return 4 if words == ["parameters", "of", "dense"] and not sized else 0


def print_compared(console: Console, runs: Sequence[Compared]) -> None:
    """Prints several runs side by side."""
    fronts, score = runs[0].volume is not None, "KL" if runs[0].score == "kl" else runs[0].score
    columns = [
        Column("run", text=True),
        Column("strategy", 2, text=True),
        Column("evaluations", 4),
        Column("tokens", 3),
    ]
    columns += (
        [Column("members", 1), Column("on the joint\nfront", 1), Column("hypervolume\ncalibration")]
        if fronts
        else [Column(f"held-out {score}"), Column("minus the first run\npaired 95 %")]
    )
    columns += [Column(f"hypervolume\nheld-out {score}", 1)] if fronts else []
    rows = []
    for one in runs:
        cells = [one.name, one.strategy, f"{one.evaluations:,}", f"{one.tokens:,}"]
        if fronts:
            cells += [str(one.members), str(one.shared), f"{one.volume or 0.0:.4f}"]
            cells.append(f"{one.held_volume:.4f}" if one.held_volume is not None else "")
        else:
            d = one.difference
            cells.append(f"{one.loss:.4f}" if one.loss is not None else "")
            cells.append(f"{d.mean:+.4f} [{d.low:+.4f}, {d.high:+.4f}]" if d else "")
        rows.append(cells)
    print_table(console, "", columns, rows)


def print_draws(console: Console, drawn: Drawn) -> None:
    """Prints what several draws come to together."""
    console.print(drawn.verdict, style="bold")
    columns, rows = columns_and_rows(drawn)
    print_table(console, f"{len(drawn.seeds)} draws of the text", columns, rows, [0])


def print_plan(console: Console, plan: Plan) -> None:
    """Prints one plan: its costs, scores, and what each layer keeps."""
    console.print(f"{plan.name}: {plan.model.path}", style="bold")
    for name, value in plan.costs.items():
        ratio = value / max(1, plan.dense_costs[name])
        label = labelled(name, plan.latency_estimate)
        console.print(f"{label:20} {shown(name, value):>20}   {ratio:.4f} of dense")
    if plan.latency is not None:
        for name, (ratio, spread) in plan.latency.ratios.items():
            console.print(f"{name:20} measured on {plan.latency.device}: {ratio:.4f} ± {spread:.4f} (95 %) of dense")
    for text, scores in plan.scores.items():
        for name, score in scores.items():
            console.print(f"{text} {name}: {score.mean:.4f} ± {score.standard_error:.4f}")
    headings, rows = plan.table()
    print_table(console, "", [Column(heading, text=heading == headings[-1]) for heading in headings], rows)


def print_tasks(console: Console, grid: Sequence[Sequence[str]]) -> None:
    """Prints downstream tasks, the first row being headings."""
    headings, *rows = grid
    columns = [Column(heading, max(0, place - 2), text=place == 0) for place, heading in enumerate(headings)]
    print_table(console, "Downstream tasks", columns, rows)


def print_tuned(
    console: Console, points: Sequence[tuple[int, Mapping[str, Mapping[str, float]]]], prediction: float | None
) -> None:
    """Prints what a plan loses after so many tokens of training, and what twice as many are predicted to leave."""
    texts = list(points[0][1])
    columns = [Column("tokens")]
    for place, text in enumerate(texts):
        columns += [Column(f"{text}\nKL", place), Column(f"{text}\nperplexity", place + 1)]
    rows = []
    for tokens, losses in points:
        cells = []
        for text in texts:
            cells += [f"{losses[text]['kl']:.4f}", perplexity(losses[text]["cross_entropy"])]
        rows.append([f"{tokens:,}", *cells])
    print_table(console, "Training", columns, rows)
    if prediction is not None:
        console.print(
            f"Prediction, not a measurement (P^2 law through these points): {2 * points[-1][0]:,} tokens would leave a "
            f"KL of {prediction:.4f}.",
            highlight=False,
        )


def _print_rest(console: Console, summary: Summary, latency: bool = True) -> None:
    for line in summary.latency if latency else ():
        console.print(line)
    for line in (*summary.told, *summary.training, *summary.source):
        console.print(line)
    if summary.tasks:
        print_tasks(console, summary.tasks)
    for name, reason in summary.skipped.items():
        console.print(f"baseline {name} does not apply: {reason}")
    for reason in summary.failures:
        console.print(f"some candidates failed: {reason}")
    console.print(
        f"{summary.evaluations:,} evaluations in all, {summary.tokens:,} tokens one at a time, "
        f"{summary.layer_passes:,} layer passes really made, {summary.seconds / 60:.1f} minutes of evaluation",
        highlight=False,
    )

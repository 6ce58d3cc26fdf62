"""The report in the terminal."""

import math

from rich.console import Console
from rich.table import Table

from .summary import Summary


def print_summary(console: Console, summary: Summary, budgets: list[str], cost: str) -> None:
    """Prints verdict and comparison; `cost` is the cost shown relative to dense."""
    console.print(summary.verdict, style="bold", markup=False, highlight=False)
    table = Table(title=f"Budget: {', '.join(budgets) or 'none'}", title_justify="left")
    table.add_column("plan")
    table.add_column(f"{cost} (of dense)", justify="right")
    for text in summary.held_out:
        table.add_column(f"{text} KL", justify="right")
        table.add_column("perplexity", justify="right")
    table.add_column("found minus this, 95 %", justify="right")
    table.add_column("search tokens", justify="right")
    table.add_column("evaluations", justify="right")
    for row in summary.rows:
        cells = [row.name, f"{row.costs[cost] / max(1, summary.dense_costs[cost]):.4f}"]
        for text in summary.held_out:
            scores = row.scores.get(text)
            if scores is None:
                cells += ["", ""]
                continue
            kl = scores["kl"]
            cells += [f"{kl.mean:.4f} ± {kl.standard_error:.4f}", f"{math.exp(scores['cross_entropy'].mean):.2f}"]
        d = row.against
        cells.append(f"{d.mean:+.4f} [{d.low:+.4f}, {d.high:+.4f}]" if d else "")
        cells += [f"{row.tokens:,}" if row.tokens else "", f"{row.evaluations:,}" if row.evaluations else ""]
        table.add_row(*cells, style="bold" if row.name == "found" else "")
    console.print(table)
    for name, reason in summary.skipped.items():
        console.print(f"baseline {name} does not apply: {reason}", markup=False)
    for reason in summary.failures:
        console.print(f"some candidates failed: {reason}", markup=False)
    console.print(
        f"{summary.evaluations:,} evaluations, {summary.tokens:,} tokens one at a time, "
        f"{summary.layer_passes:,} layer passes really made, {summary.seconds / 60:.1f} minutes of evaluation",
        highlight=False,
    )

"""The report in the terminal."""

import math

from rich.console import Console
from rich.table import Table

from .summary import Summary


def _perplexity(nats: float) -> str:
    value = math.exp(min(nats, 700.0))
    return f"{value:.1f}" if value < 10_000 else f"{value:.1e}"


def print_summary(console: Console, summary: Summary, budgets: list[str], cost: str) -> None:
    """Prints verdict and comparison; `cost` is the cost shown relative to dense."""
    console.print(summary.verdict, style="bold", markup=False, highlight=False)
    table = Table(title=f"Budget: {', '.join(budgets) or 'none'}", title_justify="left")
    headings = ["plan", f"{cost}\nof dense"]
    for text in summary.held_out:
        headings += [f"{text}\nKL", "\nppl"]
    headings += ["found minus this\n95 % interval", "search\ntokens"]
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "plan" else "right", no_wrap=True)
    for row in summary.rows:
        cells = [row.name, f"{row.costs[cost] / max(1, summary.dense_costs[cost]):.4f}"]
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
    for name, reason in summary.skipped.items():
        console.print(f"baseline {name} does not apply: {reason}", markup=False)
    for reason in summary.failures:
        console.print(f"some candidates failed: {reason}", markup=False)
    console.print(
        f"{summary.evaluations:,} evaluations, {summary.tokens:,} tokens one at a time, "
        f"{summary.layer_passes:,} layer passes really made, {summary.seconds / 60:.1f} minutes of evaluation",
        highlight=False,
    )

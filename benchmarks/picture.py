"""The README's picture and its first table, from two runs.

secateur search demo-depth --out runs-local/demo-depth
secateur search demo-sizes --out runs-local/demo-sizes
python -m benchmarks.picture runs-local/demo-depth runs-local/demo-sizes
"""

import re
from pathlib import Path

import numpy as np
import typer
from matplotlib.figure import Figure

import secateur
from benchmarks.setup import DOMAINS
from secateur.runs.report.front import Point

app = typer.Typer(add_completion=False)
README, PICTURE = Path("README.md"), Path("docs/front.png")
COLOURS = {"found": "#0072b2", "uniform-width": "#d55e00", "shortgpt": "#009e73"}
"""Okabe and Ito's, told apart by everybody."""
NAMES = {"uniform-width": "the same width in every layer", "shortgpt": "whole blocks by ShortGPT's rule"}


@app.command()
def main(depth: Path, sizes: Path) -> None:
    """Writes both."""
    picture(sizes)
    text = README.read_text()
    block = f"<!-- demo: written by python -m benchmarks.picture -->\n{table(depth)}\n<!-- /demo -->"
    README.write_text(re.sub(r"<!-- demo: .*?<!-- /demo -->", lambda _: block, text, flags=re.DOTALL))


def table(path: Path) -> str:
    """The rows of a report as Markdown: what was found, and every baseline that the verdict is about."""
    summary = secateur.Run(path).summary
    titles = " | ".join(f"KL, {DOMAINS[text]}" for text in summary.held_out)
    lines = [f"| plan | block parameters | {titles} | tokens |", "|---|---|" + "---|" * len(summary.held_out) + "---|"]
    for row in summary.rows:
        if row.name == "dense" or row.slack:
            continue
        share = row.costs["block_parameters"] / summary.dense_costs["block_parameters"]
        losses = [
            f"{row.scores[text]['kl'].mean:.3f} ± {row.scores[text]['kl'].standard_error:.3f}"
            for text in summary.held_out
        ]
        lines.append(f"| {row.name} | {share:.4f} | {' | '.join(losses)} | {row.tokens:,} |")
    return "\n".join([f"> {summary.verdict}", "", *lines])


def picture(path: Path) -> None:
    """KL on held-out text against the share of the parameters that is left."""
    front = secateur.Run(path).front
    assert front is not None
    dense = front.summary.dense_costs["parameters"]
    figure = Figure(figsize=(7.2, 3.6), dpi=160, layout="constrained")
    axes = figure.add_subplot()

    def drawn(points: list[Point], title: str, colour: str, marker: str) -> None:
        points = sorted(points, key=lambda point: point.row.costs["parameters"])
        shares = [point.row.costs["parameters"] / dense for point in points]
        losses = [np.mean([scores["kl"].mean for scores in point.row.scores.values()]) for point in points]
        errors = [np.mean([scores["kl"].standard_error for scores in point.row.scores.values()]) for point in points]
        axes.errorbar(shares, losses, errors, marker=marker, color=colour, label=title, capsize=2, linewidth=1.4)

    drawn(list(front.members), "found by one search", COLOURS["found"], "o")
    for name, title in NAMES.items():
        some = [point for point in front.references if point.row.name.startswith(f"{name}-")]
        drawn(some, title, COLOURS[name], "s" if name == "shortgpt" else "^")
    largest = max(float(np.mean([s["kl"].mean for s in point.row.scores.values()])) for point in front.members)
    axes.set(xlabel="parameters, share of dense", ylabel="KL to the dense model, held-out text (nats)")
    axes.set_ylim(0, 1.6 * largest)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(PICTURE)


if __name__ == "__main__":
    app()

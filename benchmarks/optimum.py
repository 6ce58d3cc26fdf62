"""Evaluations until the true optimum: spaces of SmolLM2 and of small trained models that were scored whole.

Strategies run on the tables at full fidelity, so that what is counted is decisions, not noise. On drops alone
`multipruner` does what `greedy, all` does; strategies for fronts are in `benchmarks.fronts`. The table and a plot are
written to benchmarks/results/optimum.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.enumerated import Enumerated, first_seen, on_small_models, on_smollm2
from benchmarks.setup import RESULTS, shown, table_of
from secateur.search.model.options import Options
from secateur.search.steps import AskTell, Steps
from secateur.search.strategies.evopress import Schedule, evopress
from secateur.search.strategies.greedy import greedy
from secateur.search.strategies.knapsack import knapsack
from secateur.search.strategies.random import random_search
from secateur.search.strategies.surrogate import surrogate

SEEDS, LIMIT = 10, 1500
OUT = RESULTS / "optimum"
OURS = "surrogate"


def strategies(table: Enumerated) -> dict[str, Callable[[int], Steps]]:
    space, pool = table.space, table.pool
    count = pool.sequences
    full = count * pool.tokens_per_sequence
    published = Schedule(generations=400, offspring=32, survivors=(1,), tokens=(full,), first=64)
    small = Schedule(generations=1000, offspring=8, survivors=(1,), tokens=(full,), first=8)

    def ours(**changes: bool) -> Callable[[int], Steps]:
        options = Options(sequences=count, first=count, tolerance=0.0, **changes)
        return lambda seed: surrogate(space, pool, seed, [space], options)

    return {
        OURS: ours(),
        "surrogate, without sweep and path": ours(sweeping=False),
        "surrogate, without the model": ours(modelling=False),
        "evopress (64 random, 32 children, as published)": lambda seed: evopress(space, pool, seed, published),
        "evopress (8 random, 8 children)": lambda seed: evopress(space, pool, seed, small),
        "evopress (8 children, cost units)": lambda seed: evopress(space, pool, seed, small, "costs"),
        "greedy, 8 lazily": lambda seed: greedy(space, pool, seed, count, lazy=8),
        "greedy, all": lambda seed: greedy(space, pool, seed, count, lazy=None),
        "knapsack": lambda seed: knapsack(space, pool, count),
        "random": lambda seed: random_search(space, pool, seed, count),
    }


def main() -> None:
    for table in (*on_smollm2(), *on_small_models()):
        name = table.name.replace(" ", "-").replace(",", "")
        # The best loss after each evaluation, by strategy and seed.
        curves: dict[str, list[list[float]]] = {}
        title = f"{table.name}: evaluations until the optimum, {SEEDS} seeds, at most {LIMIT:,}"
        headings = ("strategy", "reached", "median", "quartiles", "best at 60, over the optimum", "evaluations in all")
        shown(OUT / f"{name}.md", table_of(title, headings, measured(table, curves)))
        plot(table, curves, OUT / f"{name}.png")


def measured(table: Enumerated, curves: dict[str, list[list[float]]]) -> Iterator[tuple[str, ...]]:
    """Runs every strategy with every seed; a row for each, and its `curves`."""
    for name, make in strategies(table).items():
        results = [first_seen(table, AskTell(make(seed)), LIMIT) for seed in range(SEEDS)]
        curves[name] = [curve for _, curve in results]
        # A seed that ended without the optimum counts as more than any that found it.
        counts = np.array([reached if reached is not None else np.inf for reached, _ in results])
        quartiles = [np.percentile(counts, share, method="nearest") for share in (25, 50, 75)]
        low, middle, high = (f"{value:.0f}" if np.isfinite(value) else "never" for value in quartiles)
        early = np.median([curve[min(59, len(curve) - 1)] for curve in curves[name]]) / table.best
        yield (
            name,
            f"{int(np.isfinite(counts).sum())}/{SEEDS}",
            middle,
            f"{low} to {high}",
            f"{early:.3f}" if np.isfinite(early) else "none yet",
            f"{np.median([len(curve) for curve in curves[name]]):.0f}",
        )


def plot(table: Enumerated, curves: dict[str, list[list[float]]], path: Path) -> None:
    """Median of the best loss over the optimum's, by evaluations."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(8, 5))
    for name, every in curves.items():
        length = max(len(curve) for curve in every)
        padded = np.array([curve + [curve[-1]] * (length - len(curve)) for curve in every]) / table.best
        axis.plot(np.arange(1, length + 1), np.median(padded, axis=0), label=name)
    axis.set(xscale="log", xlabel="evaluations", ylabel="best loss over the optimum's (median)", title=table.name)
    axis.set_ylim(0.98, 2.0)
    axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    main()

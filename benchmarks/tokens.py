"""Tokens until EvoPress's final quality on SmolLM2: depth and sparsity, three targets each; ablations; nine budgets.

The reference is `evopress` as published, scaled to this model: its generations, children, stages and survivors, fresh
minibatches, its own mutation and start; of the tokens of a stage an eighth, since the model has a fiftieth of the
parameters. Depth runs to its end (k (n - k) / 1.5 generations for k of n blocks), sparsity to 4,032 children.

A seed is that of both searches and of their text. All its answers are judged on text of the same source whose documents
neither of them sees, the reference drawing its minibatches from the whole pool, and on held-out text of other sources.
What is in benchmarks/results/tokens is not run again; remove a file to have it made anew. Runs one after the other; for
both cores start it twice with different seeds. What is left out of the command stands for all of its kind: actions,
parts, their seeds.

    python -m benchmarks.tokens [reference|ours|report] [depth|sparsity|ablation|nine] [SEED ...]
"""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import matplotlib
import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.setup import console, paired, shown, table_of
from benchmarks.token_runs import BLOCKS, ROOT, TARGETS, Curve, Judge, ours, reference, reference_curve
from secateur.space.front import hypervolume
from secateur.space.genome import Genome

matplotlib.use("Agg")
NINE = (0.0625, 0.125, 0.1875, 0.25, 0.3125, 0.375, 0.4375, 0.5, 0.5625)
SEEDS = {"depth": (0, 1, 2), "sparsity": (0, 1, 2), "ablation": (0, 1), "nine": (0,)}
"""Those of the README's tables."""
ABLATIONS = {
    "whole": {},
    "without sweep and path": {"sweeping": False},
    "without surrogate": {"modelling": False},
    "without racing": {"racing": False},
}
ABLATED = 0.25
"""Share of sublayers removed in the ablation."""
SHOWN = 12
"""Incumbents of the reference that are judged, evenly from its first to its last."""
WORST = 8.0
"""KL of the reference point of the hypervolume; its other coordinate is the dense model's number of sublayers."""


def first_below(curve: Curve, loss: Callable[[Genome], float], wanted: float) -> int | None:
    """Tokens after which an incumbent was first as good as wanted, whatever came after it; None: never."""
    return next((tokens for tokens, _, genome in curve if loss(genome) <= wanted), None)


def at(curve: Curve, tokens: int) -> Genome:
    """The incumbent after so many tokens, or the first one."""
    before = [genome for spent, _, genome in curve if spent <= tokens]
    return before[-1] if before else curve[0][2]


def spread(curve: Curve) -> Curve:
    """Up to `SHOWN` points of a curve, the first and the last included."""
    return [curve[index] for index in np.unique(np.linspace(0, len(curve) - 1, SHOWN).astype(int))]


def behind(mine: Curve, theirs: Curve, loss: Callable[[Genome], float]) -> str:
    """At how many points of another curve a curve had no answer yet, and at how many its answer was worse; how late."""
    points = spread(theirs)
    later = [point for point in points if point[0] >= mine[0][0]]
    worse = [tokens for tokens, _, genome in later if loss(genome) < loss(at(mine, tokens))]
    text = f"of {len(points)}: {len(points) - len(later)} before the first answer, {len(worse)} after it"
    return text + (f", the last at {worse[-1]:,}" if worse else "")


def compared(kind: str, seeds: Sequence[int]) -> Iterator[tuple[str, ...]]:
    """Rows of the table, one for each target and seed whose reference has finished."""
    judges = {seed: Judge(kind, seed) for seed in seeds}
    for removed in TARGETS[kind]:
        shares = []
        for seed, judge in judges.items():
            theirs = reference_curve(kind, removed, seed)
            if theirs is None:
                console.print(f"{kind} {removed:.1%}, seed {seed}: the reference has not been run")
                continue
            [mine] = ours(kind, [removed], seed, "surrogate")
            final = judge.loss(theirs[-1][2])
            reached = first_below(mine, judge.loss, final)
            total = theirs[-1][0]
            shares.append(reached / total if reached is not None else float("inf"))
            rivals = theirs[-1][2], at(theirs, mine[-1][0])
            yield (
                f"{kind} {removed:.1%}",
                str(seed),
                f"{theirs[-1][1]:,} / {total:,}",
                f"{final:.4f}",
                f"{reached:,}" if reached is not None else "never",
                f"{reached / total:.1%}" if reached is not None else "-",
                f"{mine[-1][1]:,} / {mine[-1][0]:,}",
                f"{judge.loss(mine[-1][2]):.4f}",
                *(paired(judge.held_out(mine[-1][2]), judge.held_out(rival)) for rival in rivals),
                behind(mine, theirs, judge.loss),
            )
        if shares:
            median = float(np.median(shares))
            said = f"{median:.1%}" if math.isfinite(median) else "never"
            yield (f"{kind} {removed:.1%}", "median", "", "", "", said, *[""] * 5)


def report(kind: str, seeds: Sequence[int]) -> None:
    headings = ["target", "seed", "evopress: evaluations / tokens", "KL", "ours: tokens to it", "share"]
    headings += ["ours at the end", "KL", "held-out, ours minus evopress, both at the end"]
    headings += ["the same, evopress after as many tokens", "worse at equal tokens (KL on fresh text)"]
    title = f"{kind}: tokens to the final KL of evopress (fresh text)"
    shown(ROOT / f"{kind}.md", table_of(title, headings, compared(kind, seeds)))
    plot(kind, seeds)


def variant(name: str, seed: int) -> Curve:
    """A run of the ablation. Without a model nothing says when to stop, so it takes as much as the whole did."""
    [whole] = ours("depth", [ABLATED], seed, "surrogate")
    if name == "whole":
        return whole
    changes = ABLATIONS[name]
    most = None if changes.get("modelling", True) else whole[-1][0]
    [curve] = ours("depth", [ABLATED], seed, name, most, **changes)
    return curve


def ablation(seeds: Sequence[int]) -> None:
    """Depth, 25 %: what each part is worth, at its own end and at the tokens of the whole; sharing is in `nine`."""
    kind, removed = "depth", ABLATED
    judges = {seed: Judge(kind, seed) for seed in seeds}
    figure, axis = pyplot.subplots(figsize=(6, 4))

    def rows() -> Iterator[tuple[str, ...]]:
        for colour, name in enumerate(ABLATIONS):
            for seed, judge in judges.items():
                theirs = reference_curve(kind, removed, seed)
                whole, curve = variant("whole", seed), variant(name, seed)
                wanted = [judge.loss(one[-1][2]) for one in (whole, theirs) if one is not None]
                reached = [first_below(curve, judge.loss, loss) for loss in wanted]
                points = [(tokens, judge.loss(genome)) for tokens, _, genome in curve]
                axis.step(*zip(*points, strict=True), where="post", color=f"C{colour}", label=name)
                yield (
                    name,
                    str(seed),
                    f"{curve[-1][1]:,} / {curve[-1][0]:,}",
                    f"{judge.loss(curve[-1][2]):.4f}",
                    f"{judge.loss(at(curve, whole[-1][0])):.4f}",
                    *(f"{tokens:,}" if tokens is not None else "never" for tokens in reached),
                    *(["-"] if theirs is None else []),
                )

    headings = ["variant", "seed", "evaluations / tokens", "KL at the end", "KL at the tokens of the whole"]
    headings += ["tokens to the whole's KL", "tokens to evopress's"]
    shown(ROOT / "ablation.md", table_of("Ablation: depth, 25 %", headings, rows()))
    axis.set(xscale="log", xlabel="tokens forwarded", ylabel="KL")
    labelled(axis)
    saved(figure, "ablation.png")


def nine(seeds: Sequence[int]) -> None:
    """Nine budgets in one run, in nine runs of ours, and in nine of the reference: hypervolume of KL and sublayers."""
    dense = float(2 * BLOCKS)

    def volume(judge: Judge, genomes: Sequence[Genome]) -> float:
        points = [(judge.loss(genome), float(judge.space.costs(genome).sublayers or 0)) for genome in genomes]
        inside = [point for point in points if point[0] <= WORST]
        return hypervolume(inside, (WORST, dense), (0.0, 0.0))

    figure, axis = pyplot.subplots(figsize=(6, 4))

    def rows() -> Iterator[tuple[str, ...]]:
        for seed in seeds:
            judge = Judge("depth", seed)
            together = ours("depth", NINE, seed, "surrogate")
            alone = [ours("depth", [removed], seed, "surrogate")[0] for removed in NINE]
            theirs = [reference_curve("depth", removed, seed) for removed in NINE]
            known = [curve for curve in theirs if curve is not None]
            sets = [("ours, nine budgets in one run", together, together[0][-1][0])]
            sets.append(("ours, nine runs (without sharing)", alone, sum(curve[-1][0] for curve in alone)))
            if len(known) < len(NINE):
                console.print(f"depth, seed {seed}: {len(NINE) - len(known)} references have not been run")
            else:
                sets.append(("evopress, nine runs", known, sum(curve[-1][0] for curve in known)))
            for colour, (name, curves, tokens) in enumerate(sets):
                losses = [judge.loss(curve[-1][2]) for curve in curves]
                hypervolume_of = volume(judge, [curve[-1][2] for curve in curves])
                each = " ".join(f"{loss:.3f}" for loss in losses)
                yield name, str(seed), f"{tokens:,}", f"{hypervolume_of:.4f}", each
                label = f"{name}: {tokens / 1e6:.1f} M tokens"
                axis.plot([dense * (1 - share) for share in NINE], losses, "o-", color=f"C{colour}", label=label)

    headings = ["", "seed", "tokens", "hypervolume", "KL at each budget"]
    shown(ROOT / "nine.md", table_of("Nine depth budgets", headings, rows()))
    axis.set(xlabel="sublayers kept", ylabel="KL")
    labelled(axis)
    saved(figure, "nine.png")


def plot(kind: str, seeds: Sequence[int]) -> None:
    """KL on fresh text over tokens, for each target."""
    judges = {seed: Judge(kind, seed) for seed in seeds}
    figure, axes = pyplot.subplots(1, len(TARGETS[kind]), figsize=(13, 4))
    for axis, removed in zip(axes, TARGETS[kind], strict=True):
        for seed, judge in judges.items():
            theirs = reference_curve(kind, removed, seed)
            if theirs is None:
                continue
            [mine] = ours(kind, [removed], seed, "surrogate")
            for label, curve, colour in (("evopress", spread(theirs), "C1"), ("surrogate", mine, "C0")):
                points = [(tokens, judge.loss(genome)) for tokens, _, genome in curve]
                axis.step(*zip(*points, strict=True), where="post", color=colour, label=label)
        axis.set(xscale="log", title=f"{kind}, {removed:.1%} removed", xlabel="tokens forwarded", ylabel="KL")
        labelled(axis)
    saved(figure, f"{kind}.png")


def labelled(axis: Axes) -> None:
    """A legend: every seed has a line, every search one entry."""
    handles, labels = axis.get_legend_handles_labels()
    entries = dict(zip(labels, handles, strict=True))
    axis.legend(entries.values(), entries.keys())


def saved(figure: Figure, name: str) -> None:
    figure.tight_layout()
    figure.savefig(ROOT / name, dpi=120)
    pyplot.close(figure)


def run_references(part: str, seed: int) -> None:
    for removed in NINE if part == "nine" else (ABLATED,) if part == "ablation" else TARGETS[part]:
        reference(part if part in TARGETS else "depth", removed, seed)


def run_ours(part: str, seed: int) -> None:
    if part == "nine":
        ours("depth", NINE, seed, "surrogate")
        for removed in NINE:
            ours("depth", [removed], seed, "surrogate")
    elif part == "ablation":
        for name in ABLATIONS:
            variant(name, seed)
    else:
        for removed in TARGETS[part]:
            ours(part, [removed], seed, "surrogate")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = ("reference", "ours", "report")
    reports: dict[str, Callable[[Sequence[int]], None]] = {"ablation": ablation, "nine": nine}
    parts = tuple(SEEDS)
    parser.add_argument("words", nargs="*", metavar="WORD", help=f"of {', '.join((*actions, *parts))}, and seeds")
    words = parser.parse_args().words
    unknown = [word for word in words if word not in (*actions, *parts) and not word.isdigit()]
    if unknown:
        parser.error(f"{unknown[0]!r} is no seed and none of {', '.join((*actions, *parts))}")
    chosen = [part for part in parts if part in words] or parts
    wanted = [action for action in actions if action in words] or actions
    for part in chosen:
        seeds = sorted({int(word) for word in words if word.isdigit()}) or SEEDS[part]
        for seed in seeds:
            if "reference" in wanted:
                run_references(part, seed)
            if "ours" in wanted:
                run_ours(part, seed)
        if "report" in wanted:
            reports.get(part, partial(report, part))(seeds)


if __name__ == "__main__":
    main()

"""Tokens until EvoPress's final quality on SmolLM2: depth and sparsity, three targets each; ablations; nine budgets.

The reference is `evopress` as published, scaled to this model: its generations, children, stages and survivors, fresh
minibatches, its own mutation and start; of the tokens of a stage an eighth, since the model has a fiftieth of the
parameters. Depth runs to its end (k (n - k) / 1.5 generations for k of n blocks), sparsity to 4,032 children.

All answers are judged on calibration text that our searches do not see (sequences 64 to 128 of the pool, from which the
reference draws too), and on held-out text. Everything is kept in runs-local/benchmark-tokens: what is there is not run
again, what was interrupted goes on. Runs one after the other; for both cores start it twice with different seeds.

    python -m benchmarks.tokens [reference|ours|report] [depth|sparsity|ablation|nine] [SEED ...]
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

import secateur
from benchmarks.enumerated import Unkept
from benchmarks.setup import MODEL, console
from secateur.compose import build_space, load_bench
from secateur.fitness.bench import Bench
from secateur.runs.folder import RunFolder
from secateur.runs.journal import FOUND
from secateur.runs.reading import make_recipe
from secateur.search.loop import Allowance, Spending, Step, run
from secateur.search.memo import Memo
from secateur.search.strategy import Batch, Pool, Strategy
from secateur.search.surrogate import Options, Search
from secateur.space.budget import Budget, parse_limit
from secateur.space.front import hypervolume
from secateur.space.genome import Genome
from secateur.space.space import Space

ROOT = Path("runs-local/benchmark-tokens")
TARGETS = {"depth": (0.125, 0.25, 0.375), "sparsity": (0.5, 0.6, 0.7)}
NINE = (0.0625, 0.125, 0.1875, 0.25, 0.3125, 0.375, 0.4375, 0.5, 0.5625)
SEEDS = (0, 1, 2)
BLOCKS, SEQUENCES, LENGTH = 30, 128, 256
LEVELS = [round(0.05 * step, 2) for step in range(5, 19)]
JUDGED = range(64, 128)
TEXTS = ("sotu", "xsum")
ABLATIONS = {
    "whole": {},
    "without sweep and path": {"sweeping": False},
    "without surrogate": {"modelling": False},
    "without racing": {"racing": False},
}
WORST = 8.0
"""KL of the reference point of the hypervolume; its other coordinate is the dense model's number of sublayers."""

Curve = list[tuple[int, int, Genome]]
"""Tokens and evaluations when each incumbent was found."""


def setting(kind: str, removed: float, seed: int) -> dict[str, Any]:
    """Model, texts, genes and budget of a target: the share of sublayers, or of weights, that is removed."""
    text = {"sequences": 16, "length": LENGTH}
    return {
        "model": {"path": MODEL, "dtype": "bfloat16"},
        "calibration": {
            "source": "package:quac",
            "sequences": SEQUENCES,
            "length": LENGTH,
            "windows_per_document": 2,
        },
        "held_out": [{"source": f"package:{name}", **text} for name in TEXTS],
        "genes": [{"kind": "attention"}, {"kind": "mlp"}]
        if kind == "depth"
        else [{"kind": "sparsity", "per": "sublayer", "levels": LEVELS}],
        "budgets": {"sublayers" if kind == "depth" else "linear_weights": f"{1 - removed}x"},
        "baselines": [],
        "seed": seed,
    }


# -- the reference -----------------------------------------------------------------------------------------------------


def schedule(kind: str, removed: float) -> dict[str, Any]:
    """Published settings (commit 50888a0188), an eighth of the tokens of each stage."""
    if kind == "depth":
        dropped = removed * BLOCKS
        generations = round(dropped * (BLOCKS - dropped) / 1.5)
        return {
            "generations": generations,
            "offspring": 32,
            "survivors": [2, 1],
            "tokens": [256, 4096],
            "first": 64,
        }
    return {"generations": 63, "offspring": 64, "survivors": [8, 2, 1], "tokens": [256, 2048, 8192]}


def reference(kind: str, removed: float, seed: int) -> Path:
    """Begins the run of the reference or goes on with it, unless it has finished."""
    path = ROOT / f"evopress-{kind}-{removed:g}-{seed}"
    if (path / "report").exists():
        return path
    print(f"{path} …", file=sys.stderr, flush=True)
    if (path / "recipe.yaml").exists():
        secateur.resume(path)
        return path
    strategy = {
        "name": "evopress",
        "schedule": schedule(kind, removed),
        "mutation": "levels",
        "minibatches": "fresh",
        "initial": ["random" if kind == "depth" else "uniform"],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    secateur.run(setting(kind, removed, seed) | {"strategy": strategy}, path)
    return path


def reference_curve(kind: str, removed: float, seed: int) -> Curve | None:
    """None: it has not finished."""
    path = ROOT / f"evopress-{kind}-{removed:g}-{seed}"
    if not (path / "report").exists():
        return None
    with RunFolder.open(path, writing=False) as folder:
        turns = folder.journal.turns(FOUND)
    curve: Curve = []
    for turn in turns:
        if turn.incumbent is not None and (not curve or curve[-1][2] != turn.incumbent):
            curve.append((turn.tokens, turn.evaluations, turn.incumbent))
    # The last point says what the whole run took.
    return [*curve, (turns[-1].tokens, turns[-1].evaluations, curve[-1][2])]


# -- ours --------------------------------------------------------------------------------------------------------------


@cache
def loaded(kind: str) -> tuple[Space, Bench]:
    """The space without a budget, and the model with its texts."""
    recipe = make_recipe(setting(kind, 0.5, 0) | {"strategy": {"name": "knapsack"}})
    space = build_space(recipe)
    bench = load_bench(recipe, space)
    bench.prepare(space)
    return space.with_budgets(()), bench


def target(kind: str, removed: float) -> Space:
    space, _ = loaded(kind)
    cost, text = ("sublayers" if kind == "depth" else "linear_weights"), f"{1 - removed}x"
    limit = parse_limit(cost, text, space.dense_costs, "target")
    assert limit is not None
    return space.with_budgets((Budget(cost, limit, text),))


def ours(kind: str, removed: Sequence[float], seed: int, name: str, **changes: Any) -> list[Curve]:
    """Runs our strategy for one or several targets, or reads what it did; one curve for each target."""
    title = "nine" if len(removed) > 1 else f"{removed[0]:g}"
    path = ROOT / f"{name.replace(' ', '-')}-{kind}-{title}-{seed}.json"
    if not path.exists():
        print(f"{path} …", file=sys.stderr, flush=True)
        space, bench = loaded(kind)
        targets = [target(kind, share) for share in removed]
        evaluator = bench.evaluator(space, "calibration", ("kl",))
        whole = Memo(space, evaluator, Unkept())
        curves: list[list[tuple[int, int, tuple[int, ...]]]] = [[] for _ in targets]
        options = replace(Options(), **changes)
        search = Search(space, Pool(SEQUENCES, LENGTH), seed, targets, options)
        # Without a model nothing says when to stop.
        allowance = Allowance(tokens=400_000 if not options.modelling else 1_500_000)
        spending = Spending(LENGTH)

        def watch(_: Step) -> None:
            for curve, genome in zip(curves, search.incumbents, strict=True):
                if genome is not None and (not curve or curve[-1][2] != genome.levels):
                    curve.append((spending.tokens, spending.evaluations, genome.levels))

        started = time.perf_counter()
        run(Strategy(search.steps(())), whole, spending, allowance, watch)
        for curve, genome in zip(curves, search.incumbents, strict=True):
            assert genome is not None
            curve.append((spending.tokens, spending.evaluations, genome.levels))
        values = {"curves": curves, "passes": evaluator.layer_passes, "seconds": time.perf_counter() - started}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    rows = json.loads(path.read_text())["curves"]
    return [[(tokens, evaluations, Genome(tuple(levels))) for tokens, evaluations, levels in row] for row in rows]


# -- judging -----------------------------------------------------------------------------------------------------------


class Judge:
    """Losses of answers on text that no search of ours sees; kept on disk."""

    def __init__(self, kind: str) -> None:
        self.space, self.bench = loaded(kind)
        self.path = ROOT / f"judged-{kind}.json"
        self.known: dict[str, list[float]] = json.loads(self.path.read_text()) if self.path.exists() else {}

    def losses(self, genome: Genome, title: str = "calibration") -> list[float]:
        key = f"{title} {self.space.key(genome)}"
        if key not in self.known:
            used = JUDGED if title == "calibration" else range(16)
            evaluator = self.bench.evaluator(self.space, title, ("kl",))
            [told] = Memo(self.space, evaluator, Unkept())(Batch((genome,), used))
            self.known[key] = list(told.primary)
            self.path.write_text(json.dumps(self.known))
        return self.known[key]

    def loss(self, genome: Genome) -> float:
        return float(np.mean(self.losses(genome)))

    def held_out(self, genome: Genome) -> list[float]:
        return [value for title in TEXTS for value in self.losses(genome, title)]


def first_below(curve: Curve, loss: Callable[[Genome], float], wanted: float) -> int | None:
    """Tokens after which the incumbent was as good as wanted; None: never."""
    return next((tokens for tokens, _, genome in curve if loss(genome) <= wanted), None)


def at(curve: Curve, tokens: int) -> Genome:
    """The incumbent after so many tokens, or the first one."""
    before = [genome for spent, _, genome in curve if spent <= tokens]
    return before[-1] if before else curve[0][2]


def compared(kind: str, seeds: Sequence[int]) -> Iterator[tuple[str, ...]]:
    """Rows of the table, one for each target and seed whose reference has finished."""
    judge = Judge(kind)
    for removed in TARGETS[kind]:
        shares = []
        for seed in seeds:
            theirs = reference_curve(kind, removed, seed)
            if theirs is None:
                continue
            [mine] = ours(kind, [removed], seed, "surrogate")
            final = judge.loss(theirs[-1][2])
            reached = first_below(mine, judge.loss, final)
            total = theirs[-1][0]
            shares.append(reached / total if reached is not None else float("inf"))
            held = np.subtract(judge.held_out(mine[-1][2]), judge.held_out(theirs[-1][2]))
            half = 2.04 * held.std(ddof=1) / len(held) ** 0.5
            yield (
                f"{kind} {removed:.1%}",
                str(seed),
                f"{theirs[-1][1]:,} / {total:,}",
                f"{final:.4f}",
                f"{reached:,}" if reached is not None else "never",
                f"{reached / total:.1%}" if reached is not None else "-",
                f"{mine[-1][1]:,} / {mine[-1][0]:,}",
                f"{judge.loss(mine[-1][2]):.4f}",
                f"{held.mean():+.4f} ± {half:.4f}",
            )
        if shares:
            yield (f"{kind} {removed:.1%}", "median", "", "", "", f"{np.median(shares):.1%}", "", "", "")


def report(kinds: Sequence[str], seeds: Sequence[int]) -> None:
    for kind in kinds:
        headings = ["target", "seed", "evopress: evaluations / tokens", "KL", "ours: tokens to it", "share"]
        headings += ["ours at the end", "KL", "held-out, ours minus evopress, 95 %"]
        written(
            f"{kind}",
            f"{kind}: tokens to the final KL of evopress (fresh calibration text)",
            headings,
            compared(kind, seeds),
        )
        plot(kind, seeds)


def ablation(seeds: Sequence[int]) -> None:
    """Depth, 25 %: what each part is worth, at its own end and at the tokens of the whole."""
    kind, removed = "depth", 0.25
    judge = Judge(kind)

    def rows() -> Iterator[tuple[str, ...]]:
        for name, changes in ABLATIONS.items():
            for seed in seeds:
                [whole] = ours(kind, [removed], seed, "surrogate")
                [curve] = ours(kind, [removed], seed, "surrogate" if name == "whole" else name, **changes)
                level = first_below(curve, judge.loss, judge.loss(whole[-1][2]))
                yield (
                    name,
                    str(seed),
                    f"{curve[-1][1]:,} / {curve[-1][0]:,}",
                    f"{judge.loss(curve[-1][2]):.4f}",
                    f"{judge.loss(at(curve, whole[-1][0])):.4f}",
                    f"{level:,}" if level is not None else "never",
                )

    headings = ["variant", "seed", "evaluations / tokens", "KL at the end", "KL at the tokens of the whole"]
    written("ablation", "Ablation: depth, 25 %", [*headings, "tokens to the whole's KL"], rows())


def nine(seeds: Sequence[int]) -> None:
    """Nine budgets in one run, in nine runs of ours, and in nine of the reference: hypervolume of KL and sublayers."""
    judge = Judge("depth")
    dense = float(2 * BLOCKS)

    def volume(genomes: Sequence[Genome]) -> float:
        points = [(judge.loss(genome), float(judge.space.costs(genome).sublayers or 0)) for genome in genomes]
        inside = [point for point in points if point[0] <= WORST]
        return hypervolume(inside, (WORST, dense), (0.0, 0.0))

    def rows() -> Iterator[tuple[str, ...]]:
        for seed in seeds:
            together = ours("depth", NINE, seed, "surrogate")
            alone = [ours("depth", [removed], seed, "surrogate")[0] for removed in NINE]
            theirs = [reference_curve("depth", removed, seed) for removed in NINE]
            known = [curve for curve in theirs if curve is not None]
            sets = [("ours, nine budgets in one run", together, together[0][-1][0])]
            sets.append(("ours, nine runs (without sharing)", alone, sum(curve[-1][0] for curve in alone)))
            if len(known) == len(NINE):
                sets.append(("evopress, nine runs", known, sum(curve[-1][0] for curve in known)))
            for name, curves, tokens in sets:
                losses = " ".join(f"{judge.loss(curve[-1][2]):.3f}" for curve in curves)
                yield name, str(seed), f"{tokens:,}", f"{volume([curve[-1][2] for curve in curves]):.4f}", losses

    written("nine", "Nine depth budgets", ["", "seed", "tokens", "hypervolume", "KL at each budget"], rows())


def written(name: str, title: str, headings: Sequence[str], rows: Iterator[tuple[str, ...]]) -> None:
    """Prints a table and keeps it as Markdown."""
    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, justify="right")
    lines = [f"# {title}", "", "| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    for row in rows:
        table.add_row(*row)
        lines.append("| " + " | ".join(row) + " |")
    console.print(table)
    (ROOT / f"{name}.md").write_text("\n".join(lines) + "\n")


def plot(kind: str, seeds: Sequence[int]) -> None:
    """KL on fresh calibration text over tokens, for each target."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    judge = Judge(kind)
    figure, axes = pyplot.subplots(1, len(TARGETS[kind]), figsize=(13, 4))
    for axis, removed in zip(axes, TARGETS[kind], strict=True):
        for seed in seeds:
            theirs = reference_curve(kind, removed, seed)
            if theirs is None:
                continue
            [mine] = ours(kind, [removed], seed, "surrogate")
            few = [theirs[index] for index in np.unique(np.linspace(0, len(theirs) - 1, 12).astype(int))]
            for label, curve, colour in (("evopress", few, "C1"), ("surrogate", mine, "C0")):
                points = [(tokens, judge.loss(genome)) for tokens, _, genome in curve]
                axis.step(*zip(*points, strict=True), where="post", color=colour, label=label if not seed else None)
        axis.set(xscale="log", title=f"{kind}, {removed:.1%} removed", xlabel="tokens forwarded", ylabel="KL")
        axis.legend()
    figure.tight_layout()
    figure.savefig(ROOT / f"{kind}.png", dpi=120)
    pyplot.close(figure)


def main() -> None:
    words = set(sys.argv[1:])
    kinds = [kind for kind in TARGETS if kind in words] or list(TARGETS)
    parts = {"ablation", "nine"} & words
    seeds = sorted(int(word) for word in words if word.isdigit()) or list(SEEDS)
    everything = not words & {"reference", "ours", "report"}
    if "reference" in words or everything:
        for seed in seeds:
            for kind in kinds if not parts else ["depth"]:
                for removed in NINE if "nine" in parts else TARGETS[kind]:
                    reference(kind, removed, seed)
    if "ours" in words:
        for seed in seeds:
            for kind in kinds:
                for removed in TARGETS[kind]:
                    ours(kind, [removed], seed, "surrogate")
    if "report" in words or everything:
        if not parts:
            report(kinds, seeds)
        if "ablation" in parts or everything:
            ablation(seeds)
        if "nine" in parts or everything:
            nine(seeds)


if __name__ == "__main__":
    main()

"""Runs of EvoPress and of our strategy on SmolLM2 for `benchmarks.tokens`, and the judge of answers.

What runs found is kept in benchmarks/results/tokens, which is part of the repository: together they take more than a
day of a core, and the README's tables are of them. A file that is removed is made anew.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import secateur
from benchmarks.enumerated import Unkept
from benchmarks.setup import MODEL, RESULTS
from secateur.fitness.bench import Bench
from secateur.fitness.slopes import SubnetSlopes
from secateur.runs.asked.reading import make_recipe
from secateur.runs.asked.recipe import Recipe
from secateur.runs.problem import build_space
from secateur.runs.record.folder import RunFolder
from secateur.runs.record.journal import FOUND
from secateur.runs.workplace import workplace_of
from secateur.search.loop import Allowance, Spending, Step, run
from secateur.search.memo import Memo
from secateur.search.model.options import Options
from secateur.search.model.search import Search
from secateur.search.steps import AskTell, Batch, Pool
from secateur.space.budget import Budget, parse_limit
from secateur.space.genome import Genome
from secateur.space.space import Space

ROOT = RESULTS / "tokens"
RUNNING = Path("runs-local/benchmark-tokens")
"""Run folders of the reference, which go on where they were interrupted."""
TARGETS = {"depth": (0.125, 0.25, 0.375), "sparsity": (0.5, 0.6, 0.7)}
MOST = {"depth": 1_500_000, "sparsity": 400_000}
"""Tokens of ours."""
BLOCKS, SEQUENCES, LENGTH = 30, 128, 256
LEVELS = [round(0.05 * step, 2) for step in range(5, 19)]
JUDGED = "fresh"
"""Of the source of the pool, but of other documents: text that no search sees, nor the reference."""
TEXTS = ("sotu", "xsum")
COUNTS = {JUDGED: 64, "sotu": 16, "xsum": 16}
Curve = list[tuple[int, int, Genome]]
"""Tokens and evaluations when each incumbent was found."""


def text(package: str, sequences: int, **more: Any) -> dict[str, Any]:
    return {"source": f"package:{package}", "sequences": sequences, "length": LENGTH, **more}


def setting(kind: str, removed: float, seed: int) -> dict[str, Any]:
    """Model, texts, genes and budget of a target: the share of sublayers, or of weights, that is removed."""
    return {
        "model": {"path": MODEL, "dtype": "bfloat16"},
        "calibration": text("quac", SEQUENCES, windows_per_document=2),
        "held_out": [text(name, COUNTS[name]) for name in TEXTS],
        "genes": [{"kind": "attention"}, {"kind": "mlp"}]
        if kind == "depth"
        else [{"kind": "sparsity", "per": "sublayer", "levels": LEVELS}],
        "budgets": {"sublayers" if kind == "depth" else "linear_weights": f"{1 - removed}x"},
        "baselines": [],
        "seed": seed,
    }


def keep(path: Path, curves: Sequence[Curve], **more: Any) -> None:
    """Writes what a run found, a curve for each target, with `more` of the run and the commit that it ran on."""
    status, commit = subprocess.getstatusoutput("git rev-parse --short HEAD")
    rows = [[(tokens, evaluations, genome.levels) for tokens, evaluations, genome in curve] for curve in curves]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"commit": "unknown" if status else commit, **more, "curves": rows}) + "\n")


def kept(path: Path) -> list[Curve]:
    rows = json.loads(path.read_text())["curves"]
    return [[(tokens, evaluations, Genome(tuple(levels))) for tokens, evaluations, levels in row] for row in rows]


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


def reference(kind: str, removed: float, seed: int) -> None:
    """Begins the run of the reference or goes on with it, unless it is kept."""
    kept_as = _reference(kind, removed, seed)
    if kept_as.exists():
        return
    path = RUNNING / kept_as.stem
    print(f"{path} …", file=sys.stderr, flush=True)
    if (path / "recipe.yaml").exists():
        secateur.resume(path)
    else:
        strategy = {
            "name": "evopress",
            "schedule": schedule(kind, removed),
            "mutation": "levels",
            "minibatches": "fresh",
            "initial": ["random" if kind == "depth" else "uniform"],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        secateur.run(setting(kind, removed, seed) | {"strategy": strategy}, path)
    with RunFolder.open(path, writing=False) as folder:
        turns = folder.journal.turns(FOUND)
    curve: Curve = []
    for turn in turns:
        if turn.incumbent is not None and (not curve or curve[-1][2] != turn.incumbent):
            curve.append((turn.tokens, turn.evaluations, turn.incumbent))
    # The last point says what the whole run took.
    keep(kept_as, [[*curve, (turns[-1].tokens, turns[-1].evaluations, curve[-1][2])]])


def reference_curve(kind: str, removed: float, seed: int) -> Curve | None:
    """None: it has not finished."""
    path = _reference(kind, removed, seed)
    return kept(path)[0] if path.exists() else None


def _reference(kind: str, removed: float, seed: int) -> Path:
    return ROOT / f"evopress-{kind}-{removed:g}-{seed}.json"


# -- ours --------------------------------------------------------------------------------------------------------------


def recipe_of(kind: str, seed: int) -> Recipe:
    """The setting with the text that judges; its budget is of no importance."""
    values = setting(kind, 0.5, seed) | {"strategy": {"name": "knapsack"}}
    values["held_out"].append(text("quac", COUNTS[JUDGED], windows_per_document=2, name=JUDGED))
    return make_recipe(values)


def space_of(kind: str, seed: int) -> Space:
    return build_space(recipe_of(kind, seed)).with_budgets(())


@cache
def loaded(kind: str, seed: int) -> tuple[Space, Bench]:
    """The space without a budget, and the model with the texts of a seed and the one that judges there."""
    space = space_of(kind, seed)
    bench = workplace_of(recipe_of(kind, seed), space).open(space)
    return space, bench


def target(space: Space, kind: str, removed: float) -> Space:
    cost, text = ("sublayers" if kind == "depth" else "linear_weights"), f"{1 - removed}x"
    limit = parse_limit(cost, text, space.dense_costs, "target")
    assert limit is not None
    return space.with_budgets((Budget(cost, limit, text),))


def ours(
    kind: str, removed: Sequence[float], seed: int, name: str, most: int | None = None, **changes: Any
) -> list[Curve]:
    """Runs our strategy for one or several targets, or reads what it did; one curve for each target.

    `most`: tokens. Depth ends by itself before `MOST`; sparsity, which stops late, goes as far as the comparison needs.
    """
    title = "nine" if len(removed) > 1 else f"{removed[0]:g}"
    path = ROOT / f"{name.replace(' ', '-')}-{kind}-{title}-{seed}.json"
    if not path.exists():
        print(f"{path} …", file=sys.stderr, flush=True)
        space, bench = loaded(kind, seed)
        targets = [target(space, kind, share) for share in removed]
        evaluator = bench.evaluator(space, "calibration", ("kl",))
        sloped = kind == "sparsity"
        slopes = SubnetSlopes(space, bench.subnet, evaluator.teacher, "kl") if sloped else None
        whole = Memo(space, evaluator, Unkept(), None if slopes is None else lambda _: slopes)
        curves: list[Curve] = [[] for _ in targets]
        options = replace(Options(), slopes=sloped, **changes)
        search = Search(space, Pool(SEQUENCES, LENGTH), seed, targets, options)
        allowance = Allowance(tokens=most or MOST[kind])
        spending = Spending(LENGTH)

        def watch(_: Step) -> None:
            for curve, genome in zip(curves, search.incumbents, strict=True):
                if genome is not None and (not curve or curve[-1][2] != genome):
                    curve.append((spending.tokens, spending.evaluations, genome))

        started = time.perf_counter()
        run(AskTell(search.steps(())), whole, spending, allowance, watch)
        for curve, share in zip(curves, removed, strict=True):
            assert curve, f"{kind} {share:.1%}, seed {seed}: no answer"
            # The last point says what the whole run took.
            curve.append((spending.tokens, spending.evaluations, curve[-1][2]))
        keep(path, curves, layer_passes=evaluator.layer_passes, seconds=round(time.perf_counter() - started))
    return kept(path)


# -- judging -----------------------------------------------------------------------------------------------------------


class Judge:
    """Losses of answers on text that no search of their seed sees, pruned as there; kept on disk."""

    def __init__(self, kind: str, seed: int) -> None:
        self.kind, self.seed = kind, seed
        self.space = space_of(kind, seed)
        self.path = ROOT / f"judged-{kind}-{seed}.json"
        self.known: dict[str, list[float]] = json.loads(self.path.read_text()) if self.path.exists() else {}

    def losses(self, genome: Genome, title: str = JUDGED) -> list[float]:
        key = f"{title} {self.space.key(genome)}"
        if key not in self.known:
            _, bench = loaded(self.kind, self.seed)
            evaluator = bench.evaluator(self.space, title, ("kl",))
            [told] = Memo(self.space, evaluator, Unkept())(Batch((genome,), range(COUNTS[title])))
            self.known[key] = [round(loss, 6) for loss in told.primary]
            lines = [f"{json.dumps(name)}: {json.dumps(losses)}" for name, losses in sorted(self.known.items())]
            self.path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        return self.known[key]

    def loss(self, genome: Genome) -> float:
        return float(np.mean(self.losses(genome)))

    def held_out(self, genome: Genome) -> list[float]:
        return [value for title in TEXTS for value in self.losses(genome, title)]

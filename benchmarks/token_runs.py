"""Runs of strategies on SmolLM2 for `benchmarks.tokens`, and the judge of answers.

What runs found is kept in benchmarks/results/tokens, which is part of the repository: together they take many hours of
a core, and the tables are of them. A file that is removed is made anew.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.enumerated import Unkept
from benchmarks.setup import DOMAINS, MODEL, RESULTS, carried_out
from secateur.fitness.bench import Bench
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
from secateur.space.budget import Budget
from secateur.space.costs import Costs
from secateur.space.genome import Genome
from secateur.space.space import Space

ROOT = RESULTS / "tokens"
RUNNING = Path("runs-local/benchmark-tokens")
"""Run folders, which go on where they were interrupted."""
BLOCKS, SEQUENCES, LENGTH = 30, 256, 128
TARGETS: dict[str, tuple[float, ...]] = {"equal": (4, 7, 11), "depth": (4, 7, 11), "sparsity": (0.5, 0.6, 0.7)}
"""How many attention sublayers and as many MLPs are dropped (`equal`), the block parameters of as many (`depth`), or
the share of weights that are zero."""
ROOM = 0.001
"""Of the weights, what a sparsity budget leaves for zeros that are whole numbers in every row."""
LEVELS = [round(0.05 * step, 2) for step in range(5, 19)]
JUDGED = 16
"""Sequences of each."""
REFERENCE, OURS = "evopress as published", "surrogate"
EQUAL = 100_352
"""Tokens of all but the reference, and where all are compared."""
OTHERS: dict[str, dict[str, Any]] = {
    "evopress": {"name": "evopress", "initial": ["rules"]},
    "greedy": {"name": "greedy"},
    "knapsack": {"name": "knapsack"},
    "random": {"name": "random"},
    "ga": {"name": "ga"},
    "de": {"name": "de"},
    "tpe": {"name": "tpe"},
    "gp": {"name": "gp"},
    "cma-es": {"name": "cma-es"},
    "gates": {"name": "gates"},
    "multipruner": {"name": "multipruner"},
}
ONLY = {"gates": ("sparsity",), "multipruner": ("equal", "depth")}
"""Where a strategy cannot do all kinds."""
Curve = list[tuple[int, int, Genome]]
"""Tokens and evaluations when each incumbent was found."""


def text(package: str, sequences: int, **more: Any) -> dict[str, Any]:
    return {"source": f"package:{package}", "sequences": sequences, "length": LENGTH, **more}


def genes(kind: str, removed: float, name: str) -> list[dict[str, Any]]:
    """Drops; or shares of zeros per sublayer, and for the reference, as published, equal numbers of weights per linear:
    a step is 1.5 % of the largest, eight to either side."""
    if kind != "sparsity":
        return [{"kind": "attention"}, {"kind": "mlp"}]
    if name == REFERENCE:
        return [{"kind": "sparsity", "per": "linear", "levels": f"{removed} step 1.5%"}]
    return [{"kind": "sparsity", "per": "sublayer", "levels": LEVELS}]


def setting(kind: str, removed: float, seed: int, name: str) -> dict[str, Any]:
    """Model, texts, genes and budget of a target."""
    return asked(kind, removed, seed, name) | {"budgets": budgets(kind, removed)}


def asked(kind: str, removed: float, seed: int, name: str) -> dict[str, Any]:
    """The same without a budget."""
    return {
        "model": {"path": MODEL, "dtype": "bfloat16"},
        "calibration": text("quac", SEQUENCES, windows_per_document=4),
        "held_out": [text(domain, JUDGED) for domain in DOMAINS],
        "genes": genes(kind, removed, name),
        "baselines": [],
        "validation": None,
        "seed": seed,
    }


def budgets(kind: str, removed: float) -> dict[str, Any]:
    if kind == "sparsity":
        return {"linear_weights": f"{1 - removed + ROOM:.3f}x"}
    dense, kept = dense_costs(), BLOCKS - int(removed)
    parameters = {"block_parameters": dense.block_parameters * kept // BLOCKS}
    if kind == "depth":
        return parameters
    # As much of the KV cache is as many attentions; an MLP more would have to be paid with three of them.
    return {**parameters, "sublayers": 2 * kept, "kv_bytes": dense.kv_bytes * kept // BLOCKS}


@cache
def dense_costs() -> Costs:
    return build_space(make_recipe(asked("depth", 0, 0, OURS) | {"strategy": {"name": "greedy"}})).dense_costs


def keep(path: Path, curves: Sequence[Curve], **more: Any) -> None:
    """Writes what a run found, a curve for each target, with `more` of the run and the commit that it ran on."""
    status, commit = subprocess.getstatusoutput("git rev-parse --short HEAD")
    rows = [[(tokens, evaluations, genome.levels) for tokens, evaluations, genome in curve] for curve in curves]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"commit": "unknown" if status else commit, **more, "curves": rows}) + "\n")


def kept(path: Path) -> list[Curve]:
    rows = json.loads(path.read_text())["curves"]
    return [[(tokens, evaluations, Genome(tuple(levels))) for tokens, evaluations, levels in row] for row in rows]


# -- runs of recipes ---------------------------------------------------------------------------------------------------


def strategy_of(name: str, kind: str, removed: float) -> dict[str, Any]:
    """The recipe's `strategy` and `effort`.

    The reference is as published (commit 50888a0188), smaller: stages of a sixteenth (sparsity) and a thirty-second
    (the last one of depth) of the tokens. Depth has the generations that upstream takes for k of n blocks,
    k (n - k) / 1.5, and half of the children; sparsity a twentieth of the generations.
    """
    if name != REFERENCE:
        return {"strategy": {**OTHERS, OURS: {"name": "surrogate"}}[name], "effort": {"tokens": EQUAL}}
    schedule: dict[str, Any] = {"generations": 20, "offspring": 64, "survivors": [8, 2, 1]}
    schedule["tokens"] = [128, 1024, 4096]
    if kind != "sparsity":
        generations = round(removed * (BLOCKS - removed) / 1.5)
        schedule = {"generations": generations, "offspring": 16, "survivors": [2, 1], "tokens": [128, 1024]}
        schedule["first"] = 64
    start = "uniform" if kind == "sparsity" else "random"
    how = {"mutation": "levels", "minibatches": "fresh", "initial": [start]}
    return {"strategy": {"name": "evopress", "schedule": schedule, **how}}


def place(name: str, kind: str, removed: float, seed: int) -> Path:
    """Of the reference both kinds of depth are one run: it keeps as many of each, whatever the budget."""
    shared = "equal" if name == REFERENCE and kind == "depth" else kind
    return ROOT / f"{name.replace(' ', '-')}_{shared}_{removed:g}_{seed}.json"


def curve_of(name: str, kind: str, removed: float, seed: int, running: bool = False) -> Curve | None:
    """What a strategy found; None: it has not been run. `running`: then it is, or goes on."""
    path = place(name, kind, removed, seed)
    if path.exists():
        return kept(path)[0]
    if not running:
        return None
    folder = RUNNING / path.stem
    # A fixed number of attentions and MLPs is the reference's budget of both kinds of depth.
    budget = "equal" if name == REFERENCE and kind == "depth" else kind
    carried_out(folder, setting(budget, removed, seed, name) | strategy_of(name, kind, removed))
    with RunFolder.open(folder, writing=False) as opened:
        turns = opened.journal.turns(FOUND)
    curve: Curve = []
    for turn in turns:
        if turn.incumbent is not None and (not curve or curve[-1][2] != turn.incumbent):
            curve.append((turn.tokens, turn.evaluations, turn.incumbent))
    # The last point says what the whole run took.
    curve.append((turns[-1].tokens, turns[-1].evaluations, curve[-1][2]))
    keep(path, [curve])
    return curve


# -- parts of ours -----------------------------------------------------------------------------------------------------


def searched(removed: Sequence[float], seed: int, name: str, most: int, **changes: Any) -> list[Curve]:
    """Our search for one or several targets of `depth`, with options that no recipe has; one curve for each target."""
    path = ROOT / f"{name.replace(' ', '-')}_depth_{'-'.join(f'{one:g}' for one in removed)}_{seed}.json"
    if not path.exists():
        print(f"{path} …", file=sys.stderr, flush=True)
        space, bench = loaded("depth", removed[0], seed, OURS)
        targets = [space.with_budgets((budget_of(share),)) for share in removed]
        whole = Memo(space, bench.evaluator(space, "calibration", ("kl",)), Unkept())
        curves: list[Curve] = [[] for _ in targets]
        search = Search(space, Pool(SEQUENCES, LENGTH), seed, targets, Options(**changes))
        spending = Spending(LENGTH)

        def watch(_: Step) -> None:
            for curve, genome in zip(curves, search.incumbents, strict=True):
                if genome is not None and (not curve or curve[-1][2] != genome):
                    curve.append((spending.tokens, spending.evaluations, genome))

        run(AskTell(search.steps(())), whole, spending, Allowance(tokens=most), watch)
        for curve in curves:
            assert curve, f"{path}: no answer"
            curve.append((spending.tokens, spending.evaluations, curve[-1][2]))
        keep(path, curves)
    return kept(path)


def budget_of(removed: float) -> Budget:
    limit = budgets("depth", removed)["block_parameters"]
    return Budget("block_parameters", limit, f"<= {limit}")


# -- judging -----------------------------------------------------------------------------------------------------------


def recipe_of(kind: str, removed: float, seed: int, name: str) -> Recipe:
    return make_recipe(setting(kind, removed, seed, name) | strategy_of(OURS, kind, removed))


@lru_cache(maxsize=1)
def loaded(kind: str, removed: float, seed: int, name: str) -> tuple[Space, Bench]:
    """The space without a budget, and the model with the texts of a seed."""
    recipe = recipe_of(kind, removed, seed, name)
    space = build_space(recipe).with_budgets(())
    return space, workplace_of(recipe, space).open(space)


class Judge:
    """Losses of the answers of a strategy to one target on text that no search sees, pruned as there; kept on disk."""

    def __init__(self, kind: str, removed: float, seed: int, name: str = OURS) -> None:
        """All drops are of one space."""
        self.wanted = (kind, removed, seed, name) if kind == "sparsity" else ("depth", 4.0, seed, OURS)
        self.space = build_space(recipe_of(*self.wanted)).with_budgets(())
        self.path = ROOT / f"judged_{kind if kind == 'sparsity' else 'depth'}_{seed}.json"

    def judge(self, genomes: Sequence[Genome]) -> dict[str, dict[str, list[float]]]:
        """Scores those that are not known yet, together; what is known by subnet and domain, a loss a sequence."""
        known: dict[str, dict[str, list[float]]] = json.loads(self.path.read_text()) if self.path.exists() else {}
        new = {self.space.key(genome): genome for genome in genomes if self.space.key(genome) not in known}
        if new:
            space, bench = loaded(*self.wanted)
            for domain in DOMAINS:
                memo = Memo(space, bench.evaluator(space, domain, ("kl",)), Unkept())
                for key, told in zip(new, memo(Batch(tuple(new.values()), range(JUDGED))), strict=True):
                    known.setdefault(key, {})[domain] = [round(loss, 6) for loss in told.primary]
            lines = [f"{json.dumps(name)}: {json.dumps(losses)}" for name, losses in sorted(known.items())]
            self.path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        return known

    def all(self, genome: Genome) -> list[float]:
        """Losses on all domains together."""
        return [loss for losses in self.judge([genome])[self.space.key(genome)].values() for loss in losses]

    def loss(self, genome: Genome) -> float:
        return float(np.mean(self.all(genome)))

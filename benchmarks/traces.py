"""What every strategy asks and answers on small spaces, and the losses of SmolLM2 subnets of every kind.

Recorded before and after a change of structure, which has to leave both as they are, bit for bit:

    python -m benchmarks.traces record before.json
    python -m benchmarks.traces compare before.json after.json
"""

import hashlib
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.setup import MODEL, console
from secateur.operators.sampling import uniform
from secateur.runs.asked.reading import make_recipe
from secateur.runs.asked.recipe import Recipe
from secateur.runs.problem import asked_problem, build_space
from secateur.runs.workplace import workplace_of
from secateur.search.loop import Allowance, Spending, run
from secateur.search.memo import Asker, Memo
from secateur.search.steps import AskTell, Batch, Steps
from secateur.space.errors import SecateurError
from secateur.space.evaluation import Evaluation
from secateur.space.genome import Genome
from secateur.space.losses import Losses
from secateur.space.question import Priced
from secateur.space.slopes import Slopes
from secateur.space.space import Space
from tests.tiny import ListJournal, config_of, each

TOKENS, SEQUENCES, LENGTH = 24_000, 8, 16
"""Of a search, of the text, and of each of its sequences."""

DROPS: list[dict[str, Any]] = [{"kind": "attention"}, {"kind": "mlp"}]
WIDTHS: list[dict[str, Any]] = [
    {"kind": "attention", "levels": [2, 1, 0]},
    {"kind": "mlp", "levels": "4 levels", "multiple_of": 4},
]
SPARSE: list[dict[str, Any]] = [{"kind": "sparsity", "per": "sublayer", "levels": [0.25, 0.5, "2:4", 0.75]}]
EVERYTHING = [*WIDTHS, {"kind": "queries", "levels": [2, 1]}, {"kind": "block"}, *SPARSE]
HIDDEN: dict[str, Any] = {"kind": "hidden", "levels": [32, 24, 20], "multiple_of": 4}
DEVICE = {"device": "estimate", "gflops": 50, "bandwidth": 20, "prefill": 16, "decode": 8}

SPACES: dict[str, tuple[str, dict[str, Any]]] = {
    "drops": ("llama", {"genes": DROPS, "budgets": {"block_parameters": "0.6x"}}),
    "blocks": ("llama", {"genes": [{"kind": "block"}], "budgets": {"sublayers": 4}}),
    "drops and blocks": ("granite", {"genes": [*DROPS, {"kind": "block"}], "budgets": {"macs": "0.7x"}}),
    "widths": ("llama", {"genes": WIDTHS, "budgets": {"parameters": "0.7x"}}),
    "two budgets": ("qwen3", {"genes": EVERYTHING[:3], "budgets": {"kv_bytes": "0.75x", "parameters": "0.8x"}}),
    "sparsity": ("llama", {"genes": [SPARSE[0] | {"per": "linear"}], "budgets": {"linear_weights": "0.5x"}}),
    "sparsity, patterns": ("mistral", {"genes": SPARSE, "budgets": {"nonzero_parameters": "0.6x"}}),
    "sparsity, groups": (
        "gpt2",
        {"genes": [*DROPS, SPARSE[0] | {"per": "group", "group": 2}], "budgets": {"nonzero_parameters": "0.6x"}},
    ),
    "everything": ("llama", {"genes": EVERYTHING, "budgets": {"block_parameters": "0.6x"}}),
    "stream": ("qwen2", {"genes": [HIDDEN, *EVERYTHING], "budgets": {"weight_bytes": "0.6x"}, "pruner": "ria"}),
    "stream by size": (
        "olmo2",
        {"genes": [HIDDEN, *WIDTHS], "budgets": {"parameters": "0.6x"}, "widths": {"hidden": "magnitude"}},
    ),
    "encoder": (
        "bert",
        {"genes": [WIDTHS[0] | {"levels": [4, 2, 1, 0]}, WIDTHS[1]], "budgets": {"block_parameters": "0.7x"}},
    ),
    "windows": ("gemma3_text", {"genes": DROPS, "budgets": {"kv_bytes": "0.6x"}, "context": 32}),
    "together": (
        "phi3",
        {
            "genes": [{"kind": "mlp", "per": "model", "levels": [1.0, 0.75, 0.5]}, *SPARSE],
            "budgets": {"nonzero_parameters": "0.7x"},
        },
    ),
    "target": (
        "llama",
        {"genes": [*WIDTHS], "budgets": {"block_parameters": "0.7x"}, "target": "block_configs"},
    ),
    "first layer": ("llama", {"genes": DROPS, "budgets": {"sublayers": 3}, "keep_first_attention": False}),
    "front of depth": ("llama", {"genes": DROPS, "objectives": ["kl", "parameters"]}),
    "front of widths": ("qwen3", {"genes": EVERYTHING[:3], "objectives": ["kl", "macs", "kv_bytes"]}),
    "front of zeros": ("llama", {"genes": SPARSE, "objectives": ["kl", "linear_weights"]}),
    "front of everything": (
        "smollm3",
        {
            "genes": [HIDDEN, *EVERYTHING],
            "objectives": ["kl", "nonzero_parameters"],
            "budgets": {"nonzero_parameters": "0.8x"},
        },
    ),
    "front of time": ("mistral", {"genes": WIDTHS, "objectives": ["kl", "latency"], "latency": DEVICE}),
}
SCHEDULE = {"generations": 8, "offspring": 6, "survivors": [3, 1], "tokens": [32, 64], "first": 3}
SINGLE: dict[str, dict[str, Any]] = {
    "random": {"name": "random"},
    "exhaustive": {"name": "exhaustive", "sequences": 1},
    "knapsack": {"name": "knapsack", "sequences": 2, "anchors": 2},
    "greedy": {"name": "greedy", "sequences": 2, "lazy": 3},
    "greedy, limited": {"name": "greedy", "sequences": 2, "lazy": 3, "evaluations": 25},
    "multipruner": {"name": "multipruner", "sequences": 2},
    "evopress": {"name": "evopress"},
    "evopress, schedule": {"name": "evopress", "schedule": SCHEDULE},
    "evopress, race": {"name": "evopress", "race": 0.2, "mutation": "levels"},
    "evopress, warm": {"name": "evopress", "initial": ["knapsack", "greedy"], "warm": {"name": "greedy", "lazy": 2}},
    "surrogate": {"name": "surrogate", "sequences": 4},
    "surrogate, no slopes": {"name": "surrogate", "slopes": False, "batch": 4, "tolerance": 0.01},
    "darwin": {"name": "darwin", "schedule": SCHEDULE | {"training": [32, 64]}},
}
FRONTS: dict[str, dict[str, Any]] = {
    "random": {"name": "random", "sequences": 2},
    "exhaustive": {"name": "exhaustive", "sequences": 1},
    "knapsack": {"name": "knapsack", "sequences": 2, "anchors": 1, "sizes": 4},
    "nsga2": {"name": "nsga2", "population": 8, "sequences": 2},
    "nsga3": {"name": "nsga3", "population": 8, "sequences": 2, "encoding": "shares"},
    "sms-emoa": {"name": "sms-emoa", "population": 8, "sequences": 8, "race": 0.2, "initial": ["dense", "greedy"]},
    "tpe": {"name": "tpe", "population": 6, "sequences": 2},
    "optuna-nsga2": {"name": "optuna-nsga2", "population": 6, "sequences": 2, "initial": ["dense"]},
    "gp": {"name": "gp", "population": 4, "sequences": 2, "initial": ["dense"]},
    "surrogate": {"name": "surrogate", "sequences": 4, "sizes": 3},
}
EVALUATIONS = {"gp": 14, "tpe": 120, "optuna-nsga2": 120}
"""Where more would take minutes."""


class Table:
    """Losses from the levels alone: additive with interactions, noise per sequence; one genome in thirty fails."""

    def __init__(self, space: Space, shrink: float = 1.0) -> None:
        self.space, self.shrink = space, shrink

    def losses(self, genome: Genome) -> list[float]:
        rng = np.random.default_rng(17)
        total = 0.0
        for gene, level in zip(self.space.genes, genome.levels, strict=True):
            weights = np.sort(rng.random(len(gene.levels) - 1)) * rng.lognormal()
            total += float(weights[level - 1]) if level else 0.0
        pairs = rng.random((len(genome.levels), len(genome.levels)))
        changed = [index for index, level in enumerate(genome.levels) if level]
        total += 0.1 * sum(float(pairs[a, b]) for a in changed for b in changed if a < b)
        noise = np.random.default_rng([*genome.levels, 7]).normal(0.0, 0.05, SEQUENCES)
        return [self.shrink * total * (1 + float(value)) for value in noise]

    def __call__(self, genomes: Sequence[Genome], sequences: range) -> Iterator[Evaluation]:
        for genome in genomes:
            key, costs = self.space.key(genome), self.space.costs(genome)
            failed = any(genome.levels) and int(np.random.default_rng(genome.levels).integers(30)) == 0
            losses = {"kl": tuple(self.losses(genome)[sequences.start : sequences.stop])}
            tokens = len(sequences) * LENGTH
            if failed:
                yield Evaluation(genome, key, sequences, {}, costs, "failed", "on purpose", tokens)
                continue
            status: Any = "ok" if self.space.feasible(genome) else "infeasible"
            yield Evaluation(genome, key, sequences, losses, costs, status, "", tokens)

    def slopes(self, genome: Genome, sequences: range) -> Slopes:
        """Differences of single changes, as far as a level to either side."""
        here = sum(self.losses(genome)) / SEQUENCES
        first, second = [], []
        for index, gene in enumerate(self.space.genes):
            own, row = genome.levels[index], []
            for level in range(len(gene.levels)):
                there = sum(self.losses(genome.with_level(index, level))) / SEQUENCES
                row.append(there - here if abs(level - own) <= 2 else math.nan)
            first.append(tuple(row))
            second.append(tuple(0.1 * abs(value) for value in row))
        key = self.space.key(genome)
        return Slopes(genome, key, sequences, tuple(first), tuple(second), tokens=4 * len(sequences) * LENGTH)


def steps_of(recipe: Recipe, space: Space) -> Steps:
    """A strategy as a run makes it of its recipe, without statistics of a model to start from."""
    problem, selection = asked_problem(recipe, space, recipe.effort.tokens)
    steps = recipe.strategy.steps(problem)
    return steps if selection is None else selection.steps(steps, problem.allowance)


def recipe_of(changes: Mapping[str, Any], strategy: Mapping[str, Any]) -> Recipe:
    values: dict[str, Any] = {
        "model": {"path": "tiny"},
        "calibration": {"source": "text.txt", "sequences": SEQUENCES, "length": LENGTH},
        "baselines": [],
        "seed": 3,
        "effort": {"tokens": TOKENS, "evaluations": EVALUATIONS.get(strategy["name"], 300)},
        **changes,
        "strategy": dict(strategy),
    }
    if strategy["name"] == "darwin":
        values["training"] = {"what": "lora"}
    return make_recipe(values)


def trace(family: str, changes: Mapping[str, Any], strategy: Mapping[str, Any]) -> dict[str, Any]:
    """What a strategy asked for and answered, or why it refused."""
    try:
        recipe = recipe_of(changes, strategy)
        space = build_space(recipe, config_of(family).to_dict())
        steps = steps_of(recipe, space)
        asked = hashlib.sha256()
        table, count = Table(space), 0

        def others(question: Priced[Any]) -> Asker[Any]:
            if isinstance(question, Losses):
                return Table(space, 1 / (1 + len(question.trained)))
            return each(table.slopes)

        memo = Memo(space, table, ListJournal(), others)

        def evaluate(batch: Batch) -> list[Evaluation]:
            nonlocal count
            count += 1
            genomes = [genome.levels for genome in batch.genomes]
            where = [batch.sequences.start, batch.sequences.stop]
            incumbent = batch.incumbent.levels if batch.incumbent is not None else None
            told = memo(batch)
            keys = [[one.key, one.status, [loss.hex() for loss in one.primary]] for one in told]
            asked.update(json.dumps([genomes, where, incumbent, bool(batch.also), batch.trained, keys]).encode())
            return told

        spending = Spending(LENGTH)
        allowance = Allowance(recipe.effort.tokens, recipe.effort.evaluations)
        answer = run(AskTell(steps), evaluate, spending, allowance)
    except SecateurError as error:
        return {"refused": str(error)}
    return {
        "batches": count,
        "tokens": spending.tokens,
        "evaluations": spending.evaluations,
        "asked": asked.hexdigest(),
        "answer": space.to_json(answer) if answer is not None else None,
        "key": space.key(answer) if answer is not None else None,
        "costs": space.costs(answer).to_json() if answer is not None else None,
    }


def traces() -> dict[str, dict[str, Any]]:
    found = {}
    for title, (family, changes) in SPACES.items():
        for name, strategy in (FRONTS if "objectives" in changes else SINGLE).items():
            found[f"{title}: {name}"] = trace(family, changes, strategy)
            console.print(f"{title}: {name}: {found[f'{title}: {name}'].get('batches', 'refused')}")
    return found


REAL: dict[str, dict[str, Any]] = {
    "drops": {"genes": [*DROPS, {"kind": "block"}]},
    "widths": {
        "genes": [
            {"kind": "attention", "layers": "1-4", "levels": [3, 2, 1]},
            {"kind": "queries", "layers": "1-4", "levels": [3, 2]},
            {"kind": "mlp", "layers": "1-4", "levels": [1.0, 0.75, 0.5]},
        ],
    },
    "stream": {
        "genes": [
            {"kind": "hidden", "levels": [576, 512, 448]},
            {"kind": "mlp", "layers": "0-1", "levels": [1.0, 0.5]},
            {"kind": "sparsity", "layers": "2-3", "per": "block", "levels": [0.5]},
        ],
        "widths": {"repair": "bias", "order": "flap"},
    },
    "zeros": {"genes": [{"kind": "sparsity", "layers": "0-3", "per": "linear", "levels": [0.3, 0.5, "2:4", 0.7]}]},
    "zeros, updated": {
        "genes": [
            {"kind": "sparsity", "layers": "0-1", "per": "linear", "levels": [0.5, 0.7]},
            {"kind": "mlp", "layers": "0-2", "levels": [1.0, 0.5, 0]},
        ],
        "pruner": "sparsegpt",
    },
}
GENOMES = 7
"""Of each of these."""


def losses() -> dict[str, Any]:
    """Of genomes of SmolLM2, on packaged text, with their keys and costs."""
    found: dict[str, Any] = {}
    for title, changes in REAL.items():
        values = {
            "model": {"path": MODEL},
            "calibration": {"source": "package:quac", "sequences": 4, "length": 64},
            "strategy": {"name": "random", "sequences": 2},
            "effort": {"evaluations": 1},
            "baselines": [],
            **changes,
        }
        recipe = make_recipe(values)
        space = build_space(recipe)
        bench = workplace_of(recipe, space).open(space)
        zeros = bench.own_zeros()
        space = replace(space, zeros=zeros)
        rng = np.random.default_rng(5)
        genomes = [space.dense, *(uniform(space, rng) for _ in range(GENOMES - 1))]
        evaluate = bench.evaluator(space, "calibration", ("kl", "cross_entropy"))
        for one in evaluate(genomes, range(2)):
            found[f"{title} {one.key}"] = {
                "losses": {name: [loss.hex() for loss in values] for name, values in one.losses.items()},
                "costs": one.costs.to_json(),
                "genome": space.to_json(one.genome),
            }
        console.print(f"{title}: {len(genomes)} genomes")
    return found


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What differs, by name."""
    return [
        f"{part}: {name}"
        for part in ("traces", "losses")
        for name in sorted(before[part].keys() | after[part].keys())
        if before[part].get(name) != after[part].get(name)
    ]


def main() -> None:
    command, *files = sys.argv[1:]
    if command == "record":
        Path(files[0]).write_text(json.dumps({"traces": traces(), "losses": losses()}, indent=1, sort_keys=True) + "\n")
        return
    before, after = (json.loads(Path(file).read_text()) for file in files)
    different = compare(before, after)
    for name in different:
        console.print(name)
    console.print(f"{len(before['traces'])} traces and {len(before['losses'])} genomes, {len(different)} differ")
    sys.exit(bool(different))


if __name__ == "__main__":
    main()

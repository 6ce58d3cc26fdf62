"""What a short training changes, on SmolLM2 at 30 % fewer block parameters.

`plans`: five plans (our search's, uniform width, the last blocks dropped, random, MultiPruner-style) before and after
100,000 tokens of LoRA distillation: held-out KL and perplexity, three tasks, rank correlation.
`darwin`: darwin against the same loop without training at equal total tokens (a trained token counts as three), three
seeds, each answer then trained alike. Everything is kept in runs-local/benchmark-training; what is there is not run
again.

    python -m benchmarks.training [plans|darwin] [SEED ...]
"""

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

import secateur
from benchmarks.local_tasks import NAMES, write_tasks
from benchmarks.setup import MODEL, console, paired, shown, table_of
from secateur.fitness.bench import Bench
from secateur.fitness.scores.tasks import TaskRequest, TaskScore
from secateur.fitness.subnets.subnet import pointed
from secateur.runs.asked.recipe import Recipe
from secateur.runs.problem import space_of
from secateur.runs.record.folder import RunFolder
from secateur.runs.workplace import trainer_of, workplace_of
from secateur.space.genome import Genome
from secateur.space.space import Space

ROOT = Path("runs-local/benchmark-training")
PLANS = ("found", "uniform-width", "last-k", "random", "multipruner")
TEXTS = ("sotu", "xsum")
SEQUENCES, LENGTH = 24, 256
STAGES = (51_200, 51_200)
DOCUMENTS = 200
TRAINING = {"what": "lora", "loss": "distillation", "rank": 16, "learning_rate": 1e-3, "batch": 4}


def setting(seed: int = 0) -> dict[str, Any]:
    text = {"sequences": SEQUENCES, "length": LENGTH}
    return {
        "model": {"path": MODEL, "dtype": "bfloat16"},
        "calibration": {"source": "package:quac", "sequences": 64, "length": LENGTH, "windows_per_document": 2},
        "held_out": [{"source": f"package:{name}", **text} for name in TEXTS],
        "genes": [
            {"kind": "attention", "levels": [3, 2, 1, 0]},
            {"kind": "mlp", "levels": [1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0], "multiple_of": 64},
        ],
        "budgets": {"block_parameters": "0.7x"},
        "seed": seed,
    }


def trained_setting() -> dict[str, Any]:
    """The same with training, for the benchmark's own use of the trainer."""
    stages = [{"tokens": tokens, "survivors": 1} for tokens in STAGES]
    return {"training": {**TRAINING, "candidates": 2, "stages": stages}}


class Lab:
    """A model, prepared for a run's plans, with a text to train on."""

    def __init__(self, folder: RunFolder, seed: int) -> None:
        self.space: Space = space_of(folder)
        self.recipe = Recipe.model_validate(folder.recipe.model_dump() | trained_setting())
        self.bench: Bench = workplace_of(self.recipe, self.space).open(self.space)
        assert self.recipe.training is not None
        self.trainer = trainer_of(self.recipe.training, self.recipe.seed, self.space, self.bench)
        tasks = TaskRequest(str(write_tasks(ROOT / "tasks")), DOCUMENTS, benchmarks=True)
        self.tasks = {name: TaskScore(name, tasks, self.bench.model, self.bench.tokenizer) for name in NAMES}

    def scores(self, genome: Genome, chain: tuple[int, ...], tasks: bool = True) -> dict[str, Any]:
        """Held-out losses of each sequence, and shares of documents that are right."""
        parameters = self.trainer(genome, chain) if chain else {}
        values: dict[str, Any] = {}
        for text in TEXTS:
            evaluator = self.bench.evaluator(self.space, text, ("kl", "cross_entropy"))
            told = evaluator.changed(genome, range(SEQUENCES), lambda _: parameters)
            values[text] = {name: list(losses) for name, losses in told.losses.items()}
        if tasks:
            with self.bench.subnet as subnet:
                subnet.apply(self.space.states(genome))
                with pointed(self.bench.model, parameters):
                    for name, score in self.tasks.items():
                        values[name] = 1.0 - score(range(1))[0]
        return values


def kept(path: Path, make: Any) -> Any:
    """What a file has, or what `make` gives, which is then kept in it."""
    if not path.exists():
        values = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    return json.loads(path.read_text())


def run_of(path: Path, recipe: dict[str, Any]) -> RunFolder:
    """The run in a folder, begun, gone on with or finished."""
    if not (path / "report").exists():
        console.print(f"{path} …")
        secateur.resume(path) if (path / "recipe.yaml").exists() else secateur.run(recipe, path)
    return RunFolder.open(path, writing=False)


def mean_kl(values: dict[str, Any]) -> float:
    return float(np.mean([value for text in TEXTS for value in values[text]["kl"]]))


def perplexity(values: dict[str, Any], text: str) -> float:
    return math.exp(float(np.mean(values[text]["cross_entropy"])))


def plans() -> None:
    recipe = setting() | {
        "strategy": {"name": "surrogate", "initial": []},
        "effort": {"tokens": 300_000},
        "baselines": [name for name in PLANS if name != "found"],
    }
    with run_of(ROOT / "plans", recipe) as folder:
        choices = folder.journal.choices()
        lab: Lab | None = None

        def score(genome: Genome, chain: tuple[int, ...]) -> dict[str, Any]:
            nonlocal lab
            lab = lab or Lab(folder, 0)
            return lab.scores(genome, chain)

        rows = []
        dense = kept(ROOT / "plans-dense.json", lambda: score(space_of(folder).dense, ()))
        for name in PLANS:
            if name not in choices:
                continue
            genome = choices[name].genome
            chains = [STAGES[:count] for count in range(len(STAGES) + 1)]
            stages = [
                kept(ROOT / f"plans-{name}-{count}.json", lambda g=genome, c=chain: score(g, c))
                for count, chain in enumerate(chains)
            ]
            rows.append((name, stages))
    headings = ["plan", "held-out KL", *(f"{text} ppl" for text in TEXTS), *NAMES]
    before = ["dense", "0", *(f"{perplexity(dense, text):.1f}" for text in TEXTS), *(f"{dense[n]:.3f}" for n in NAMES)]
    cells = (before, *([name, *cells_of(stages)] for name, stages in rows))
    title = "30 % fewer block parameters: before -> after 102,400 tokens of LoRA distillation"
    first, last = ([mean_kl(stages[index]) for _, stages in rows] for index in (0, -1))
    rank = float(spearmanr(first, last).statistic)
    errors = ", ".join(f"{name} {math.sqrt(dense[name] * (1 - dense[name]) / DOCUMENTS):.3f}" for name in NAMES)
    shown(
        ROOT / "plans.md",
        table_of(title, headings, cells),
        f"Spearman's rank correlation of held-out KL before and after: {rank:.2f}. One standard error of "
        f"a task, dense: {errors}.",
    )


def cells_of(stages: list[dict[str, Any]]) -> Iterator[str]:
    first, last = stages[0], stages[-1]
    yield f"{mean_kl(first):.3f} -> {mean_kl(last):.3f}"
    for text in TEXTS:
        yield f"{perplexity(first, text):.1f} -> {perplexity(last, text):.1f}"
    for name in NAMES:
        yield f"{first[name]:.3f} -> {last[name]:.3f}"


DARWIN = {"generations": 5, "offspring": 6, "survivors": [3, 1], "tokens": [1024, 4096], "training": [1024, 5120]}


def darwin(seeds: list[int]) -> None:
    """Equal tokens: evopress with the same children and stages, and as many generations as that makes."""
    rows = []
    for seed in seeds:
        values: dict[str, Any] = {}
        plain = {**setting(seed), "baselines": []}
        start = {"mutation": "costs", "minibatches": "fresh", "initial": ["uniform-width"]}
        with run_of(
            ROOT / f"darwin-{seed}",
            plain | {"strategy": {"name": "darwin", "schedule": DARWIN, **start}, "training": TRAINING},
        ) as folder:
            tokens = folder.journal.choices()["found"].tokens
            values["darwin"] = folder.journal.choices()["found"].genome
        schedule = {name: value for name, value in DARWIN.items() if name != "training"}
        schedule["generations"] = 10_000
        untrained = plain | {
            "strategy": {"name": "evopress", "schedule": schedule, **start},
            "effort": {"tokens": tokens},
        }
        with run_of(ROOT / f"without-{seed}", untrained) as folder:
            values["without"] = folder.journal.choices()["found"].genome
            spent = folder.journal.choices()["found"].tokens
            lab: Lab | None = None

            def score(genome: Genome, chain: tuple[int, ...]) -> dict[str, Any]:
                nonlocal lab
                lab = lab or Lab(folder, 0)
                return lab.scores(genome, chain, tasks=False)

            results = {
                (name, bool(chain)): kept(
                    ROOT / f"{name}-{seed}-{len(chain)}.json", lambda g=genome, c=chain: score(g, c)
                )
                for name, genome in values.items()
                for chain in ((), STAGES)
            }
        for trained in (False, True):
            one, two = results["darwin", trained], results["without", trained]
            difference = paired(*([loss for text in TEXTS for loss in each[text]["kl"]] for each in (one, two)))
            cells = [str(seed), "after 102,400 tokens" if trained else "untrained", f"{tokens:,} / {spent:,}"]
            cells += [f"{mean_kl(one):.4f}", f"{mean_kl(two):.4f}", difference]
            rows.append(cells)
    headings = ["seed", "answers", "tokens: darwin / without", "darwin KL", "without KL", "difference, 95 %"]
    shown(ROOT / "darwin.md", table_of("darwin against the same search without training, held-out", headings, rows))


def main() -> None:
    words = set(sys.argv[1:])
    seeds = sorted(int(word) for word in words if word.isdigit()) or [0, 1, 2]
    everything = not {"plans", "darwin"} & words
    if "plans" in words or everything:
        plans()
    if "darwin" in words or everything:
        darwin(seeds)


if __name__ == "__main__":
    main()

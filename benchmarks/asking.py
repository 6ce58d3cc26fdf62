"""How long strategies think: time of `ask` for a candidate, and memory, on spaces of many genes.

    python -m benchmarks.asking
    python -m benchmarks.asking --genes 1000 --only surrogate --only nsga2

A random additive loss with noise stands for the model, so that nothing else takes time. Every strategy is carried on
for `--evaluations` genomes beyond its first batch and twice as many after these, or `--seconds` each: what is thought
once, at the beginning (a walk, the knapsacks of a front), is in the former. The knapsack's sweep is solved once. Genes
are sparsity of 16 levels of the linears of a llama of 70 billion parameters' shapes, of as many layers as it takes.
"""

import resource
import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.setup import RESULTS, shown, table_of
from secateur.search.archive import Goal
from secateur.search.loop import Allowance
from secateur.search.problem import Problem
from secateur.search.steps import AskTell, Pool
from secateur.search.strategies.table import load
from secateur.search.strategy import Strategy
from secateur.space.budget import parse_budgets
from secateur.space.evaluation import Evaluation
from secateur.space.families.table import anatomy
from secateur.space.genome import Genome
from secateur.space.kinds.table import KINDS
from secateur.space.objective import parse_objectives
from secateur.space.question import Status
from secateur.space.space import Space
from secateur.space.treatments import Sparsity

app = typer.Typer(add_completion=False)
CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
}
LEVELS = tuple(Sparsity.parse(round(0.05 * step, 2)) for step in range(1, 16))
SEARCHED: dict[str, dict[str, Any]] = {
    "random": {},
    "evopress": {},
    "surrogate": {},
    "knapsack": {},
    "nsga2": {"population": 40},
    "tpe": {},
}
FRONTS = ("nsga2", "tpe")


def space_of(genes: int) -> Space:
    """At least so many genes, and half the weights of the linears to go."""
    layers = -(-genes // 7)
    shape = anatomy({**CONFIG, "num_hidden_layers": layers})
    made = KINDS["sparsity"].made(shape, LEVELS, range(layers), "linear")  # type: ignore[attr-defined]
    space = Space(shape, made)
    return space.with_budgets(parse_budgets({"linear_weights": "0.5x"}, space.dense_costs))


class Additive:
    """Losses that add up, more than in proportion to what is removed, with noise."""

    def __init__(self, space: Space) -> None:
        rng = np.random.default_rng(0)
        self._space = space
        self._weights = rng.lognormal(0, 1, len(space.genes)) / len(space.genes)
        self._shares = np.array([[gene.removed(level) for level in range(len(gene.levels))] for gene in space.genes])

    def __call__(self, genomes: Sequence[Genome], sequences: range) -> Iterator[Evaluation]:
        places = np.arange(len(self._weights))
        for genome in genomes:
            loss = float((self._weights * self._shares[places, np.array(genome.levels)] ** 3).sum())
            values = tuple(loss * (1 + 0.05 * ((index * 37 + hash(genome)) % 11 - 5) / 5) for index in sequences)
            costs = self._space.costs(genome)
            status: Status = "ok" if self._space.feasible(genome) else "infeasible"
            key = str(hash(genome))
            yield Evaluation(genome, key, sequences, {"kl": values}, costs, status, tokens=len(sequences) * 512)


def problem_of(space: Space, front: bool, evaluations: int) -> Problem:
    goal = Goal(parse_objectives(("kl", "linear_weights")), 8, ()) if front else None
    return Problem(space, Pool(64, 512), 0, Allowance(10**9, evaluations), goal)


@app.command()
def main(
    genes: Annotated[list[int], typer.Option()] = [224, 560, 1000],  # noqa: B006
    only: Annotated[list[str] | None, typer.Option()] = None,
    evaluations: int = 60,
    seconds: float = 60.0,
) -> None:
    """Every strategy on every size."""
    rows = []
    for count in genes:
        space = space_of(count)
        for name in only or SEARCHED:
            strategy: Strategy = load(name).model_validate({"name": name, **SEARCHED[name]})
            rows.append((str(len(space.genes)), name, *_asked(space, strategy, name in FRONTS, evaluations, seconds)))
            print(*rows[-1], flush=True)
    headings = ("genes", "strategy", "first batch", "beginning", "a candidate after it", "candidates", "most memory")
    shown(RESULTS / "asking.md", table_of("Time of ask, 16 levels a gene", headings, rows))


def _asked(space: Space, strategy: Strategy, front: bool, evaluations: int, seconds: float) -> tuple[str, ...]:
    problem = problem_of(space, front, 10**6)
    evaluate, steps = Additive(space), AskTell(strategy.steps(problem))
    started = time.perf_counter()
    batch = steps.ask()
    first = time.perf_counter() - started

    def go_on(wanted: int) -> tuple[float, int]:
        """Seconds of thought, and candidates."""
        nonlocal batch
        asking, candidates = 0.0, 0
        while batch is not None and candidates < wanted and asking < seconds:
            told = list(evaluate(batch.genomes, batch.sequences))
            started = time.perf_counter()
            steps.tell(told)
            batch = steps.ask()
            asking += time.perf_counter() - started
            candidates += len(batch.genomes) if batch is not None else 0
        return asking, candidates

    beginning, early = go_on(evaluations)
    asking, candidates = go_on(2 * evaluations)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000
    each = f"{1000 * asking / candidates:,.1f} ms" if candidates else "over"
    return f"{first:.2f} s", f"{beginning:.1f} s", each, str(early + candidates), f"{memory:,} MB"


if __name__ == "__main__":
    app()

"""Evaluations until the true optimum: every way to drop 6 of 15 blocks of a small trained model, 5,005 masks.

All masks are scored with the real evaluator; the strategies then run on that table at full fidelity, so that what is
counted is decisions, not noise.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from rich.table import Table

from benchmarks.setup import console, trained_folder
from secateur.fitness.blocks import Blocks
from secateur.fitness.checkpoint import anatomy_of, load_model, model_digest
from secateur.fitness.evaluator import SubnetEvaluator
from secateur.fitness.subnet import Subnet
from secateur.fitness.teacher import Teacher
from secateur.fitness.text import Sequences, documents
from secateur.search.evopress import Schedule, evopress
from secateur.search.greedy import greedy
from secateur.search.knapsack import knapsack
from secateur.search.memo import Memo
from secateur.search.random import random_search
from secateur.search.strategy import Pool, Steps, Strategy
from secateur.space.budget import parse_budgets
from secateur.space.build import structured_genes
from secateur.space.evaluation import Evaluation
from secateur.space.genome import Genome
from secateur.space.space import Space

BLOCKS, DROPPED, SEQUENCES, LENGTH, SEEDS, LIMIT = 16, 6, 4, 64, 10, 5005


class Lookup:
    """Evaluations from the table; anything else (a sweep's single drops) from the model."""

    def __init__(self, evaluator: SubnetEvaluator, table: dict[Genome, Evaluation]) -> None:
        self.evaluator, self.table = evaluator, table

    def __call__(self, genomes: Sequence[Genome], sequences: range) -> Iterator[Evaluation]:
        unknown = [genome for genome in genomes if genome not in self.table]
        for one in self.evaluator(unknown, sequences) if unknown else ():
            self.table[one.genome] = one
        yield from (self.table[genome] for genome in genomes)


class Unkept:
    """A journal that forgets."""

    def evaluations(self) -> tuple[Evaluation, ...]:
        return ()

    def append(self, evaluation: Evaluation) -> None:
        """Nothing."""


def reached(space: Space, steps: Steps, lookup: Lookup, optimum: Genome) -> int | None:
    """Distinct genomes evaluated until the optimum was among them; None when a strategy ends without it."""
    strategy, memo = Strategy(steps), Memo(space, lookup, Unkept())
    seen: dict[Genome, None] = {}
    while (batch := strategy.ask()) is not None and len(seen) < LIMIT:
        for genome in batch.genomes:
            seen.setdefault(genome)
            if genome == optimum:
                return len(seen)
        strategy.tell(memo(batch))
    return None


def main() -> None:
    model = load_model(str(trained_folder(BLOCKS)))
    shape = anatomy_of(model)
    text = "\n\n".join(documents("package:quac")[500:520]).encode()[: SEQUENCES * LENGTH]
    ids = torch.tensor(list(text)).reshape(SEQUENCES, LENGTH)
    teacher = Teacher(Blocks(model, shape), Sequences("bytes", ids, frozenset()), model_digest(model))
    space = Space(shape, structured_genes(shape, "block", range(BLOCKS)))
    budget = parse_budgets({"block_parameters": f"{(BLOCKS - DROPPED) / BLOCKS}x"}, space.dense_costs)
    space = space.with_budgets(budget)
    evaluator = SubnetEvaluator(space, Subnet(teacher.blocks), teacher, ("kl",))
    masks = [
        Genome(tuple(int(index in chosen) for index in range(BLOCKS - 1)))
        for chosen in itertools.combinations(range(BLOCKS - 1), DROPPED)
    ]
    table = {one.genome: one for one in evaluator(masks, range(SEQUENCES))}
    losses = np.array(sorted(one.loss for one in table.values()))
    optimum = min(table.values(), key=lambda one: one.loss).genome
    console.print(
        f"{len(masks):,} masks, {evaluator.layer_passes // SEQUENCES:,} layer passes a sequence for "
        f"{(BLOCKS - DROPPED) * len(masks):,} one at a time; KL best {losses[0]:.4f}, median {np.median(losses):.4f}"
    )
    lookup = Lookup(evaluator, table)
    pool = Pool(SEQUENCES, LENGTH)
    full = SEQUENCES * LENGTH
    strategies: dict[str, Callable[[int], Steps]] = {
        "random": lambda seed: random_search(space, pool, seed, SEQUENCES),
        "knapsack": lambda seed: knapsack(space, pool, SEQUENCES),
        "greedy, 8 lazily": lambda seed: greedy(space, pool, seed, SEQUENCES, lazy=8),
        "greedy, all": lambda seed: greedy(space, pool, seed, SEQUENCES, lazy=None),
        "evopress (64 random, 32 children)": lambda seed: evopress(
            space, pool, seed, Schedule(400, 32, (1,), (full,), first=64)
        ),
        "evopress (8 children)": lambda seed: evopress(space, pool, seed, Schedule(1000, 8, (1,), (full,), first=8)),
        "evopress (8 children, cost units)": lambda seed: evopress(
            space, pool, seed, Schedule(1000, 8, (1,), (full,), first=8), "costs"
        ),
    }
    rows = Table(title=f"Evaluations until the true optimum, {SEEDS} seeds", title_justify="left")
    for heading in ("strategy", "reached", "median", "quartiles", "answer's KL over the best (median)"):
        rows.add_column(heading, justify="right")
    for name, make in strategies.items():
        counts = [reached(space, make(seed), lookup, optimum) for seed in range(SEEDS)]
        hits = sorted(count for count in counts if count is not None)
        answers = [answer(space, make(seed), lookup) for seed in range(SEEDS)] if name != "random" else []
        quartiles = f"{np.percentile(hits, 25):.0f} to {np.percentile(hits, 75):.0f}" if hits else "-"
        rows.add_row(
            name,
            f"{len(hits)}/{SEEDS}",
            f"{np.median(hits):.0f}" if hits else "-",
            quartiles,
            f"{np.median(answers) / losses[0]:.3f}" if answers else "",
        )
    console.print(rows)


def answer(space: Space, steps: Steps, lookup: Lookup) -> float:
    """The loss of a strategy's answer."""
    strategy, memo = Strategy(steps), Memo(space, lookup, Unkept())
    spent = 0
    while (batch := strategy.ask()) is not None and spent < LIMIT:
        spent += len(batch.genomes)
        strategy.tell(memo(batch))
    assert strategy.incumbent is not None
    return next(iter(lookup([strategy.incumbent], range(SEQUENCES)))).loss


if __name__ == "__main__":
    main()

"""Spaces small enough to be scored whole: strategies run on the table, and their optimum is known.

The tables are made with the real evaluator and kept in the cache folder, so that a second run starts at once.
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.setup import console, smollm2, trained_folder
from secateur.fitness.cache import cache_folder, digest
from secateur.fitness.evaluator import SubnetEvaluator
from secateur.fitness.model.blocks import Blocks
from secateur.fitness.model.checkpoint import anatomy_of, load_model
from secateur.fitness.model.examined import model_digest
from secateur.fitness.scores.teacher import Teacher
from secateur.fitness.sources import documents
from secateur.fitness.subnets.subnet import Subnet
from secateur.fitness.text import Sequences
from secateur.search.memo import Memo
from secateur.search.steps import AskTell, Pool
from secateur.space.anatomy import Anatomy
from secateur.space.budget import Budget
from secateur.space.evaluation import Evaluation
from secateur.space.gene import Gene
from secateur.space.genome import Genome
from secateur.space.kinds.block import BLOCK
from secateur.space.question import Question, Told
from secateur.space.space import Space

SEQUENCES, LENGTH = 4, 128


@dataclass(frozen=True)
class Enumerated:
    """A space with its budget, and the losses per sequence of every genome that drops as much as the budget or less."""

    name: str
    space: Space
    pool: Pool
    losses: dict[Genome, tuple[float, ...]]

    @property
    def optimum(self) -> Genome:
        """The best genome within the budget."""
        within = [genome for genome in self.losses if self.space.feasible(genome)]
        return min(within, key=lambda genome: sum(self.losses[genome]))

    @property
    def best(self) -> float:
        return sum(self.losses[self.optimum]) / self.pool.sequences

    def memo(self) -> Memo:
        return Memo(self.space, self.evaluate, Unkept())

    def evaluate(self, genomes: Sequence[Genome], sequences: range) -> Iterator[Evaluation]:
        """From the table; raises KeyError for what the table does not reach."""
        for genome in genomes:
            losses = self.losses[genome][sequences.start : sequences.stop]
            status = "ok" if self.space.feasible(genome) else "infeasible"
            tokens = len(sequences) * self.pool.tokens_per_sequence
            costs = self.space.costs(genome)
            yield Evaluation(genome, self.space.key(genome), sequences, {"kl": losses}, costs, status, tokens=tokens)  # type: ignore[arg-type]


class Lookup:
    """Evaluations from a table; anything else from the model, once."""

    def __init__(self, evaluator: SubnetEvaluator, table: dict[Genome, Evaluation]) -> None:
        self.evaluator, self.table = evaluator, table

    def __call__(self, genomes: Sequence[Genome], sequences: range) -> Iterator[Evaluation]:
        unknown = [genome for genome in genomes if genome not in self.table]
        for one in self.evaluator(unknown, sequences) if unknown else ():
            self.table[one.genome] = one
        yield from (self.table[genome] for genome in genomes)


class Unkept:
    """A journal that forgets."""

    def answers(self, question: Question[Told]) -> tuple[Told, ...]:
        return ()

    def append(self, question: Question[Told], answer: Told) -> None:
        """Nothing."""


def groups(shape: Anatomy, size: int) -> tuple[Gene, ...]:
    """One gene for every `size` neighbouring blocks, kept or dropped together."""
    starts = range(0, len(shape.blocks), size)
    return tuple(
        Gene(BLOCK, f"{start}", (1, 0), tuple((block, -1) for block in range(start, start + size))) for start in starts
    )


def dropping(shape: Anatomy, genes: tuple[Gene, ...], count: int) -> Space:
    """The space in which `count` genes must be dropped, all of one size."""
    space = Space(shape, genes)
    per_gene = 2 * len(genes[0].members)
    return space.with_budgets((Budget("sublayers", 2 * len(shape.blocks) - count * per_gene, f"{count} dropped"),))


def tabulated(name: str, space: Space, count: int, evaluator: SubnetEvaluator, identity: str) -> Enumerated:
    """Scores every mask of up to `count` drops, or reads what was scored before."""
    text = evaluator.teacher.text
    pool = Pool(SEQUENCES, text.length)
    path: Path = cache_folder() / "benchmarks" / f"{digest(identity, text.digest, name, count, SEQUENCES)}.json"
    masks = [
        Genome(tuple(int(index in dropped) for index in range(len(space.genes))))
        for drops in range(count + 1)
        for dropped in itertools.combinations(range(len(space.genes)), drops)
    ]
    if not path.is_file():
        console.print(f"{name}: scoring {len(masks):,} masks once")
        losses = {one.genome: one.losses["kl"] for one in evaluator(masks, range(SEQUENCES))}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([losses[mask] for mask in masks]))
        console.print(f"{evaluator.layer_passes // SEQUENCES:,} layer passes a sequence")
    rows = json.loads(path.read_text())
    found = Enumerated(name, space, pool, dict(zip(masks, (tuple(row) for row in rows), strict=True)))
    within = np.array(sorted(sum(row) / SEQUENCES for mask, row in found.losses.items() if space.feasible(mask)))
    console.print(f"{name}: {len(within):,} genomes within the budget; KL best {within[0]:.4f}, next {within[1]:.4f}")
    return found


def on_smollm2() -> list[Enumerated]:
    """15 pairs of blocks, 6 dropped: 5,005 genomes; 30 blocks, 3 dropped: 4,060."""
    loaded = smollm2(SEQUENCES, LENGTH, dtype="bfloat16")
    found = []
    for name, size, count in (("SmolLM2, 6 of 15 pairs", 2, 6), ("SmolLM2, 3 of 30 blocks", 1, 3)):
        space = dropping(loaded.anatomy, groups(loaded.anatomy, size), count)
        bench = loaded.prepared(space)  # drops take no preparation
        evaluator = bench.evaluator(space, "calibration", ("kl",))
        found.append(tabulated(name, space, count, evaluator, f"{bench.digest} bfloat16"))
    return found


def on_small_models() -> list[Enumerated]:
    """Two byte-level models trained for a minute: 6 of 15 blocks dropped, and 5 of 16."""
    text = "\n\n".join(documents("package:quac")[500:520]).encode()[: SEQUENCES * 64]
    ids = torch.tensor(list(text)).reshape(SEQUENCES, 64)
    found = []
    for blocks, count, seed in ((15, 6, 0), (16, 5, 1)):
        model = load_model(str(trained_folder(blocks, seed=seed)))
        shape = anatomy_of(model)
        teacher = Teacher(Blocks(model, shape), Sequences("bytes", ids, frozenset()), model_digest(model))
        space = dropping(shape, groups(shape, 1), count)
        evaluator = SubnetEvaluator(space, Subnet(teacher.blocks), teacher, ("kl",))
        name = f"small model, {count} of {blocks} blocks"
        found.append(tabulated(name, space, count, evaluator, model_digest(model)))
    return found


def first_seen(table: Enumerated, strategy: AskTell, limit: int) -> tuple[int | None, list[float]]:
    """Distinct genomes evaluated until the optimum was among them (None: never), and the best loss after each."""
    memo, optimum = table.memo(), table.optimum
    curve: list[float] = []
    seen: set[Genome] = set()
    reached = None
    while (batch := strategy.ask()) is not None and len(seen) < limit:
        told = memo(batch)
        for one in told:
            if one.genome in seen:
                continue
            seen.add(one.genome)
            loss = sum(table.losses[one.genome]) / table.pool.sequences if one.status == "ok" else float("inf")
            curve.append(min(loss, curve[-1] if curve else float("inf")))
            if one.genome == optimum and reached is None:
                reached = len(seen)
        strategy.tell(told)
    return reached, curve


if __name__ == "__main__":
    on_small_models()
    on_smollm2()

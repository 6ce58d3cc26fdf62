"""Losses of a space of dropped blocks that can be computed by hand, as an evaluator."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from secateur.search.loop import Allowance, Spending, run
from secateur.search.memo import Memo
from secateur.search.steps import AskTell, Pool, Steps
from secateur.space.budget import Budget
from secateur.space.evaluation import Evaluation
from secateur.space.genome import Genome
from secateur.space.space import Space
from tests.genes import structured_genes
from tests.tiny import ListJournal, anatomy_for

POOL = Pool(16, 16)


def masks(blocks: int = 12, dropped: int = 5) -> Space:
    """Blocks of which `dropped` must go."""
    shape = anatomy_for(num_hidden_layers=blocks)
    space = Space(shape, structured_genes(shape, "block", range(blocks), keep_first_attention=False))
    return space.with_budgets((Budget("sublayers", 2 * (blocks - dropped), "test"),))


class Quadratic:
    """Losses |sum of the removed directions|^2 a sequence: neighbours point the same way, noise is per sequence."""

    def __init__(self, space: Space, seed: int, noise: float = 0.0) -> None:
        rng = np.random.default_rng(seed)
        count = len(space.genes)
        fields = rng.normal(size=(count + 1, 24))
        directions = fields[:-1] + 0.8 * fields[1:]
        self.directions = directions * rng.lognormal(0.0, 0.5, size=(count, 1)) / 10
        self.hardness = rng.lognormal(0.0, 0.3, size=POOL.sequences)
        self.space, self.noise, self.calls = space, noise, 0

    def loss(self, genome: Genome) -> float:
        share = [level / (len(gene.levels) - 1) for level, gene in zip(genome.levels, self.space.genes, strict=True)]
        return float(((np.array(share) @ self.directions) ** 2).sum())

    def __call__(self, genomes: Sequence[Genome], sequences: range) -> Iterator[Evaluation]:
        for genome in genomes:
            self.calls += len(sequences)
            rng = np.random.default_rng([*genome.levels, 7])
            row = self.loss(genome) * self.hardness * np.exp(rng.normal(0, self.noise, POOL.sequences))
            losses = tuple(row[sequences.start : sequences.stop].tolist())
            status = "ok" if self.space.feasible(genome) else "infeasible"
            costs = self.space.costs(genome)
            yield Evaluation(genome, self.space.key(genome), sequences, {"kl": losses}, costs, status, tokens=16)  # type: ignore[arg-type]


class Breaking(Quadratic):
    """Some genomes fail, on some sequences."""

    def __init__(self, space: Space, seed: int, broken: Callable[[Genome, range], bool], noise: float = 0.0) -> None:
        super().__init__(space, seed, noise)
        self.broken = broken

    def __call__(self, genomes: Sequence[Genome], sequences: range) -> Iterator[Evaluation]:
        for one in super().__call__(genomes, sequences):
            failed = self.broken(one.genome, sequences)
            yield replace(one, status="failed", reason="broken", losses={}) if failed else one


def answered(space: Space, steps: Steps, evaluator: Quadratic, limit: int = 10**9) -> tuple[Genome | None, Spending]:
    spending = Spending(POOL.tokens_per_sequence)
    memo = Memo(space, evaluator, ListJournal())
    answer = run(AskTell(steps), memo, spending, Allowance(evaluations=limit))
    return answer, spending

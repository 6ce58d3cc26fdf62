"""MultiPruner: whole sublayers first, then MLP channels, then attention heads, each greedily.

Munoz, Yuan and Jain 2025 (arXiv 2501.09949, sec. 3): of what has to go, 44 % goes as sublayers, 52 % as channels and
4 % as heads (the distribution of the authors' scripts). At each step every change of the current kind is scored, and
the one with the least loss is made. Differently from the authors, a step is one level of a gene, and where the
evaluations would not suffice for one change a step, a step makes several.
"""

import math
from collections.abc import Generator
from typing import Literal

import numpy as np

from ...operators.repair import tighten
from ...space.errors import SecateurError
from ...space.evaluation import Evaluation
from ...space.genome import Genome
from ...space.settings import Positive
from ...space.space import Space
from ..problem import Problem, fewest
from ..steps import Batch, Pool, Steps, best_of
from ..strategy import Strategy

STAGES = (("drop", 0.44), ("channels", 0.52), ("heads", 0.04))
DIMENSIONS = {"channels": ("channels",), "heads": ("groups", "queries")}
Moves = dict[int, Genome]
"""Genome after one change, by the gene that it changes."""


class Multipruner(Strategy):
    """MultiPruner's: greedily sublayers, then channels, then heads; for one plan."""

    name: Literal["multipruner"] = "multipruner"
    sequences: Positive = 4
    """On which everything is scored."""
    evaluations: Positive | None = None
    """At most so many, by several changes a step; null: one change a step, as published."""

    def check(self, problem: Problem) -> None:
        if not any(gene.drops or gene.narrows for gene in problem.space.genes):
            raise SecateurError("strategy: multipruner drops and narrows sublayers; the recipe has only sparsity genes")

    def expected(self, problem: Problem) -> int | None:
        length = problem.pool.tokens_per_sequence
        return self.evaluations * self.sequences * length if self.evaluations else None

    def steps(self, problem: Problem) -> Steps:
        most = fewest(self.evaluations, problem.affordable(self.sequences))
        return multipruner(problem.space, problem.pool, problem.seed, self.sequences, most)

    def compared(self) -> int:
        return self.sequences


def multipruner(space: Space, pool: Pool, seed: int, sequences: int, evaluations: int | None = None) -> Steps:
    """Walks from dense until the budgets hold; scores on the first `sequences` of the pool.

    Raises:
        SecateurError: the genes of the three kinds cannot keep the budgets.
    """
    space.check_budgets()
    used = range(min(sequences, pool.sequences))
    genome, done = space.dense, 0.0
    stages = [(kind, share) for kind, share in STAGES if _moves(space, space.dense, kind)]
    total = sum(share for _, share in stages) or 1.0
    # What is still missing after the three stages, each kind of change may give.
    for kind, share in (*((kind, share / total) for kind, share in stages), *((kind, 0.0) for kind, _ in stages[::-1])):
        done += share
        allowed = None if evaluations is None else max(0, round((evaluations - 2) * share))
        genome = yield from _stage(space, genome, kind, min(1.0, done), used, allowed)
    if not space.feasible(genome):
        raise SecateurError("multipruner: dropping sublayers and narrowing them is not enough to keep the budgets")
    candidates = tuple(dict.fromkeys((genome, tighten(genome, space, np.random.default_rng(seed)))))
    best = best_of((yield Batch(candidates, used)))
    return best.genome if best else None


def _stage(
    space: Space, genome: Genome, kind: str, done: float, used: range, allowed: int | None
) -> Generator[Batch, list[Evaluation], Genome]:
    """Makes changes of one kind until the share `done` of the way to the budgets is behind, or none is left."""
    ranked: list[int] = []
    while _missing(space, genome, done) > 0 and (moves := _moves(space, genome, kind)):
        if allowed is None or len(moves) <= allowed:
            indices = sorted(moves)
            told = yield Batch(tuple(moves[index] for index in indices), used)
            order = sorted(zip((evaluation.loss for evaluation in told), indices, strict=True), key=_loss_first)
            ranked = [index for _, index in order]
            steps = 1
            if allowed is not None:
                gained = [_missing(space, genome, done) - _missing(space, after, done) for after in moves.values()]
                needed = math.ceil(_missing(space, genome, done) / max(1e-12, sum(gained) / len(gained)))
                steps = math.ceil(needed * len(moves) / allowed)
                allowed -= len(moves)
        else:
            # The last ranking has to do for the rest.
            ranked, steps = ranked or sorted(moves), len(moves)
        for index in [index for index in ranked if index in moves][:steps]:
            if _missing(space, genome, done) <= 0:
                break
            genome = _moves(space, genome, kind).get(index, genome)
    return genome


def _loss_first(pair: tuple[float, int]) -> tuple[float, int]:
    loss, index = pair
    return (loss if math.isfinite(loss) else math.inf, index)


def _missing(space: Space, genome: Genome, done: float) -> float:
    """How far the genome is from the share `done` of the way from dense to the budgets, in shares of dense costs."""
    costs, dense = space.costs(genome), space.costs(space.dense)
    return sum(
        max(0.0, budget.of(costs) - (budget.of(dense) - done * (budget.of(dense) - budget.limit)))
        / max(1, budget.of(dense))
        for budget in space.budgets
        if budget.limit < budget.of(dense)
    )


def _moves(space: Space, genome: Genome, kind: str) -> Moves:
    """Changes of a kind: "drop" a sublayer or block, or keep one level fewer "channels" or "heads"."""
    active, moves = space.active(genome), {}
    for index, gene in enumerate(space.genes):
        level = genome.levels[index]
        if not active[index] or level == len(gene.levels) - 1:
            continue
        if kind == "drop":
            if gene.drops:
                moves[index] = space.canonical(genome.with_level(index, len(gene.levels) - 1))
        elif gene.kind.dimension in DIMENSIONS[kind] and gene.narrows and gene.levels[level + 1]:
            moves[index] = space.canonical(genome.with_level(index, level + 1))
    return moves

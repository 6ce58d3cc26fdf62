"""Greedy compression from the dense model, one best change at a time.

SLEB (arXiv 2402.09025), BlockPruner (2406.10594) and MultiPruner (2501.09949) remove, at each step, the unit whose
removal leaves the least loss, trying every unit that is left. Here a step is one level of one gene, ranked by loss per
saved cost so that attention, MLP and sparsity compete, and only the `lazy` genes with the best last-known marginal are
tried again (Minoux 1978, accelerated greedy).
"""

from collections.abc import Generator

import numpy as np

from ..operators.repair import tighten
from ..space.evaluation import Evaluation
from ..space.genome import Genome
from ..space.space import Space
from .strategy import Batch, Pool, Steps, best_of
from .sweep import Table, sweep


def greedy(
    space: Space,
    pool: Pool,
    seed: int,
    sequences: int,
    lazy: int | None = 8,
    anchors: int | None = None,
    evaluations: int | None = None,
) -> Steps:
    """Sweeps single changes on the first `sequences` of the pool, then walks from dense until the budgets hold.

    `lazy`: genes tried again at each step, None for all, as the papers do. `evaluations`: about how many the whole walk
    may take; when one change a step would take more, a step makes several, of those known to be best.
    """
    used = range(min(sequences, pool.sequences))
    table = yield from sweep(space, used, anchors)
    spent = 1 + sum(min(anchors or len(gene.levels), len(gene.levels) - 1) for gene in space.genes)
    left = None if evaluations is None else max(1, evaluations - spent)
    walked = yield from walk(space, table, used, lazy, left)
    candidates = tuple(dict.fromkeys((walked, tighten(walked, space, np.random.default_rng(seed)))))
    told = yield Batch(candidates, used, walked)
    best = best_of(told)
    return best.genome if best else None


def walk(
    space: Space, table: Table, used: range, lazy: int | None, evaluations: int | None
) -> Generator[Batch, list[Evaluation], Genome]:
    """From dense to the first genome that keeps the budgets; `table` gives the first guess at every marginal."""
    space.check_budgets()
    genome, loss = space.dense, table.dense
    known: dict[tuple[int, int], float] = {
        (index, level): row[level] - row[level - 1]
        for index, row in enumerate(table.added)
        for level in range(1, len(row))
    }
    while not space.feasible(genome):
        ranked = _ranked(space, genome, known)
        tried = ranked if lazy is None else ranked[:lazy]
        moves = _moves_now(space, genome, known, len(tried), evaluations)
        told = yield Batch((genome, *(_deeper(space, genome, index) for index in tried)), used)
        loss = told[0].loss if told[0].status != "failed" else loss
        for index, evaluation in zip(tried, told[1:], strict=True):
            known[index, genome.levels[index] + 1] = evaluation.loss - loss
        if evaluations is not None:
            evaluations = max(0, evaluations - len(tried) - (moves > 1))
        for _ in range(moves):
            index = _ranked(space, genome, known)[0]
            genome = _deeper(space, genome, index)
            if space.feasible(genome):
                break
    return genome


def _deeper(space: Space, genome: Genome, index: int) -> Genome:
    return space.canonical(genome.with_level(index, genome.levels[index] + 1))


def _ranked(space: Space, genome: Genome, known: dict[tuple[int, int], float]) -> list[int]:
    """Genes that can go a level deeper and save something that is needed, least loss per saved cost first."""
    before = space.costs(genome)
    broken = [budget for budget in space.budgets if not budget.allows(before)]
    scores = []
    for index, on in enumerate(space.active(genome)):
        if not on or genome.levels[index] == len(space.genes[index].levels) - 1:
            continue
        after = space.costs(_deeper(space, genome, index))
        # More than what is missing does not count, so that the last step does not overshoot for nothing.
        saved = sum(
            min(budget.of(before) - budget.of(after), budget.of(before) - budget.limit)
            / max(1, budget.of(space.dense_costs))
            for budget in broken
        )
        if saved > 0:
            scores.append((known[index, genome.levels[index] + 1] / saved, index))
    return [index for _, index in sorted(scores)]


def _moves_now(
    space: Space, genome: Genome, known: dict[tuple[int, int], float], tried: int, evaluations: int | None
) -> int:
    """How many changes this step makes so that the walk ends within `evaluations`."""
    if evaluations is None:
        return 1
    moves, ahead = 0, genome
    while not space.feasible(ahead):
        ahead = _deeper(space, ahead, _ranked(space, ahead, known)[0])
        moves += 1
    return -(-moves // max(1, evaluations // max(1, tried + 1)))

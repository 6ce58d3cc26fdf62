"""A greedy walk from the dense model: at each step the change of least added loss per saved cost."""

import heapq
import math
from collections.abc import Generator, Sequence

from ..space.errors import SecateurError
from ..space.evaluation import Evaluation
from ..space.genome import Genome
from ..space.space import Space
from ..space.steps import by_level, is_free, room
from .steps import Batch, noted, side_by_side
from .sweep import Table

COARSE = 2
"""Changes that a step of a walk through several budgets may make at most, so that it is worth its evaluations."""


def walk(
    space: Space, table: Table, used: range, lazy: int | None, evaluations: int | None
) -> Generator[Batch, list[Evaluation], Genome]:
    """From dense to the first genome that keeps the budgets; `table` gives the first guess at every loss.

    Raises:
        SecateurError: the budgets cannot be kept.
    """
    space.check_budgets()
    genome, loss = space.dense, table.dense
    known = _of_table(table)
    while not space.feasible(genome):
        ranked = [index for _, index in _moves(space, genome, known)]
        tried = ranked if lazy is None else ranked[:lazy]
        planned = len(_planned(space, genome, known)) if evaluations is not None else 1
        if evaluations is not None and evaluations <= len(tried):
            for index in _planned(space, genome, known):
                genome = _deeper(space, genome, index)
            return genome
        moves = 1 if evaluations is None else -(-planned // (evaluations // (len(tried) + 1)))
        told = yield Batch((genome, *(_deeper(space, genome, index) for index in tried)), used)
        loss = told[0].loss if told[0].status != "failed" else loss
        for index, evaluation in zip(tried, told[1:], strict=True):
            level = _next_level(space, genome, index)
            assert level is not None
            added = evaluation.loss - loss
            known[index, level] = known[index, genome.levels[index]] + added if math.isfinite(added) else math.inf
        if evaluations is not None:
            evaluations -= len(tried) + 1
        for index in _planned(space, genome, known, moves):
            genome = _deeper(space, genome, index)
    return genome


def walk_through(
    targets: Sequence[Space], table: Table, used: range, lazy: int, evaluations: int
) -> Generator[Batch, list[Evaluation], list[Genome]]:
    """For each target the first point of a walk that keeps its budgets.

    One walk for all targets that limit the same costs, to the tightest of them; one more for each that it misses.
    Where `evaluations`, shared among the costs, would leave steps of more than `COARSE` changes, `table` alone decides.

    Raises:
        SecateurError: budgets that cannot be kept.
    """
    groups: dict[tuple[str, ...], list[int]] = {}
    for index in sorted(range(len(targets)), key=lambda index: _size(targets[index])):
        groups.setdefault(tuple(sorted(budget.cost for budget in targets[index].budgets)), []).append(index)
    shared = evaluations // max(1, len(groups))
    walks = [_walk_through([targets[index] for index in group], table, used, lazy, shared) for group in groups.values()]
    found = yield from side_by_side(walks)
    points: dict[int, Genome] = {}
    for group, some in zip(groups.values(), found, strict=True):
        points.update(zip(group, some, strict=True))
    return [points[index] for index in range(len(targets))]


def _walk_through(
    targets: Sequence[Space], table: Table, used: range, lazy: int, evaluations: int
) -> Generator[Batch, list[Evaluation], list[Genome]]:
    """`walk_through` for targets that limit the same costs, the tightest first."""
    walked = [targets[0].dense]
    points: list[Genome] = []
    asked: list[int] = []

    def note(batch: Batch, _: list[Evaluation]) -> None:
        walked.append(batch.genomes[0])
        asked.append(len(batch.genomes))

    for target in targets:
        if not any(target.feasible(genome) for genome in walked):
            left = evaluations - sum(asked)
            fine = _changes(target, table) <= COARSE * (left // (lazy + 1))
            end = yield from noted(walk(target, table, used, lazy, left if fine else 0), note)
            walked.append(end)
        points.append(next(genome for genome in walked if target.feasible(genome)))
    return points


def _size(target: Space) -> float:
    """How much its budgets leave, in shares of the dense costs."""
    return sum(budget.limit / max(1, budget.of(target.dense_costs)) for budget in target.budgets)


def _changes(space: Space, table: Table) -> int:
    """How many changes a walk makes where `table` is right; see `walk` for what it raises."""
    space.check_budgets()
    return len(_planned(space, space.dense, _of_table(table)))


def _of_table(table: Table) -> dict[tuple[int, int], float]:
    return {(index, level): value for index, row in enumerate(table.added) for level, value in enumerate(row)}


def _next_level(space: Space, genome: Genome, index: int) -> int | None:
    """The next deeper level of a gene that saves something of what is still over budget; None where there is none.

    Levels can save nothing: 2:4 has as many zeros as 0.5.
    """
    found = _saving(space, genome, index, _left(space, genome))
    return found[0] if found is not None else None


def _saving(space: Space, genome: Genome, index: int, left: list[int]) -> tuple[int, list[int]] | None:
    """That level, and what it saves of the cost of each budget; `left`: what these leave (`room`)."""
    over = [one < 0 for one in left]
    levels = range(genome.levels[index] + 1, len(space.genes[index].levels))
    if is_free(space, index):
        rows = by_level(space, genome, index).tolist()
        savings = ((level, [-added for added in rows[level]]) for level in levels)
    else:
        before = space.costs(genome)
        afters = ((level, space.costs(space.canonical(genome.with_level(index, level)))) for level in levels)
        savings = ((level, [b.of(before) - b.of(after) for b in space.budgets]) for level, after in afters)
    for level, savings_of_level in savings:
        if any(is_over and saved > 0 for saved, is_over in zip(savings_of_level, over, strict=True)):
            return level, savings_of_level
    return None


def _left(space: Space, genome: Genome) -> list[int]:
    left: list[int] = room(space, genome).tolist()
    return left


def _deeper(space: Space, genome: Genome, index: int) -> Genome:
    level = _next_level(space, genome, index)
    assert level is not None
    return space.canonical(genome.with_level(index, level))


def _score(
    space: Space, genome: Genome, index: int, known: dict[tuple[int, int], float], left: list[int]
) -> float | None:
    """Added loss per saved cost of the gene's next level; None where nothing is saved."""
    found = _saving(space, genome, index, left)
    if found is None:
        return None
    level, savings = found
    # More than what is missing does not count, so that the last step does not overshoot for nothing.
    saved = sum(
        min(saving, -one) / max(1, budget.of(space.dense_costs))
        for saving, one, budget in zip(savings, left, space.budgets, strict=True)
        if one < 0
    )
    added = known[index, level]
    return (added - known[index, genome.levels[index]]) / saved if math.isfinite(added) else math.inf


def _moves(space: Space, genome: Genome, known: dict[tuple[int, int], float]) -> list[tuple[float, int]]:
    """Genes that can go deeper, with their scores, best first."""
    active = space.active(genome)
    left = _left(space, genome)
    scores = [(_score(space, genome, index, known, left), index) for index in range(len(space.genes)) if active[index]]
    return sorted((score, index) for score, index in scores if score is not None)


def _planned(space: Space, genome: Genome, known: dict[tuple[int, int], float], most: int | None = None) -> list[int]:
    """The changes that would follow if what is known now stayed true, until the budgets hold; the first `most`.

    Scores are kept in a heap and only those of the gene just changed are computed again.
    """
    heap = _moves(space, genome, known)
    planned: list[int] = []
    left = _left(space, genome)
    while min(left, default=0) < 0 and (most is None or len(planned) < most):
        if not heap:
            raise SecateurError("greedy: no change is left that brings the genome closer to its budgets")
        _, index = heapq.heappop(heap)
        found = _saving(space, genome, index, left) if space.active(genome)[index] else None
        if found is None:
            continue
        genome = space.canonical(genome.with_level(index, found[0]))
        planned.append(index)
        left = _left(space, genome)
        score = _score(space, genome, index, known, left) if space.active(genome)[index] else None
        if score is not None:
            heapq.heappush(heap, (score, index))
    return planned

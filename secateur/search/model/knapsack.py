"""The exact knapsack over an additive table: the best genome for a budget if losses simply added up.

The dynamic programme of SPDY (Frantar and Alistarh 2022, arXiv 2201.13096, sec. 3.2), with two differences: genes that
touch the same block are combined first, so that a dropped sublayer frees its sparsity genes, and several budgets may be
kept at once (one table axis each). The residual width, on which the cost of everything else depends, is tried level by
level.
"""

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...operators.repair import Spare
from ...space.errors import SecateurError
from ...space.genome import Genome
from ...space.space import Space
from ...space.steps import by_level, is_free
from ..sweep import Table

Slices = tuple[slice, ...]
CELLS = 100_000
ASSIGNMENTS = 4096
MEMORY = 400_000_000


class FailedLevelsError(SecateurError):
    """Nothing that keeps the budgets is free of levels that failed in the sweep."""


@dataclass(frozen=True, slots=True)
class _Option:
    """One level of one gene (or one structural assignment of a cluster): its added loss and its cost on each axis."""

    levels: tuple[tuple[int, int], ...]
    loss: float
    cells: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Branch:
    """A structural assignment of a cluster, and the free sparsity genes under it."""

    structure: _Option
    genes: tuple[tuple[_Option, ...], ...]


def solve(space: Space, table: Table, cells: int = CELLS) -> Genome:
    """Returns the canonical genome of least summed loss that keeps every budget of `space`.

    Exact where the costs' common divisor allows at most `cells` table cells; otherwise costs are rounded up to cells,
    so that the result keeps the budgets always, and what rounding left over is given back to the genes that gain most.

    Raises:
        SecateurError: no genome keeps the budgets, or too many structured genes hang on one sparsity gene.
    """
    space.check_budgets()
    check_clusters(space)
    if not space.budgets:
        return space.dense
    hidden = space.everywhere
    if hidden is None:
        return _given_back(space, table, space.canonical(_solve(space, table, space.dense, cells)))
    solutions, reason = [], SecateurError("")
    for level in range(len(space.genes[hidden].levels)):
        try:
            solutions.append(_solve(space, table, space.dense.with_level(hidden, level), cells))
        except SecateurError as error:
            reason = error
    if not solutions:
        raise reason
    full = [_given_back(space, table, space.canonical(solution)) for solution in solutions]
    return min(full, key=table.sum)


def _solve(space: Space, table: Table, base: Genome, cells: int) -> Genome:
    """The solution in which genes that no cluster has are as in `base`."""
    clusters = [_branches(space, table, base, cluster) for cluster in _clusters(space)]
    in_cells, capacity = _in_cells(space, base, clusters, cells)
    if any(room < 0 for room in capacity):
        raise SecateurError("knapsack: the budgets cannot be kept")
    table_now: NDArray[np.float64] = np.full(tuple(c + 1 for c in capacity), np.inf)
    table_now[(0,) * len(capacity)] = 0.0
    trail: list[tuple[list[_Branch], NDArray[np.int16], list[list[NDArray[np.uint8]]]]] = []
    for branches in in_cells:
        best = np.full_like(table_now, np.inf)
        which = np.zeros(table_now.shape, dtype=np.int16)
        choices = []
        for number, branch in enumerate(branches):
            current = _shifted(table_now, branch.structure.cells) + branch.structure.loss
            picks = []
            for options in branch.genes:
                current, pick = _min_plus(current, options)
                picks.append(pick)
            better = current < best
            best, which = np.where(better, current, best), np.where(better, np.int16(number), which)
            choices.append(picks)
        table_now = best
        trail.append((branches, which, choices))
    if not np.isfinite(table_now).any():
        raise FailedLevelsError("knapsack: every genome within the budgets contains a level that failed in the sweep")
    cell = tuple(int(i) for i in np.unravel_index(int(np.argmin(table_now)), table_now.shape))
    genome = base
    for branches, which, choices in reversed(trail):
        number = int(which[cell])
        branch = branches[number]
        for options, pick in zip(reversed(branch.genes), reversed(choices[number]), strict=True):
            option = options[int(pick[cell])]
            genome = _with(genome, option)
            cell = tuple(c - used for c, used in zip(cell, option.cells, strict=True))
        genome = _with(genome, branch.structure)
        cell = tuple(c - used for c, used in zip(cell, branch.structure.cells, strict=True))
    return genome


def _with(genome: Genome, option: _Option) -> Genome:
    for gene, level in option.levels:
        genome = genome.with_level(gene, level)
    return genome


def _shifted(table: NDArray[np.float64], cells: tuple[int, ...]) -> NDArray[np.float64]:
    """The table after spending `cells`: what was reachable at x is now at x + cells."""
    result = np.full_like(table, np.inf)
    if (places := _spending(table, cells)) is not None:
        result[places[1]] = table[places[0]]
    return result


def _spending(table: NDArray[np.float64], cells: tuple[int, ...]) -> tuple[Slices, Slices] | None:
    """From where in the table to where `cells` lead; None where they are more than it has.

    What would give something back spends nothing: where a model has zeros of its own, a deeper level may cost more.
    """
    cells = tuple(max(0, cell) for cell in cells)
    if any(c >= size for c, size in zip(cells, table.shape, strict=True)):
        return None
    before = tuple(slice(None, size - c) for c, size in zip(cells, table.shape, strict=True))
    return before, tuple(slice(c, None) for c in cells)


def _min_plus(
    table: NDArray[np.float64], options: tuple[_Option, ...]
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    best = np.full_like(table, np.inf)
    pick = np.zeros(table.shape, dtype=np.uint8)
    for number, option in enumerate(options):
        if (places := _spending(table, option.cells)) is not None:
            candidate, there = table[places[0]] + option.loss, best[places[1]]
            better = candidate < there
            np.minimum(there, candidate, out=there)
            pick[places[1]][better] = number
    return best, pick


def _clusters(space: Space) -> list[list[int]]:
    """Genes that share a block, directly or through others; the residual width is in none."""
    parent = list(range(len(space.anatomy.blocks)))

    def root(block: int) -> int:
        while parent[block] != block:
            block = parent[block]
        return block

    local = [(index, gene) for index, gene in enumerate(space.genes) if not gene.kind.everywhere]
    for _, gene in local:
        for block, _ in gene.members[1:]:
            parent[root(block)] = root(gene.members[0][0])
    clusters: dict[int, list[int]] = {}
    for index, gene in local:
        clusters.setdefault(root(gene.members[0][0]), []).append(index)
    return list(clusters.values())


def _branches(space: Space, table: Table, base: Genome, cluster: list[int]) -> list[_Branch]:
    """Structural assignments of a cluster, in plain cost units.

    A branch costs what it costs with its free genes at their smallest, relative to `base` (so: less than nothing); a
    level of a free gene costs what it adds to that. Genes that a branch silences add nothing.
    """
    structural = [i for i in cluster if not space.genes[i].kind.free]
    free = [i for i in cluster if space.genes[i].kind.free]
    dense = _costs(space, base)
    branches: dict[Genome, _Branch] = {}
    for levels in itertools.product(*(range(len(space.genes[i].levels)) for i in structural)):
        genome = base
        for gene, level in zip(structural, levels, strict=True):
            genome = genome.with_level(gene, level)
        genome = space.canonical(genome)
        if genome in branches:
            continue
        active = space.active(genome)
        smallest = genome
        for i in free:
            smallest = smallest.with_level(i, len(space.genes[i].levels) - 1 if active[i] else 0)
        least = _costs(space, smallest)
        genes = tuple(
            tuple(
                _Option(((i, level),), table.added[i][level] if active[i] else 0.0, cost)
                for level, cost in enumerate(_level_costs(space, smallest, i, least))
            )
            for i in free
        )
        loss = sum(table.added[i][genome.levels[i]] for i in structural if active[i])
        structure = _Option(tuple((i, genome.levels[i]) for i in structural), loss, _minus(least, dense))
        branches[genome] = _Branch(structure, genes)
    return list(branches.values())


def _level_costs(space: Space, smallest: Genome, index: int, least: tuple[int, ...]) -> list[tuple[int, ...]]:
    """What each level of a gene costs more than the one it has, up to that."""
    levels = range(smallest.levels[index] + 1)
    if is_free(space, index):
        return [tuple(row) for row in by_level(space, smallest, index)[: len(levels)].tolist()]
    return [_minus(_costs(space, smallest.with_level(index, level)), least) for level in levels]


def check_clusters(space: Space) -> None:
    """Raises SecateurError when too many structured genes hang together for the knapsack to try their combinations."""
    for cluster in _clusters(space):
        combinations = math.prod(len(space.genes[i].levels) for i in cluster if not space.genes[i].kind.free)
        if combinations > ASSIGNMENTS:
            raise SecateurError(
                f"knapsack: {combinations} combinations of structured genes hang on {space.genes[cluster[0]].key}; "
                "use fewer levels, smaller groups or another strategy"
            )


def _costs(space: Space, genome: Genome) -> tuple[int, ...]:
    costs = space.costs(genome)
    return tuple(budget.of(costs) for budget in space.budgets)


def _minus(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a - b for a, b in zip(first, second, strict=True))


def _in_cells(
    space: Space, base: Genome, clusters: list[list[_Branch]], cells: int
) -> tuple[list[list[_Branch]], tuple[int, ...]]:
    """Costs from the smallest genome upwards in table cells, rounded up, and the table's capacity, rounded down."""
    axes = range(len(space.budgets))
    floors = [tuple(min(branch.structure.cells[a] for branch in branches) for a in axes) for branches in clusters]
    clusters = [
        [replace(b, structure=replace(b.structure, cells=_minus(b.structure.cells, floor))) for b in branches]
        for branches, floor in zip(clusters, floors, strict=True)
    ]
    dense = _costs(space, base)
    room = [budget.limit - dense[a] - sum(floor[a] for floor in floors) for a, budget in enumerate(space.budgets)]
    branches_flat = [branch for branches in clusters for branch in branches]
    options = [o for branch in branches_flat for o in (branch.structure, *itertools.chain(*branch.genes))]
    arrays = sum(1 + len(branch.genes) for branch in branches_flat)
    most = max(2, int(min(cells, MEMORY // max(1, arrays)) ** (1 / len(space.budgets))))
    units = []
    for a in axes:
        divisor = math.gcd(*(option.cells[a] for option in options)) or 1
        units.append(max(divisor, math.ceil(room[a] / most)) if room[a] // divisor > most else divisor)

    def scaled(option: _Option) -> _Option:
        return replace(option, cells=tuple(-(-cost // unit) for cost, unit in zip(option.cells, units, strict=True)))

    in_cells = [
        [_Branch(scaled(b.structure), tuple(tuple(map(scaled, gene)) for gene in b.genes)) for b in branches]
        for branches in clusters
    ]
    return in_cells, tuple(r // unit for r, unit in zip(room, units, strict=True))


def _given_back(space: Space, table: Table, genome: Genome) -> Genome:
    """Spends what rounding left over: the denser level that saves most loss, while one still fits."""
    spare = Spare(space, genome)
    while True:
        gains = [
            (table.added[index][level - 1] - table.added[index][level], index)
            for index, level in enumerate(spare.genome.levels)
            if level > 0
        ]
        chosen = next((index for gain, index in sorted(gains) if gain < 0 and spare.fits(index)), None)
        if chosen is None:
            return spare.genome
        spare.make_denser(chosen)

"""Candidates from the surrogate: local search on it from several starts, then the batch that promises most."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from ...operators.mutation import switch_costs
from ...space.errors import SecateurError
from ...space.genome import Genome
from ...space.space import Space
from ...space.steps import is_free
from ...space.steps import steps as steps_of
from ..sweep import Table
from .features import Array, matrix
from .knapsack import solve
from .loss_model import LossModel

CELLS = 2000
"""Of the knapsack's table here: what rounding loses the search finds again."""
STEPS = 12
RANDOM_MOVES = 6
PAIRS = 1500
MANY = 8
"""Times `PAIRS`, more than which are not all looked at."""
STEEP = 10.0
"""Of the logarithm of the loss, for each unit of that of the way to the budgets on scores, beyond these."""
KEPT = 16
"""Neighbours of each step that may become candidates."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A candidate, the expected improvement of the logarithm of the loss, and what the model predicts for that.

    `likely`: the probability that it keeps the budgets on scores, by which its improvement was multiplied.
    """

    genome: Genome
    improvement: float
    predicted: float
    likely: float = 1.0


def expected_improvement(mean: Array, deviation: Array, best: float) -> Array:
    """E[max(0, best - f)] for normal f (Mockus 1978; Jones et al. 1998, eq. 15)."""
    z = (best - mean) / deviation
    result: Array = (best - mean) * scipy.special.ndtr(z) + deviation * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return np.maximum(result, 0.0)


def propose(
    space: Space,
    model: LossModel,
    starts: Sequence[Genome],
    best: float,
    seen: frozenset[Genome] | set[Genome],
    rng: np.random.Generator,
    limit: LossModel | None = None,
) -> list[Proposal]:
    """Every unseen genome that local search from `starts` came by, the most promising first.

    Each start descends along the lower confidence bound of the model by switches of two genes and by random exchanges
    in cost units, until no neighbour is lower or `STEPS` steps are made. `best`: the logarithm of the loss to beat;
    infinity: nothing keeps the budgets on scores yet. `limit`: the model of how much of the way to these a genome goes;
    what promises most is then what promises to be better and to keep them (constrained expected improvement: Schonlau
    et al. 1998; Gardner et al. 2014).
    """
    visited: dict[Genome, None] = {}
    for start in dict.fromkeys(starts):
        bold = float(rng.choice([0.0, 1.0, 2.0]))
        current, level = start, np.inf
        if space.feasible(start):
            visited[start] = None
        for _ in range(STEPS):
            around = _neighbours(space, current, rng)
            if not len(around):
                break
            mean, deviation = model.around(current, around, deviating=bold > 0)
            bound = mean - bold * deviation
            if limit is not None:
                bound = bound + STEEP * np.maximum(0.0, limit.around(current, around, deviating=False)[0])
            order = np.argsort(bound, kind="stable")[:KEPT]
            kept = [(float(bound[index]), _legal(space, around[index])) for index in order.tolist()]
            # Changes in one block do not add up exactly.
            legal = [(value, genome) for value, genome in kept if space.feasible(genome)]
            visited.update(dict.fromkeys(genome for _, genome in legal))
            if not legal or legal[0][0] >= level:
                break
            level, current = legal[0]
    genomes = [genome for genome in visited if genome not in seen]
    if not genomes:
        return []
    mean, deviation = model.predict(matrix(genomes))
    gains = expected_improvement(mean, deviation, best) if best < np.inf else np.ones(len(genomes))
    likely = np.ones(len(genomes))
    if limit is not None:
        way, spread = limit.predict(matrix(genomes))
        likely = scipy.special.ndtr(-way / spread)
        gains = gains * likely
    order = np.argsort(-gains, kind="stable")
    return [Proposal(genomes[i], float(gains[i]), float(mean[i]), float(likely[i])) for i in order.tolist()]


def spread_out(proposals: Sequence[Proposal], model: LossModel, best: float, count: int) -> list[Proposal]:
    """Up to `count` proposals, each the most promising once those before it are taken to come out as predicted."""
    some = list(proposals[: 16 * count])
    if not some:
        return []
    likely = np.array([proposal.likely for proposal in some])
    mean, covariance = model.joint(matrix([proposal.genome for proposal in some]))
    noise = model.scales["noise"] ** 2
    chosen: list[int] = []
    while len(chosen) < min(count, len(some)):
        deviation = np.sqrt(np.maximum(np.diag(covariance), 1e-10))
        gains = likely * (expected_improvement(mean, deviation, best) if best < np.inf else 1.0)
        gains[chosen] = -1.0
        pick = int(np.argmax(gains))
        chosen.append(pick)
        column = covariance[:, pick]
        covariance = covariance - np.outer(column, column) / (covariance[pick, pick] + noise)
    return [some[index] for index in chosen]


def linearised(space: Space, model: LossModel, genome: Genome) -> Genome | None:
    """The exact knapsack on what the model says of single changes around `genome`; None where it cannot be solved.

    A large step that a descent by switches would take many for.
    """
    changes = [
        (index, level)
        for index, gene in enumerate(space.genes)
        for level in range(len(gene.levels))
        if level != genome.levels[index]
    ]
    here = matrix([genome])
    levels = np.repeat(here, len(changes), axis=0)
    levels[np.arange(len(changes)), [index for index, _ in changes]] = [level for _, level in changes]
    mean, _ = model.around(genome, levels, deviating=False)
    losses = np.exp(np.clip(np.concatenate([model.mean(here), mean]), -20, 20)).tolist()
    rows = [[losses[0]] * len(gene.levels) for gene in space.genes]
    for (index, level), loss in zip(changes, losses[1:], strict=True):
        rows[index][level] = loss
    added = tuple(tuple(np.maximum.accumulate([value - row[0] for value in row]).tolist()) for row in rows)
    try:
        return solve(space, Table(0.0, added), cells=CELLS)
    except SecateurError:
        return None


def _neighbours(space: Space, genome: Genome, rng: np.random.Generator) -> NDArray[np.intp]:
    """Levels (neighbours, genes) of genomes that are likely to keep the budgets.

    All switches of two genes, one a level denser and one a level smaller, all that make one denser where there is room,
    and some random exchanges in cost units.
    """
    active = space.active(genome)
    here = np.array(genome.levels, dtype=np.intp)
    before = _costs(space, genome)
    room = np.array([budget.limit for budget in space.budgets], dtype=float) - before
    (denser, dearer), (smaller, cheaper) = (_single_steps(space, genome, by, active, before) for by in (-1, 1))
    exchanged = [switch_costs(genome, space, rng) for _ in range(RANDOM_MOVES)]
    alone = np.concatenate([matrix(exchanged) - here, denser[(dearer <= room).all(1)]])
    pairs = _drawn(denser, smaller, dearer, cheaper, room, rng)
    if pairs is None:
        fits = ((dearer[:, None] + cheaper[None]) <= room).all(2)
        # Products of floats, which take a fraction of the time that those of integers do, and are as exact here.
        meeting = (denser != 0).astype(np.float32) @ (smaller != 0).T.astype(np.float32)
        pairs = np.stack(np.nonzero(fits & (meeting == 0)), axis=1)
    count = len(alone) + len(pairs)
    # Of hundreds of genes some pairs must do: more would take longer than they are worth.
    drawn = np.arange(count) if count <= PAIRS else np.sort(rng.choice(count, PAIRS, replace=False))
    up, down = pairs[drawn[drawn >= len(alone)] - len(alone)].T
    found: NDArray[np.intp] = here + np.concatenate([alone[drawn[drawn < len(alone)]], denser[up] + smaller[down]])
    return found


def _drawn(
    denser: NDArray[np.intp],
    smaller: NDArray[np.intp],
    dearer: Array,
    cheaper: Array,
    room: Array,
    rng: np.random.Generator,
) -> NDArray[np.intp] | None:
    """Pairs (pairs, 2) of steps that keep the budgets together, drawn; None where there are few enough to see all."""
    count = len(denser) * len(smaller)
    if count <= MANY * PAIRS:
        return None
    drawn = np.unique(rng.integers(count, size=MANY * PAIRS))
    up, down = np.divmod(drawn, len(smaller))
    fits = (dearer[up] + cheaper[down] <= room).all(axis=1)
    up, down = up[fits], down[fits]
    if len(up) < PAIRS:
        return None
    some = np.sort(rng.choice(len(up), PAIRS, replace=False))
    up, down = up[some], down[some]
    apart = ~((denser[up] != 0) & (smaller[down] != 0)).any(axis=1)
    return np.stack([up[apart], down[apart]], axis=1)


def _single_steps(
    space: Space, genome: Genome, by: int, active: Sequence[bool], before: Array
) -> tuple[NDArray[np.intp], Array]:
    """What a level more or less of each active gene changes of levels (steps, genes), and costs (steps, budgets)."""
    moving = [
        index
        for index, gene in enumerate(space.genes)
        if active[index] and 0 <= genome.levels[index] + by < len(gene.levels)
    ]
    found = np.zeros((len(moving), len(space.genes)), dtype=np.intp)
    found[np.arange(len(moving)), moving] = by
    costs: Array = steps_of(space, genome, by)[moving].astype(float)
    for place, index in enumerate(moving):
        if not is_free(space, index):
            moved = space.canonical(genome.with_level(index, genome.levels[index] + by))
            found[place] = np.array(moved.levels, dtype=np.intp) - np.array(genome.levels)
            costs[place] = _costs(space, moved) - before
    return found, costs


def _legal(space: Space, levels: NDArray[np.intp]) -> Genome:
    return space.canonical(Genome(tuple(levels.tolist())))


def _costs(space: Space, genome: Genome) -> Array:
    costs = space.costs(genome)
    return np.array([budget.of(costs) for budget in space.budgets], dtype=float)

"""Genomes by rule or from files, for baselines and to start from."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...fitness.bench import Bench
from ...fitness.bits.errors import stored_errors
from ...operators.repair import compress
from ...operators.rules.rule import UnitScores
from ...operators.rules.table import RULES
from ...operators.sampling import ends, from_states, limited
from ...plans.layers import unit
from ...plans.reading import read_states
from ...search.archive import Goal
from ...search.warm import GOOD_RULES, is_plan_file
from ...space.anatomy import HIDDEN
from ...space.errors import SecateurError
from ...space.genome import Genome
from ...space.space import Space
from ...space.state import BlockState
from ..asked.recipe import Recipe
from ..record.facts import INITIAL, PEER
from ..record.journal import Journal

STATISTICS_SEQUENCES = 8


class Measured:
    """What rules want to know of the dense model of a bench, on the first sequences of its calibration text."""

    def __init__(self, bench: Bench) -> None:
        self._bench, self._sequences = bench, min(STATISTICS_SEQUENCES, len(bench.preparing))

    def influence(self) -> Sequence[float]:
        return self._bench.importance(self._sequences, outliers=False).influence

    def angular(self) -> Sequence[Sequence[float]]:
        return self._bench.importance(self._sequences, outliers=False).angular

    def outliers(self) -> Sequence[float]:
        return self._bench.importance(self._sequences, outliers=True).outliers

    def fluctuations(self) -> UnitScores:
        return self._bench.fluctuations(self._sequences)

    def stored_errors(self, space: Space) -> Sequence[Sequence[float]]:
        return stored_errors(space, self._bench.weights)


def by_rule(name: str, space: Space, bench: Bench, seed: int) -> Genome:
    """The genome of a published rule on the budgets of `space`; raises SecateurError where it cannot keep them."""
    return RULES[name].genome(space, Measured(bench), np.random.default_rng(seed))


def line(
    name: str, space: Space, bench: Bench, seed: int, goal: Goal, points: int, least: int | None = None
) -> list[Genome]:
    """The same rule in `points` sizes of the goal's first cost, from `least` (default: the smallest genome's) upwards.

    Raises:
        SecateurError: it keeps none of the limits.
    """
    if not goal.costs:
        return [by_rule(name, space, bench, seed)]
    cost = goal.costs[0]
    low, high = ends(space, cost)
    low = max(low, least or low)
    found: dict[Genome, None] = {}
    reason = SecateurError(f"{name}: every size is that of the dense model")
    for number in range(points):
        try:
            found.setdefault(by_rule(name, limited(space, cost, low + (high - low) * number // points), bench, seed))
        except SecateurError as error:
            reason = error
    genomes = [genome for genome in found if genome != space.dense]
    if not genomes:
        raise reason
    return genomes


def starting(recipe: Recipe, space: Space, bench: Bench, goal: Goal | None) -> list[Genome]:
    """What a search begins with by the rules in the strategy's `initial`; for a front, uniform ones in several sizes.

    Raises:
        SecateurError: a rule named there cannot keep the budgets.
    """
    wanted = recipe.strategy.start_names()
    if goal is not None:
        return uniform_lines(recipe, space, bench, goal) if {"uniform", GOOD_RULES} & set(wanted) else []
    genomes = [by_rule(name, space, bench, recipe.seed) for name in wanted if name in RULES]
    if GOOD_RULES in wanted:
        for name, rule in RULES.items():
            if rule.good and not rule.unfit(space):
                with contextlib.suppress(SecateurError):
                    genomes.append(by_rule(name, space, bench, recipe.seed))
    return list(dict.fromkeys(genomes))


def uniform_lines(recipe: Recipe, space: Space, bench: Bench, goal: Goal) -> list[Genome]:
    """Uniform width and uniform sparsity in several sizes, as far as the recipe has genes for them."""
    genomes: list[Genome] = []
    for name, rule in RULES.items():
        if rule.uniform and not rule.unfit(space):
            with contextlib.suppress(SecateurError):  # levels too far apart to be uniform within the budgets
                genomes += line(name, space, bench, recipe.seed, goal, recipe.front.points)
    return genomes


def from_files(names: tuple[str, ...], space: Space, journal: Journal | None = None) -> list[Genome]:
    """The genomes nearest to plan files, on the budgets; a journal keeps them, so that resuming needs no file.

    Raises:
        SecateurError: a file that is missing, of no known format, or for another model.
    """
    genomes = []
    for name in filter(is_plan_file, names):
        levels = journal.of(INITIAL, name) if journal is not None else None
        if levels is None:
            genome = from_states(space, read_states(Path(name), space.anatomy))
            levels = list(compress(genome, space, np.random.default_rng(0)).levels)
            if journal is not None:
                journal.note(INITIAL, levels, name)
        genomes.append(Genome(tuple(levels)))
    return genomes


def peer(path: str, space: Space, journal: Journal | None = None) -> Genome:
    """The genome that is just the plan in a file, to be compared with what is found; a journal keeps it.

    Raises:
        SecateurError: the file cannot be read, the space has no such genome, or it is over a budget.
    """
    levels = journal.of(PEER, path) if journal is not None else None
    genome = Genome(tuple(levels)) if levels is not None else _exact(path, space)
    if journal is not None:
        keep_peer(path, genome, journal)
    costs = space.costs(genome)
    for budget in space.budgets:
        if budget.excess(costs) > 0:
            raise SecateurError(f"baseline {path}: {budget.cost} of {budget.of(costs):,} is over the budget: {budget}")
    return genome


def keep_peer(path: str, genome: Genome, journal: Journal) -> None:
    """Notes the genome of a plan file, so that the file may go."""
    journal.note(PEER, list(genome.levels), path)


def _exact(path: str, space: Space) -> Genome:
    states = read_states(Path(path), space.anatomy)
    genome = from_states(space, states)
    for block, (own, theirs) in enumerate(zip(space.states(genome), states, strict=True)):
        if own != theirs:
            raise SecateurError(
                f"baseline {path}: no genome of this recipe has its layer {block} ({_words(theirs)}; nearest: "
                f"{_words(own)}); give 'genes' that level"
            )
    return genome


def _words(state: BlockState) -> str:
    parts = [
        f"{count} {'of the residual width' if dimension == HIDDEN else unit(dimension)}"
        for dimension, count in state.kept.items()
    ]
    levels = ", ".join(f"{name} {level}" for name, level in state.treated.items())
    return f"{', '.join(parts)}; {levels or 'nothing treated'}"

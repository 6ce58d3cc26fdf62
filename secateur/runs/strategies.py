"""From the settings of a strategy to the strategy."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

from ..operators.sampling import ends, limited
from ..search.archive import Goal
from ..search.encoding import Encoding, Levels, Shares
from ..search.strategies.darwin import PUBLISHED as DARWIN
from ..search.strategies.darwin import darwin, training_chains
from ..search.strategies.evolution import evolution
from ..search.strategies.evopress import PUBLISHED, Mutation, Schedule, evopress, sized, stage_sequences
from ..search.strategies.exhaustive import check_size, exhaustive
from ..search.strategies.greedy import greedy
from ..search.strategies.knapsack import check_clusters, knapsack, knapsack_front
from ..search.strategies.multipruner import multipruner
from ..search.strategies.random import random_search
from ..search.strategies.samplers import sampled
from ..search.strategy import Pool, Steps
from ..search.trained import Stage, TrainedSelection, whole
from ..search.warm import warm_front, warm_start
from ..space.errors import SecateurError
from ..space.genome import Genome
from ..space.space import Space
from .asked.recipe import Recipe
from .asked.settings import Effort
from .asked.strategy_settings import (
    RULES,
    DarwinScheduleSettings,
    DarwinSettings,
    EvolutionSettings,
    EvopressSettings,
    GreedySettings,
    KnapsackSettings,
    SamplerSettings,
    ScheduleSettings,
)
from .problem import goal_of
from .stages.starts import unfit
from .surrogate_steps import surrogate_steps

PUBLISHED_NAMES = tuple(f"published-{name}" for name in PUBLISHED)
RUN_FIRST = {"knapsack": KnapsackSettings(name="knapsack"), "greedy": GreedySettings(name="greedy")}
"""What `initial` may run first, with the settings that it has where `warm` says nothing."""


def make_steps(
    recipe: Recipe, settings: Any, space: Space, pool: Pool, tokens: int | None, initial: Sequence[Genome] = ()
) -> Steps:
    """The strategy that `settings` describes: `tokens` is what it may spend, `initial` where to start.

    Raises:
        SecateurError: the strategy cannot run on this space, this text or these tokens.
    """
    seed, length = recipe.seed, pool.tokens_per_sequence
    sequences = min(getattr(settings, "sequences", 1), pool.sequences)
    affordable = None if tokens is None else tokens // (sequences * length)
    affordable = _fewest(affordable, recipe.effort.evaluations)
    goal = goal_of(recipe, space)
    match settings.name:
        case "random":
            costs = goal.costs if goal is not None else ()
            # The dense model comes first where there are costs to vary.
            batch = min(8, max(1, affordable - bool(costs))) if affordable is not None else 8
            return random_search(space, pool, seed, sequences, batch, costs=costs)
        case "knapsack" if goal is not None:
            check_clusters(space)
            # At most a quarter of the evaluations for solutions, the rest for the sweep.
            most = settings.sizes if affordable is None else affordable // (4 * max(1, len(goal.costs)))
            sizes = max(1, min(settings.sizes, most))
            anchors = _anchors(settings, space, affordable, length, sizes * len(goal.costs) + 1)
            return knapsack_front(space, goal, sizes, anchors)
        case "exhaustive":
            check_size(space)
            return exhaustive(space, pool, sequences)
        case "knapsack":
            check_clusters(space)
            return knapsack(space, pool, sequences, _anchors(settings, space, affordable, length))
        case "greedy":
            most = _fewest(settings.evaluations, affordable)
            return greedy(
                space, pool, seed, sequences, settings.lazy, _anchors(settings, space, affordable, length), most
            )
        case "multipruner":
            if not any(gene.drops or gene.narrows for gene in space.genes):
                raise SecateurError(
                    "strategy: multipruner drops and narrows sublayers; the recipe has only sparsity genes"
                )
            return multipruner(space, pool, seed, sequences, _fewest(settings.evaluations, affordable))
        case "surrogate":
            _check_initial(settings.initial, space)
            return surrogate_steps(recipe, settings, space, pool, tokens, goal, initial)
        case "darwin":
            return _darwin_steps(recipe, settings, space, pool, tokens, initial)
    if goal is not None:
        return _front_steps(recipe, settings, space, pool, goal, tokens, initial)
    return _evopress_steps(recipe, settings, space, pool, tokens, initial)


def _fewest(*limits: int | None) -> int | None:
    """The least of the limits; None: there is none."""
    return min((limit for limit in limits if limit is not None), default=None)


def _evopress_steps(
    recipe: Recipe,
    settings: EvopressSettings,
    space: Space,
    pool: Pool,
    tokens: int | None,
    initial: Sequence[Genome],
) -> Steps:
    """EvoPress, after what `initial` runs first.

    Raises:
        SecateurError: a schedule that the text does not reach for, or a start that the space does not have.
    """
    schedule: Schedule | int | None = tokens
    published = settings.schedule in PUBLISHED_NAMES
    if isinstance(settings.schedule, ScheduleSettings):
        schedule = Schedule(**settings.schedule.model_dump())
    elif published:
        schedule = PUBLISHED[settings.schedule.removeprefix("published-")]
    assert schedule is not None
    if isinstance(schedule, Schedule):
        stage_sequences(schedule, pool)
    _check_initial(settings.initial, space)
    mutation: Mutation = settings.mutation or ("levels" if published else "costs")
    fresh = (settings.minibatches or ("fresh" if published else "nested")) == "fresh"

    def then(answers: list[Genome], spent: int) -> Steps:
        sizes = schedule if isinstance(schedule, Schedule) else sized(schedule - spent, pool, fresh)
        return evopress(space, pool, recipe.seed, sizes, mutation, fresh, [*initial, *answers], settings.race)

    return warm_start(pool, _first(recipe, settings, space, pool, tokens), then)


def _first(
    recipe: Recipe,
    settings: EvopressSettings | DarwinSettings | EvolutionSettings | SamplerSettings,
    space: Space,
    pool: Pool,
    tokens: int | None,
    goal: Goal | None = None,
) -> list[Callable[[], Steps]]:
    """The strategies that `initial` runs first, with half of the effort for all of them together.

    Raises:
        SecateurError: one of them cannot run on that.
    """
    names = [name for name in RUN_FIRST if name in settings.initial]
    each = 2 * max(1, len(names))
    evaluations = recipe.effort.evaluations
    part = Effort(tokens=tokens and max(1, tokens // each), evaluations=evaluations and max(1, evaluations // each))
    first: list[Callable[[], Steps]] = []
    for name in names:
        chosen = settings.warm if settings.warm is not None and settings.warm.name == name else RUN_FIRST[name]
        wanted = space
        if goal is not None:
            # Whatever is said, on the sequences of the search, so that its evaluations are part of the front.
            chosen = chosen.model_copy(update={"sequences": goal.sequences})
            wanted = _half_way(space, goal) if name == "greedy" else space
        first.append(partial(make_steps, recipe.model_copy(update={"effort": part}), chosen, wanted, pool, part.tokens))
        try:
            first[-1]()  # so that what cannot run is refused now
        except SecateurError as error:
            share = "half" if len(names) == 1 else "a quarter"
            raise SecateurError(
                f"{error} ('initial' runs {name} before {settings.name}, with {share} of the effort)"
            ) from None
    return first


def _darwin_steps(
    recipe: Recipe,
    settings: DarwinSettings,
    space: Space,
    pool: Pool,
    tokens: int | None,
    initial: Sequence[Genome],
) -> Steps:
    schedule = DARWIN
    if isinstance(settings.schedule, DarwinScheduleSettings):
        schedule = Schedule(**settings.schedule.model_dump(exclude={"training"}))
    assert recipe.training_text is not None
    chains = training_chains(settings.training, recipe.training_text.length)
    stage_sequences(schedule, pool)
    _check_initial(settings.initial, space)
    fresh = settings.minibatches == "fresh"

    def then(answers: list[Genome], _: int) -> Steps:
        starts = [*initial, *answers]
        return darwin(space, pool, recipe.seed, schedule, chains, settings.mutation, fresh, starts, settings.race)

    return warm_start(pool, _first(recipe, settings, space, pool, tokens), then)


def trained_selection(recipe: Recipe, space: Space, pool: Pool, tokens: int | None) -> TrainedSelection | None:
    """What follows a search whose best candidates are trained; None where there is no such thing.

    Raises:
        SecateurError: `tokens`, what search and selection may spend together, does not even reach for the selection.
    """
    settings = recipe.training
    if settings is None or recipe.strategy.name == "darwin":
        return None
    assert recipe.training_text is not None
    length = recipe.training_text.length
    stages = [
        Stage(whole(tokens, length), stage.survivors)
        for tokens, stage in zip(recipe.training_tokens, settings.stages, strict=True)
    ]
    selection = TrainedSelection(space, pool, settings.candidates, stages, settings.sequences)
    if tokens is not None and tokens <= selection.cost():
        raise SecateurError(
            f"effort: {tokens:,} tokens, of which training {settings.candidates} candidates takes {selection.cost():,} "
            "(a trained token counts as three); raise 'effort', or lower training.candidates or training.stages"
        )
    return selection


def _front_steps(
    recipe: Recipe,
    settings: EvolutionSettings | SamplerSettings,
    space: Space,
    pool: Pool,
    goal: Goal,
    tokens: int | None,
    initial: Sequence[Genome],
) -> Steps:
    """Evolution or a sampler, after what `initial` runs first: half of the effort for all of that together.

    Raises:
        SecateurError: the effort does not reach for both.
    """
    _check_effort(recipe, settings, goal, pool, tokens)
    first = _first(recipe, settings, space, pool, tokens, goal)
    if settings.encoding == "shares":
        check_clusters(space)
    encoding: Encoding = (Levels if settings.encoding == "levels" else Shares)(space, goal.costs)

    def then(starts: list[Genome]) -> Steps:
        if isinstance(settings, EvolutionSettings):
            population, risk = settings.population, settings.race
            return evolution(settings.name, space, goal, recipe.seed, population, encoding, starts, risk)
        batch = settings.batch or (1 if settings.name == "gp" else 4)
        return sampled(settings.name, space, goal, recipe.seed, settings.population, batch, encoding, starts)

    return warm_front(space, goal, settings.population, initial, first, then)


def _half_way(space: Space, goal: Goal) -> Space:
    """A walk needs somewhere to go: half of the way to the smallest genome, past every size until there."""
    cost = next(iter(goal.costs), None)
    if cost is None or getattr(space.dense_costs, cost) is None:  # not measured yet
        return space
    return limited(space, cost, sum(ends(space, cost)) // 2)


def _check_effort(
    recipe: Recipe, settings: EvolutionSettings | SamplerSettings, goal: Goal, pool: Pool, tokens: int | None
) -> None:
    """Raises SecateurError when a population could not be scored even once."""
    affordable = None if tokens is None else tokens // (goal.sequences * pool.tokens_per_sequence)
    left = _fewest(affordable, recipe.effort.evaluations)
    if left is not None and RUN_FIRST.keys() & set(settings.initial):
        left -= left // 2
    if left is not None and left < settings.population:
        raise SecateurError(
            f"effort: {left} evaluations are left for {settings.name} after its start, fewer than its population of "
            f"{settings.population}; raise 'effort', lower 'population' or 'sequences', or leave knapsack and greedy "
            "out of 'initial'"
        )


def _anchors(settings: Any, space: Space, affordable: int | None, length: int, solutions: int = 1) -> int | None:
    """How many levels of each gene a sweep scores: what is set, or as many as are affordable besides `solutions`.

    Raises:
        SecateurError: not even one level of each gene is.
    """
    if affordable is None:
        return cast(int | None, settings.anchors)
    wanted = settings.anchors or max(1, (affordable - 1 - solutions) // len(space.genes))
    singles = 1 + solutions + sum(min(wanted, len(gene.levels) - 1) for gene in space.genes)
    if singles > affordable:
        raise SecateurError(
            f"effort: {settings.name} needs {singles} evaluations for its sweep of single changes, "
            f"{singles * settings.sequences * length:,} tokens at {settings.sequences} sequences each; raise 'effort', "
            "or lower 'sequences' or 'anchors'"
        )
    return min(wanted, max(len(gene.levels) for gene in space.genes))


def _check_initial(names: Sequence[str], space: Space) -> None:
    """Raises SecateurError for a rule whose kind of gene the space does not have."""
    for name in filter(RULES.__contains__, names):
        if reason := unfit(name, space):
            raise SecateurError(f"strategy.initial: {reason}")

"""Our own strategy, its options and targets, from its settings."""

import math
from collections.abc import Sequence
from dataclasses import replace

from ..fitness.slopes import has_slopes
from ..operators.sampling import ends, limited
from ..search.archive import Goal
from ..search.strategies.surrogate import PATH, Options, surrogate, surrogate_front
from ..search.strategy import Pool, Steps
from ..space.budget import parse_limit
from ..space.errors import SecateurError
from ..space.genome import Genome
from ..space.space import Space
from .asked.recipe import Recipe
from .asked.settings import is_plan_file
from .asked.strategy_settings import GOOD_RULES, SurrogateSettings

BEGINNING = 0.6
"""Of the effort, what sweep and path may take at most."""


def surrogate_steps(
    recipe: Recipe,
    settings: SurrogateSettings,
    space: Space,
    pool: Pool,
    tokens: int | None,
    goal: Goal | None,
    initial: Sequence[Genome],
) -> Steps:
    """Our own strategy for one budget, or for a front where there is a goal; `tokens` and `initial` as `make_steps`.

    Raises:
        SecateurError: it cannot run on this space, these objectives or these tokens.
    """
    if goal is None:
        options = _options(recipe, settings, space, pool, tokens, 1)
        options = replace(options, slopes=settings.slopes and has_slopes(space, recipe.scores[0]))
        return surrogate(space, pool, recipe.seed, [space], options, initial)
    if any(name not in ("uniform", GOOD_RULES) and not is_plan_file(name) for name in settings.initial):
        raise SecateurError("strategy.initial: a front by surrogate starts from its path, 'uniform' and plan files")
    limits = _limits(settings, space, goal)
    options = _options(recipe, settings, space, pool, tokens, len(limits))
    return surrogate_front(space, goal, pool, recipe.seed, limits, options, initial)


def _options(
    recipe: Recipe, settings: SurrogateSettings, space: Space, pool: Pool, tokens: int | None, targets: int
) -> Options:
    """The options of our own strategy, with sweep and path on as much text as leaves something to search with.

    Raises:
        SecateurError: the effort does not reach for a sweep and a path.
    """
    names = ("lazy", "batch", "risk", "mutated", "tolerance")
    options = Options(**{name: getattr(settings, name) for name in names})
    levels = max(len(gene.levels) for gene in space.genes)
    anchors = min(settings.anchors or levels, levels)
    singles = 1 + sum(min(anchors, len(gene.levels) - 1) for gene in space.genes)
    last = min(settings.sequences, pool.sequences)
    # What every target's first answer takes on all its text comes off before.
    kept = last * max(1, targets)
    sequences = None if tokens is None else tokens // pool.tokens_per_sequence
    for first in sorted({min(settings.first, last), 1}, reverse=True):
        left = [] if sequences is None else [BEGINNING * (sequences - kept) / first]
        left += [] if recipe.effort.evaluations is None else [BEGINNING * recipe.effort.evaluations]
        room = int(min(left)) - singles if left else None
        if room is None or room > settings.lazy:
            wanted = settings.path or PATH * len(space.genes)
            path = wanted if room is None else min(wanted, room)
            return replace(options, sequences=last, first=first, anchors=anchors, path=path)
    needed = math.ceil((singles + settings.lazy + 1) / BEGINNING)
    raise SecateurError(
        f"effort: surrogate needs {needed} evaluations and {(needed + kept) * pool.tokens_per_sequence:,} tokens for "
        "its sweep of single changes, a path, and answers to compare; raise 'effort', or lower 'anchors' or 'sequences'"
    )


def _limits(settings: SurrogateSettings, space: Space, goal: Goal) -> list[tuple[str, int]]:
    """The (cost, limit) of each target of a search for a front.

    Raises:
        SecateurError: sizes that cannot be read or kept, or that could be of several costs; nothing but costs and one
            score to minimise.
    """
    if len(goal.objectives) != len(goal.costs) + 1 or not goal.costs:
        raise SecateurError("objectives: surrogate searches for a front of one score and costs, such as [kl, macs]")
    known = [cost for cost in goal.costs if getattr(space.dense_costs, cost) is not None]
    if isinstance(settings.sizes, int):
        limits = []
        for cost in known:
            least, most = ends(space, cost)
            steps = 2 * settings.sizes
            limits += [(cost, most - (most - least) * number // steps) for number in range(1, settings.sizes + 1)]
        return list(dict.fromkeys(limits))
    if len(goal.costs) > 1:
        raise SecateurError("strategy.sizes: several costs are objectives; write how many sizes of each, such as 8")
    limits = []
    for raw in settings.sizes:
        limit = parse_limit(goal.costs[0], raw, space.dense_costs, "strategy.sizes")
        if limit is not None:
            limited(space, goal.costs[0], limit).check_budgets()
            limits.append((goal.costs[0], limit))
    return list(dict.fromkeys(limits))

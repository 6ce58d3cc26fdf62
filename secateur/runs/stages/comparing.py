"""What a found plan is compared with: rules, searches, and plans of other tools."""

import time
from typing import Any

from ...search.archive import Goal
from ...search.loop import Allowance
from ...search.strategy import Batch
from ...space.errors import DeviceError, SecateurError, StorageError
from ..asked.settings import SEARCH_BASELINES
from ..asked.strategy_settings import GreedySettings, KnapsackSettings, MultiprunerSettings, RandomSettings
from ..record.journal import FOUND, MEMBER, Choice
from ..strategies import make_steps
from .searching import Execution, search_as
from .starts import line, peer, rule
from .trained import trained_tokens

FIDELITY = 2
"""Sequences on which searches that serve as baselines score, where the recipe's strategy does not say."""


def baseline(execution: Execution, name: str) -> None:
    """One baseline at the same budgets; what cannot keep them is noted with the reason."""
    journal = execution.folder.journal
    if journal.fact(f"skipped {name}") is not None or name == execution.recipe.strategy.name:
        return
    try:
        if name in SEARCH_BASELINES:
            _search_baseline(execution, name)
        elif execution.goal is not None:
            _baseline_line(execution, execution.goal, name)
        elif name not in journal.choices():
            execution.watcher.phase(f"baseline {name}", None)
            started = time.perf_counter()
            genome = rule(name, execution.space, execution.bench, execution.recipe.seed)
            journal.choose(Choice(name, genome, 0, 0, time.perf_counter() - started))
    except (StorageError, DeviceError):
        raise
    except SecateurError as error:
        journal.settle(f"skipped {name}", str(error), f"baseline {name}")
        execution.watcher.say(f"baseline {name} does not apply: {error}")


def compare_file(execution: Execution, title: str, path: str) -> None:
    """A baseline that is the plan in a file; where it turns out to be over a measured budget, the reason is noted."""
    journal = execution.folder.journal
    if title in journal.choices() or journal.fact(f"skipped {title}") is not None:
        return
    try:
        journal.choose(Choice(title, peer(path, execution.space, journal), 0, 0, 0.0))
    except (StorageError, DeviceError):
        raise
    except SecateurError as error:
        journal.settle(f"skipped {title}", str(error), f"baseline {title}")
        execution.watcher.say(str(error))


def _baseline_line(execution: Execution, goal: Goal, name: str) -> None:
    """A rule in several sizes, over the range of the front's members."""
    recipe, space, journal = execution.recipe, execution.space, execution.folder.journal
    execution.watcher.phase(f"baseline {name}", None)
    members = [choice.genome for title, choice in journal.choices().items() if title.startswith(MEMBER)]
    least = min((getattr(space.costs(genome), cost) for genome in members for cost in goal.costs[:1]), default=None)
    genomes = line(name, space, execution.bench, recipe.seed, goal, recipe.front.points, least)
    execution.memo(Batch(tuple(genomes), range(goal.sequences)))
    for number, genome in enumerate(genomes, start=1):
        journal.choose(Choice(f"{name}-{number}", genome, 0, 0, 0.0))


def _search_baseline(execution: Execution, name: str) -> None:
    """Greedy, knapsack or random search with no more tokens than the search had."""
    recipe, space, pool = execution.recipe, execution.space, execution.pool
    found = execution.folder.journal.choices()[FOUND]
    # What a search spent on training is no measure for one that does without.
    tokens = found.tokens - trained_tokens(execution.folder.journal)
    settings: Any = getattr(recipe.strategy, "warm", None) or recipe.strategy
    if settings.name != name:
        # The fidelity and levels of the recipe's own sweep, where it has one, so that evaluations are shared.
        sequences, anchors = getattr(settings, "sequences", FIDELITY), getattr(settings, "anchors", None)
        if name in ("greedy", "knapsack"):
            sequences = min(sequences, getattr(settings, "first", sequences))
        if execution.goal is not None:
            sequences = execution.goal.sequences
        if name == "random":
            settings = RandomSettings(name="random", sequences=sequences)
        elif name == "knapsack":
            settings = KnapsackSettings(name="knapsack", sequences=sequences, anchors=anchors)
        elif name == "multipruner":
            settings = MultiprunerSettings(name="multipruner", sequences=sequences)
        else:
            settings = GreedySettings(name="greedy", sequences=sequences, anchors=anchors)
    steps = make_steps(recipe, settings, space, pool, tokens)
    evaluations = found.evaluations if execution.goal is not None else None
    search_as(execution, name, f"baseline {name}", steps, Allowance(tokens, evaluations))

"""What a found plan is compared with: rules, searches, and plans of other tools."""

import time

from ...operators.sampling import ends, limited
from ...search.archive import Goal
from ...search.limited import Limited
from ...search.loop import Allowance
from ...search.steps import Batch
from ...search.strategies.table import STRATEGIES, load
from ...search.strategy import Swept
from ...space.errors import DeviceError, SecateurError, StorageError
from ...space.genome import Genome
from ..problem import problem_of, validated_selection
from ..record.facts import SKIPPED, WHOLE
from ..record.journal import FOUND, MEMBER, Choice
from .searching import Execution, search_as
from .starts import by_rule, line, peer
from .trained import trained_tokens

HALVED = 256
"""Of all that can go, the part that a rule's size is not looked at more closely than."""
FIDELITY = 2
"""Sequences on which searches that serve as baselines score, where the recipe's strategy does not say."""


def baseline(execution: Execution, name: str) -> None:
    """One baseline at the same budgets; what cannot keep them is noted with the reason."""
    journal = execution.folder.journal
    if name in journal.choices() or journal.of(SKIPPED, name) is not None or name == execution.recipe.strategy.name:
        return
    try:
        if name in STRATEGIES:
            _search_baseline(execution, name)
        elif execution.goal is not None and not execution.goal.smallest:
            _baseline_line(execution, execution.goal, name)
        else:
            execution.watcher.phase(f"baseline {name}", None)
            started = time.perf_counter()
            genome = _by_rule(execution, name)
            journal.choose(Choice(name, genome, 0, 0, time.perf_counter() - started))
    except (StorageError, DeviceError):
        raise
    except SecateurError as error:
        journal.note(SKIPPED, str(error), name)
        execution.watcher.say(f"baseline {name} does not apply: {error}")


def _by_rule(execution: Execution, name: str) -> Genome:
    """A rule's genome on the budgets; where the smallest plan is asked for, its smallest that keeps the scores on all
    of the calibration text, found by halving.

    Raises:
        SecateurError: it keeps no budgets.
    """
    space, bench, seed, goal = execution.space, execution.bench, execution.recipe.seed, execution.goal
    if goal is None:
        return by_rule(name, space, bench, seed)
    judged = Limited(execution.memo, space.dense, execution.recipe.limits)
    [cost] = goal.costs
    low, high = ends(space, cost)
    found, reason = None, SecateurError(f"{name}: none of its sizes keeps the budgets")
    fine = max(1, (high - low) // HALVED)
    while high - low + 1 >= fine:
        middle = (low + high) // 2
        try:
            genome = by_rule(name, limited(space, cost, middle), bench, seed)
            [told] = judged(Batch((genome,), range(execution.pool.sequences)))
        except (StorageError, DeviceError):
            raise
        except SecateurError as error:
            low, reason = middle + 1, error
            continue
        if told.status != "failed" and told.keeps:
            found, high = genome, min(middle, getattr(space.costs(genome), cost)) - 1
        else:
            low = middle + 1
    if found is None:
        raise reason
    return found


def compare_file(execution: Execution, title: str, path: str) -> None:
    """A baseline that is the plan in a file; where it turns out to be over a measured budget, the reason is noted."""
    journal = execution.folder.journal
    if title in journal.choices() or journal.of(SKIPPED, title) is not None:
        return
    try:
        journal.choose(Choice(title, peer(path, execution.space, journal), 0, 0, 0.0))
    except (StorageError, DeviceError):
        raise
    except SecateurError as error:
        journal.note(SKIPPED, str(error), title)
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
    """Another strategy with no more tokens than the search had."""
    recipe, goal = execution.recipe, execution.goal
    found = execution.folder.journal.choices()[FOUND]
    # What a search spent on training is no measure for one that does without.
    tokens = found.tokens - trained_tokens(execution.folder.journal)
    # The fidelity and levels of the recipe's own sweep, where it has one, so that evaluations are shared.
    own = recipe.strategy.warming() or recipe.strategy
    strategy = own
    if own.name != name:
        compared, sweep = own.compared() or FIDELITY, own.swept() or Swept(own.compared() or FIDELITY, None)
        if goal is not None:
            compared, sweep = goal.sequences, sweep._replace(sequences=goal.sequences)
        strategy = load(name).beside(name, compared, sweep)
    selection = validated_selection(recipe, execution.space, tokens)
    left = tokens - selection.cost() if selection is not None else tokens
    allowed = Allowance(left, recipe.effort.evaluations)
    problem = problem_of(recipe, execution.space, allowed, whole=execution.folder.journal.of(WHOLE) != 0)
    strategy.check(problem)
    steps, evaluations = strategy.steps(problem), found.evaluations if goal is not None else None
    if selection is not None:
        steps = selection.steps(steps, allowed)
    search_as(execution, name, f"baseline {name}", steps, Allowance(tokens, evaluations))

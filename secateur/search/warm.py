"""Where a search starts: rules, plan files, and other strategies that run first, with a part of what it may spend."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..operators.rules.table import RULES
from ..operators.sampling import ends, limited
from ..space.errors import SecateurError, suggest
from ..space.evaluation import Evaluation
from ..space.front import thinned
from ..space.genome import Genome
from ..space.space import Space
from .archive import Archive, Best, Goal
from .loop import Allowance, Spending
from .problem import Problem
from .steps import Batch, Pool, Steps, noted
from .strategies.table import STRATEGIES, load
from .strategy import Strategy

GOOD_RULES = "rules"
"""In `initial`: all rules that are often good, as far as they apply to the genes and keep the budgets."""
PLAN_FILES = (".json", ".txt", ".yaml", ".yml", ".csv", ".npy")


def is_plan_file(name: str) -> bool:
    """Whether a name among rules and baselines is that of a file."""
    return Path(name).suffix in PLAN_FILES


def runs_first() -> list[str]:
    """The strategies that `initial` may name, in the order in which they run."""
    return sorted((name for name, entry in STRATEGIES.items() if entry.first), key=lambda name: STRATEGIES[name].first)


def check_initial(names: Sequence[str], warm: Strategy | None = None, known: Sequence[str] = ()) -> None:
    """Raises ValueError for what is neither known nor a plan file, and for settings in `warm` that nothing uses."""
    for name in names:
        if name not in known and not is_plan_file(name):
            raise ValueError(f"initial: '{name}' is no plan file; {suggest(name, known)}")
    if warm is not None and warm.name not in runs_first():
        raise ValueError(f"'warm' has settings for {warm.name}; what runs first is one of {', '.join(runs_first())}")
    if warm is not None and warm.name not in names:
        raise ValueError(f"'warm' has settings for {warm.name}, which 'initial' does not name")


def check_front_initial(names: Sequence[str], warm: Strategy | None) -> None:
    """Raises ValueError for what a search for a front cannot start from."""
    check_initial(names, warm, ("dense", "uniform", *runs_first()))


def check_population(
    problem: Problem, name: str, population: int, sequences: int, initial: Sequence[str], warm: Strategy | None
) -> None:
    """Checks that strategy `name` can score a population on so many sequences, after what `initial` has run first.

    Raises:
        SecateurError: the effort does not reach for both, or what runs first cannot run.
    """
    left = problem.affordable(sequences)
    if left is not None and any(one in initial for one in runs_first()):
        left -= left // 2
    if left is not None and left < population:
        raise SecateurError(
            f"effort: {left} evaluations are left for {name} after its start, fewer than its population of "
            f"{population}; raise 'effort', lower 'population' or 'sequences', or leave {' and '.join(runs_first())} "
            "out of 'initial'"
        )
    first(problem, name, initial, warm)


def check_rules(names: Sequence[str], space: Space) -> None:
    """Raises SecateurError for a rule whose kind of gene the space does not have."""
    for name in filter(RULES.__contains__, names):
        if reason := RULES[name].unfit(space):
            raise SecateurError(f"strategy.initial: '{name}' {reason}")


def first(problem: Problem, name: str, initial: Sequence[str], warm: Strategy | None) -> list[Callable[[], Steps]]:
    """The strategies that `initial` has strategy `name` run first, with half of the effort for all of them together.

    Raises:
        SecateurError: one of them cannot run on that.
    """
    names = [one for one in runs_first() if one in initial]
    allowance, each = problem.allowance, 2 * max(1, len(names))
    part = Allowance(
        tokens=allowance.tokens and max(1, allowance.tokens // each),
        evaluations=allowance.evaluations and max(1, allowance.evaluations // each),
    )
    found: list[Callable[[], Steps]] = []
    for one in names:
        chosen = warm if warm is not None and warm.name == one else load(one).model_validate({"name": one})
        own = replace(problem, allowance=part, starts=())
        if problem.goal is not None:
            # Whatever is said, on the sequences of the search, so that its evaluations are part of the front.
            chosen = chosen.model_copy(update={"sequences": problem.goal.sequences})
            own = own if STRATEGIES[one].fronts else replace(own, space=half_way(own.space, problem.goal))
        try:
            chosen.check(own)
        except SecateurError as error:
            share = "half" if len(names) == 1 else "a quarter"
            raise SecateurError(f"{error} ('initial' runs {one} before {name}, with {share} of the effort)") from None
        found.append(partial(chosen.steps, own))
    return found


def half_way(space: Space, goal: Goal) -> Space:
    """A walk needs somewhere to go: half of the way to the smallest genome, past every size until there."""
    cost = next(iter(goal.costs), None)
    if cost is None or getattr(space.dense_costs, cost) is None:  # not measured yet
        return space
    return limited(space, cost, sum(ends(space, cost)) // 2)


def warm_start(pool: Pool, first: Sequence[Callable[[], Steps]], then: Callable[[list[Genome], int], Steps]) -> Steps:
    """Runs each strategy of `first`, then `then` with their answers and the tokens that they have taken."""
    spending = Spending(pool.tokens_per_sequence)
    answers = []
    for make in first:
        answer = yield from noted(make(), lambda batch, told: spending.add(batch))
        if answer is not None:
            answers.append(answer)
    return (yield from then(answers, spending.tokens))


def score_first(best: Best, space: Space, genomes: Sequence[Genome]) -> Generator[Batch, list[Evaluation], None]:
    """Scores what a search for one plan starts from, whatever becomes of it in the encoding of the search."""
    starts = tuple(genome for genome in dict.fromkeys(map(space.canonical, genomes)) if space.feasible(genome))
    if starts:
        best.add((yield Batch(starts, range(best.sequences))), space.dense)


def warm_front(
    space: Space,
    goal: Goal,
    most: int,
    initial: Sequence[Genome],
    first: Sequence[Callable[[], Steps]],
    then: Callable[[list[Genome]], Steps],
) -> Steps:
    """Scores `initial`, runs each strategy of `first`, then `then` from at most `most` members of the front so far.

    Nothing is lost of the others: whoever keeps an archive of the whole search has them.
    """
    archive = Archive(goal)
    if initial:
        archive.add((yield Batch(tuple(dict.fromkeys(initial)), range(goal.sequences))), space.dense)
    for make in first:
        yield from noted(make(), lambda batch, told: archive.add(told, space.dense))
    front = [genome for genome in archive.front() if genome != space.dense]
    chosen = thinned([archive.members[genome] for genome in front], most) if front else []
    return (yield from then([front[index] for index in chosen]))

"""The composition, second half: carries a run through search, baselines and confirmation on held-out text."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .compose import build_space, load_bench, make_steps
from .fitness.bench import Bench
from .fitness.cache import digest
from .fitness.checkpoint import load_config
from .operators.baselines import (
    angular_window,
    erdos_renyi,
    flap,
    last_blocks,
    owl,
    shortgpt,
    uniform_sparsity,
    uniform_width,
)
from .progress import Watcher
from .runs.folder import RunFolder, check_free
from .runs.journal import CALIBRATION, FOUND, Choice, Turn
from .runs.recipe import Recipe
from .runs.settings import (
    DEPTH_BASELINES,
    SEARCH_BASELINES,
    SPARSITY_BASELINES,
    WIDTH_BASELINES,
    GreedySettings,
    KnapsackSettings,
    MultiprunerSettings,
    RandomSettings,
)
from .search.loop import Allowance, Spending, Step, run
from .search.memo import Memo
from .search.strategy import Batch, Pool, Steps, Strategy
from .space.errors import SecateurError, StorageError
from .space.evaluation import Evaluation
from .space.genome import Genome
from .space.space import Space

HELD_OUT_SCORES = ("kl", "cross_entropy")
NO_LIMIT = 10**18
FIDELITY = 2
"""Sequences on which searches that serve as baselines score, where the recipe's strategy does not say."""


@dataclass
class Execution:
    """A run being carried out: what `execute` keeps in hand."""

    folder: RunFolder
    space: Space
    bench: Bench
    watcher: Watcher
    memo: Memo
    pool: Pool

    @property
    def recipe(self) -> Recipe:
        return self.folder.recipe


def execute(folder: RunFolder, watcher: Watcher | None = None, bench: Bench | None = None) -> None:
    """Carries a run through to its end from wherever it stands: search, baselines, confirmation on held-out text.

    Everything already in the journal is answered from there, so that a killed run goes on where it was;
    `bench` is what `start` has loaded already.

    Raises:
        SecateurError: anything that is the user's to mend; what was finished is kept.
    """
    watcher = watcher or Watcher()
    recipe = folder.recipe
    config = load_config(recipe.model.path, recipe.model.trust_remote_code)
    space = build_space(recipe, config)
    if bench is None:
        watcher.phase("loading the model and its texts", None)
        bench = load_bench(recipe, space)
    journal = folder.journal
    journal.settle("config", config, "the model's configuration")
    journal.settle("model", bench.digest, f"model {recipe.model.path}")
    journal.settle(
        "texts",
        {
            t: {"source": s.name, "digest": s.digest, "sequences": len(s), "length": s.length}
            for t, s in bench.texts.items()
        },
        "the text",
    )
    bench.prepare(space, watcher.blocks)
    if bench.orders:
        orders = bench.kept_orders()
        journal.settle("order", digest(orders), "the importance order of heads and channels")
        if journal.fact("orders") is None:
            journal.settle("orders", orders, "the importance order of heads and channels")
    memo = _memo(folder, space, bench, CALIBRATION, (recipe.score,), watcher)
    execution = Execution(
        folder, space, bench, watcher, memo, Pool(recipe.calibration.sequences, recipe.calibration.length)
    )
    search_found(execution)
    for name in recipe.wanted_baselines():
        baseline(execution, name)
    confirm(execution)


def _memo(folder: RunFolder, space: Space, bench: Bench, title: str, scores: tuple[str, ...], watcher: Watcher) -> Memo:
    provenance = bench.provenance(title, scores)
    view = folder.journal.view(title, provenance, digest(provenance))

    class Watched:
        """The journal, with each new evaluation reported as progress."""

        def evaluations(self) -> Iterator[Evaluation]:
            yield from view.evaluations()

        def append(self, evaluation: Evaluation) -> None:
            view.append(evaluation)
            watcher.advance(evaluation.tokens)

    return Memo(space, bench.evaluator(space, title, scores), Watched())


def _search(execution: Execution, name: str, title: str, steps: Steps, allowance: Allowance) -> None:
    """Runs a strategy as `name` and notes its choice."""
    journal = execution.folder.journal
    spending = Spending(execution.pool.tokens_per_sequence)
    execution.watcher.phase(title, allowance.tokens)
    seconds = 0.0
    known: dict[Genome, float] = {}
    timed: set[tuple[Genome, range]] = set()

    def watch(step: Step) -> None:
        nonlocal seconds
        for evaluation in step.evaluations:
            if (evaluation.genome, evaluation.sequences) not in timed:
                timed.add((evaluation.genome, evaluation.sequences))
                seconds += evaluation.seconds
        known.update((evaluation.genome, evaluation.loss) for evaluation in step.evaluations)
        journal.turn(Turn(name, step.spending.tokens, step.spending.evaluations, step.incumbent))
        best = known.get(step.incumbent) if step.incumbent is not None else None
        execution.watcher.at(step.spending.tokens, best)

    incumbent = run(Strategy(steps), execution.memo, spending, allowance, watch)
    if incumbent is None:
        raise SecateurError(
            f"{title}: ended after {spending.tokens:,} tokens without a genome that keeps the budgets; raise 'effort'"
        )
    journal.choose(Choice(name, incumbent, spending.tokens, spending.evaluations, seconds))


def search_found(execution: Execution) -> None:
    """The search that the recipe asks for."""
    recipe, journal = execution.recipe, execution.folder.journal
    tokens = recipe.effort.tokens
    if recipe.effort.minutes is not None:
        if journal.fact("tokens") is None:
            measured = int(execution.bench.tokens_per_second() * 60 * recipe.effort.minutes)
            journal.settle("tokens", min(measured, tokens or measured), "the tokens for the given minutes")
        tokens = journal.fact("tokens")
    allowance = Allowance(tokens, recipe.effort.evaluations)
    wanted = getattr(recipe.strategy, "initial", ())
    initial = [
        _rule(execution, name) for name in wanted if name in (*DEPTH_BASELINES, *WIDTH_BASELINES, *SPARSITY_BASELINES)
    ]
    steps = make_steps(recipe, recipe.strategy, execution.space, execution.pool, tokens, initial)
    _search(execution, FOUND, f"searching with {recipe.strategy.name}", steps, allowance)


def baseline(execution: Execution, name: str) -> None:
    """One baseline at the same budgets; what cannot keep them is noted with the reason."""
    journal = execution.folder.journal
    if journal.fact(f"skipped {name}") is not None or name == execution.recipe.strategy.name:
        return
    try:
        if name in SEARCH_BASELINES:
            _search_baseline(execution, name)
        elif name not in journal.choices():
            execution.watcher.phase(f"baseline {name}", None)
            started = time.perf_counter()
            genome = _rule(execution, name)
            journal.choose(Choice(name, genome, 0, 0, time.perf_counter() - started))
    except StorageError:
        raise
    except SecateurError as error:
        journal.settle(f"skipped {name}", str(error), f"baseline {name}")
        execution.watcher.say(f"baseline {name} does not apply: {error}")


def _search_baseline(execution: Execution, name: str) -> None:
    """Greedy, knapsack or random search with no more tokens than the search had."""
    recipe, space, pool = execution.recipe, execution.space, execution.pool
    tokens = execution.folder.journal.choices()[FOUND].tokens
    settings: Any = getattr(recipe.strategy, "warm", None) or recipe.strategy
    if settings.name != name:
        # The fidelity and levels of the recipe's own sweep, where it has one, so that evaluations are shared.
        sequences, anchors = getattr(settings, "sequences", FIDELITY), getattr(settings, "anchors", None)
        if name == "random":
            settings = RandomSettings(name="random", sequences=sequences)
        elif name == "knapsack":
            settings = KnapsackSettings(name="knapsack", sequences=sequences, anchors=anchors)
        elif name == "multipruner":
            settings = MultiprunerSettings(name="multipruner", sequences=sequences)
        else:
            settings = GreedySettings(name="greedy", sequences=sequences, anchors=anchors)
    steps = make_steps(recipe, settings, space, pool, tokens)
    _search(execution, name, f"baseline {name}", steps, Allowance(tokens=tokens))


def _rule(execution: Execution, name: str) -> Genome:
    space, bench = execution.space, execution.bench
    rng = np.random.default_rng(execution.recipe.seed)
    sequences = min(8, execution.pool.sequences)
    match name:
        case "uniform":
            return uniform_sparsity(space)
        case "er":
            return erdos_renyi(space, rng)
        case "owl":
            return owl(space, bench.importance(sequences, outliers=True).outliers, rng)
        case "last-k":
            return last_blocks(space)
        case "uniform-width":
            return uniform_width(space)
        case "flap":
            return flap(space, bench.fluctuations(sequences))
        case "shortgpt":
            return shortgpt(space, bench.importance(sequences, outliers=False).influence)
    return angular_window(space, bench.importance(sequences, outliers=False).angular)


def confirm(execution: Execution) -> None:
    """Scores every choice, and the dense model, on held-out text that no search saw."""
    genomes = {choice.genome: None for choice in execution.folder.journal.choices().values()}
    batch = (execution.space.dense, *genomes)
    for text in execution.recipe.held_out:
        memo = _memo(execution.folder, execution.space, execution.bench, text.title, HELD_OUT_SCORES, execution.watcher)
        total = len(set(batch)) * text.sequences * text.length
        execution.watcher.phase(f"confirming on held-out {text.title}", total)
        memo(Batch(tuple(dict.fromkeys(batch)), range(text.sequences)))


def start(recipe: Recipe, path: Path) -> tuple[RunFolder, Bench]:
    """Begins a run in `path`: checks all that can go wrong before any long work, and only then makes the folder.

    Raises:
        SecateurError: recipe, model, texts and budgets do not fit together, or `path` is taken.
    """
    check_free(path)
    space = build_space(recipe)
    pool = Pool(recipe.calibration.sequences, recipe.calibration.length)
    make_steps(recipe, recipe.strategy, space, pool, recipe.effort.tokens or NO_LIMIT)
    bench = load_bench(recipe, space)
    return RunFolder.create(path, recipe), bench

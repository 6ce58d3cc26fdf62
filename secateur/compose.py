"""The composition: from a recipe to a finished run; sees space, search, fitness and runs at once."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .fitness.bench import Bench, TextRequest, open_bench
from .fitness.cache import digest
from .fitness.checkpoint import load_config
from .fitness.level_store import needs_text
from .operators.baselines import angular_window, erdos_renyi, last_blocks, owl, shortgpt, uniform_sparsity
from .runs.folder import RunFolder, check_free
from .runs.journal import Choice, Turn
from .runs.recipe import DEPTH_BASELINES, SPARSITY_BASELINES, GreedySettings, KnapsackSettings, Recipe, TextSettings
from .search.evopress import PUBLISHED, Schedule, stage_sequences
from .search.exhaustive import exhaustive
from .search.greedy import greedy
from .search.knapsack import knapsack
from .search.loop import Allowance, Spending, Step, run
from .search.memo import Memo
from .search.random import random_search
from .search.strategy import Batch, Pool, Steps, Strategy
from .search.warm import warm_evopress
from .space.budget import parse_budgets
from .space.build import parse_layers, sparsity_genes, structured_genes
from .space.errors import SecateurError
from .space.evaluation import Evaluation
from .space.families import anatomy
from .space.gene import Gene, Sparsity
from .space.genome import Genome
from .space.space import Space

CALIBRATION = "calibration"
HELD_OUT_SCORES = ("kl", "cross_entropy")
FOUND = "found"
FIDELITY = 2
"""Sequences on which searches that serve as baselines score, where the recipe's strategy does not say."""


class Watcher:
    """Told what a run is doing; this one keeps quiet."""

    def phase(self, title: str, total: int | None) -> None:
        """A new phase of `total` units of work (tokens, blocks); None when that is not known."""

    def advance(self, amount: int) -> None:
        """Work done within the phase."""

    def at(self, completed: int, best: float | None) -> None:
        """Work done so far in the phase, and the best loss."""

    def blocks(self, done: int, total: int) -> None:
        """Blocks prepared, of how many."""

    def say(self, message: str) -> None:
        """A line worth keeping."""


# -- from the recipe


def build_space(recipe: Recipe, config: dict[str, Any] | None = None) -> Space:
    """The space of a recipe; reads the model's configuration and no weights.

    Raises:
        SecateurError: anything about model, genes or budgets that does not fit.
    """
    config = config if config is not None else load_config(recipe.model.path, recipe.model.trust_remote_code)
    shape = anatomy(config, recipe.model.dtype)
    genes: list[Gene] = []
    for settings in recipe.genes:
        layers = parse_layers(settings.layers, len(shape.blocks))
        if settings.kind == "sparsity":
            levels = [Sparsity.parse(level) for level in settings.levels]
            genes += sparsity_genes(shape, levels, layers, settings.per, settings.group)
        else:
            genes += structured_genes(shape, settings.kind, layers, recipe.keep_first_attention)
    space = Space(shape, tuple(genes), context=recipe.context)
    space = space.with_budgets(parse_budgets(recipe.budgets, space.dense_costs))
    needs_text(recipe.pruner)
    space.check_budgets()
    return space


def space_of(folder: RunFolder) -> Space:
    """The space of a run, from what its journal noted of the model; needs no model."""
    return build_space(folder.recipe, folder.journal.fact("config"))


def load_bench(recipe: Recipe, space: Space) -> Bench:
    """Loads what scoring needs; raises SecateurError when a text or the model is not to be had."""
    sparse = any(gene.kind == "sparsity" for gene in space.genes)
    return open_bench(
        recipe.model.path,
        recipe.model.dtype,
        recipe.model.device,
        recipe.model.trust_remote_code,
        _request(recipe.calibration, CALIBRATION),
        [_request(text, text.title) for text in recipe.held_out],
        recipe.seed,
        recipe.pruner if sparse else None,
    )


def _request(text: TextSettings, title: str) -> TextRequest:
    return TextRequest(
        title, text.source, text.field, text.split, text.sequences, text.length, text.windows_per_document
    )


def make_steps(
    recipe: Recipe, settings: Any, space: Space, pool: Pool, tokens: int | None, initial: Sequence[Genome] = ()
) -> Steps:
    """The strategy that `settings` describes: `tokens` is what a schedule is sized from, `initial` where to start."""
    seed = recipe.seed
    match settings.name:
        case "random":
            return random_search(space, pool, seed, settings.sequences)
        case "exhaustive":
            return exhaustive(space, pool, settings.sequences)
        case "knapsack":
            return knapsack(space, pool, settings.sequences, settings.anchors)
        case "greedy":
            return greedy(space, pool, seed, settings.sequences, settings.lazy, settings.anchors, settings.evaluations)
    schedule: Schedule | int | None = tokens
    if settings.schedule in ("published-depth", "published-sparsity"):
        schedule = PUBLISHED[settings.schedule.removeprefix("published-")]
    elif settings.schedule != "auto":
        schedule = Schedule(**settings.schedule.model_dump())
    assert schedule is not None
    if isinstance(schedule, Schedule):
        stage_sequences(schedule, pool)
    warm: list[Callable[[], Steps]] = []
    for name, kind in (("knapsack", KnapsackSettings), ("greedy", GreedySettings)):
        if name in settings.initial:
            chosen = settings.warm if isinstance(settings.warm, kind) else kind.model_validate({"name": name})
            warm.append(lambda chosen=chosen: make_steps(recipe, chosen, space, pool, None))  # type: ignore[misc]
    fresh = settings.minibatches == "fresh"
    return warm_evopress(space, pool, seed, schedule, settings.mutation, fresh, initial, warm)


# -- a run


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
    config = folder.journal.fact("config") or load_config(recipe.model.path, recipe.model.trust_remote_code)
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
    watcher.phase("preparing sparsity levels", None)
    bench.prepare(space, watcher.blocks)
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

    def watch(step: Step) -> None:
        nonlocal seconds
        seconds += sum(evaluation.seconds for evaluation in step.evaluations)
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
    initial = [_rule(execution, name) for name in wanted if name in (*DEPTH_BASELINES, *SPARSITY_BASELINES)]
    steps = make_steps(recipe, recipe.strategy, execution.space, execution.pool, tokens, initial)
    _search(execution, FOUND, f"searching with {recipe.strategy.name}", steps, allowance)


def baseline(execution: Execution, name: str) -> None:
    """One baseline at the same budgets; what cannot keep them is noted with the reason."""
    journal, space, recipe = execution.folder.journal, execution.space, execution.recipe
    if journal.fact(f"skipped {name}") is not None or name == recipe.strategy.name:
        return
    found = journal.choices()[FOUND]
    settings: Any = recipe.strategy
    warm = getattr(settings, "warm", None)
    fidelity = min(getattr(warm or settings, "sequences", FIDELITY), execution.pool.sequences)
    anchors = getattr(warm or settings, "anchors", None)
    if name in ("greedy", "knapsack", "random"):
        if warm is not None and warm.name == name:
            chosen = warm
        elif name == "greedy":
            most = max(1, found.tokens // (fidelity * execution.pool.tokens_per_sequence))
            chosen = GreedySettings(name="greedy", sequences=fidelity, anchors=anchors, evaluations=most)
        elif name == "knapsack":
            chosen = KnapsackSettings(name="knapsack", sequences=fidelity, anchors=anchors)
        else:
            random_steps = random_search(space, execution.pool, recipe.seed, fidelity)
            _search(execution, name, "baseline random search", random_steps, Allowance(tokens=found.tokens))
            return
        _search(
            execution, name, f"baseline {name}", make_steps(recipe, chosen, space, execution.pool, None), Allowance()
        )
        return
    if name in journal.choices():
        return
    execution.watcher.phase(f"baseline {name}", None)
    started = time.perf_counter()
    try:
        genome = _rule(execution, name)
    except SecateurError as error:
        journal.settle(f"skipped {name}", str(error), f"baseline {name}")
        execution.watcher.say(f"baseline {name} does not apply: {error}")
        return
    journal.choose(Choice(name, genome, 0, 0, time.perf_counter() - started))


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
    make_steps(recipe, recipe.strategy, space, pool, recipe.effort.tokens or 1)
    bench = load_bench(recipe, space)
    return RunFolder.create(path, recipe), bench

"""The composition, first half: from a recipe to the space, the model with its texts, and the strategy."""

from collections.abc import Callable, Sequence
from typing import Any

from .fitness.bench import Bench, TextRequest, open_bench
from .fitness.checkpoint import load_config
from .fitness.level_store import needs_text
from .runs.folder import RunFolder
from .runs.recipe import GreedySettings, KnapsackSettings, Recipe, TextSettings
from .search.evopress import PUBLISHED, Schedule, stage_sequences
from .search.exhaustive import exhaustive
from .search.greedy import greedy
from .search.knapsack import knapsack
from .search.random import random_search
from .search.strategy import Pool, Steps
from .search.warm import warm_evopress
from .space.budget import parse_budgets
from .space.build import parse_layers, sparsity_genes, structured_genes
from .space.families import anatomy
from .space.gene import Gene, Sparsity
from .space.genome import Genome
from .space.space import Space

CALIBRATION = "calibration"


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

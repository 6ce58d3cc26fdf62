"""The composition, first half: from a recipe to the space, the model with its texts, and the strategy."""

from collections.abc import Callable, Sequence
from typing import Any, cast

from .fitness.bench import Bench, TextRequest, open_bench
from .fitness.checkpoint import load_config
from .fitness.level_store import needs_text
from .fitness.widths import WidthSettings
from .runs.folder import RunFolder
from .runs.journal import CALIBRATION
from .runs.recipe import Recipe
from .runs.settings import (
    DEPTH_BASELINES,
    SPARSITY_BASELINES,
    WIDTH_BASELINES,
    GreedySettings,
    KnapsackSettings,
    TextSettings,
)
from .search.evopress import PUBLISHED, Mutation, Schedule, stage_sequences
from .search.exhaustive import check_size, exhaustive
from .search.greedy import greedy
from .search.knapsack import knapsack
from .search.multipruner import multipruner
from .search.random import random_search
from .search.strategy import Pool, Steps
from .search.warm import warm_evopress
from .space.budget import parse_budgets
from .space.build import hidden_gene, parse_layers, sparsity_genes, structured_genes
from .space.costs import Additions
from .space.errors import SecateurError
from .space.families import anatomy
from .space.gene import Gene, Sparsity
from .space.genome import Genome
from .space.space import Space

PUBLISHED_NAMES = tuple(f"published-{name}" for name in PUBLISHED)


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
            levels = [Sparsity.parse(level) for level in settings.levels if not isinstance(level, tuple)]
            genes += sparsity_genes(shape, levels, layers, settings.per, settings.group)
        elif settings.kind == "hidden":
            genes.append(hidden_gene(shape, settings.levels, settings.multiple_of, recipe.widths.hidden))
        else:
            first = recipe.keep_first_attention
            genes += structured_genes(shape, settings.kind, layers, first, settings.levels, settings.multiple_of)
    narrows = any(gene.narrows and gene.kind != "hidden" for gene in genes)
    additions = Additions(
        bias=narrows and recipe.widths.repair == "bias",
        projection=recipe.widths.hidden == "pca" and shape.tied and any(gene.kind == "hidden" for gene in genes),
    )
    space = Space(shape, tuple(genes), context=recipe.context, additions=additions)
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
    hidden = any(gene.kind == "hidden" for gene in space.genes)
    widths = None
    if any(gene.narrows for gene in space.genes):
        widths = WidthSettings(recipe.widths.order, recipe.widths.repair, recipe.widths.hidden if hidden else None)
    return open_bench(
        recipe.model.path,
        recipe.model.dtype,
        recipe.model.device,
        recipe.model.trust_remote_code,
        _request(recipe.calibration, CALIBRATION),
        [_request(text, text.title) for text in recipe.held_out],
        recipe.seed,
        recipe.pruner if sparse else None,
        widths,
    )


def _request(text: TextSettings, title: str) -> TextRequest:
    return TextRequest(
        title, text.source, text.field, text.split, text.sequences, text.length, text.windows_per_document
    )


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
    if recipe.effort.evaluations is not None:
        affordable = min(affordable or recipe.effort.evaluations, recipe.effort.evaluations)
    match settings.name:
        case "random":
            return random_search(space, pool, seed, sequences, min(8, affordable or 8))
        case "exhaustive":
            check_size(space)
            return exhaustive(space, pool, sequences)
        case "knapsack":
            return knapsack(space, pool, sequences, _anchors(settings, space, affordable, length))
        case "greedy":
            most = settings.evaluations or affordable
            return greedy(
                space, pool, seed, sequences, settings.lazy, _anchors(settings, space, affordable, length), most
            )
        case "multipruner":
            if not any(gene.drops or gene.narrows for gene in space.genes):
                raise SecateurError(
                    "strategy: multipruner drops and narrows sublayers; the recipe has only sparsity genes"
                )
            return multipruner(space, pool, seed, sequences, settings.evaluations or affordable)
    schedule: Schedule | int | None = tokens
    published = settings.schedule in PUBLISHED_NAMES
    if published:
        schedule = PUBLISHED[settings.schedule.removeprefix("published-")]
    elif settings.schedule != "auto":
        schedule = Schedule(**settings.schedule.model_dump())
    assert schedule is not None
    if isinstance(schedule, Schedule):
        stage_sequences(schedule, pool)
    _check_initial(settings.initial, space)
    warm: list[Callable[[], Steps]] = []
    for name, kind in (("knapsack", KnapsackSettings), ("greedy", GreedySettings)):
        if name in settings.initial:
            chosen = settings.warm if isinstance(settings.warm, kind) else kind.model_validate({"name": name})
            # Half for the start, the rest for evolution.
            half = tokens and tokens // 2 if chosen is not settings.warm else tokens
            warm.append(lambda c=chosen, t=half: make_steps(recipe, c, space, pool, t))  # type: ignore[misc]
            warm[-1]()  # so that what cannot run is refused now
    mutation: Mutation = settings.mutation or ("levels" if published else "costs")
    fresh = (settings.minibatches or ("fresh" if published else "nested")) == "fresh"
    return warm_evopress(space, pool, seed, schedule, mutation, fresh, initial, warm)


def _anchors(settings: Any, space: Space, affordable: int | None, length: int) -> int | None:
    """How many levels of each gene a sweep scores: what is set, or as many as are affordable.

    Raises:
        SecateurError: not even one level of each gene is.
    """
    if affordable is None:
        return cast(int | None, settings.anchors)
    wanted = settings.anchors or max(1, (affordable - 2) // len(space.genes))
    singles = 2 + sum(min(wanted, len(gene.levels) - 1) for gene in space.genes)
    if singles > affordable:
        raise SecateurError(
            f"effort: {settings.name} needs {singles} evaluations for its sweep of single changes, "
            f"{singles * settings.sequences * length:,} tokens at {settings.sequences} sequences each; raise 'effort', "
            "or lower 'sequences' or 'anchors'"
        )
    return min(wanted, max(len(gene.levels) for gene in space.genes))


def _check_initial(names: Sequence[str], space: Space) -> None:
    """Raises SecateurError for a rule whose kind of gene the space does not have."""
    kinds = {gene.kind for gene in space.genes}
    for name in names:
        if name in SPARSITY_BASELINES and "sparsity" not in kinds:
            raise SecateurError(
                f"strategy.initial: '{name}' makes a sparsity profile; the recipe has no sparsity genes"
            )
        if name in DEPTH_BASELINES and not any(gene.drops for gene in space.genes):
            raise SecateurError(f"strategy.initial: '{name}' drops blocks; the recipe has no genes that drop")
        if name in WIDTH_BASELINES and not any(gene.narrows for gene in space.genes):
            raise SecateurError(f"strategy.initial: '{name}' narrows sublayers; the recipe has no widths")

"""From a recipe to the space and the goal; needs no model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ..fitness.model.configuration import has_zeros, load_config
from ..fitness.zeros.level_store import needs_text
from ..plans.plan import Plan
from ..search.archive import Goal
from ..search.loop import Allowance
from ..search.problem import Problem
from ..search.steps import Pool
from ..search.trained import Stage, TrainedSelection, whole
from ..search.validated import Validated
from ..space.base import features_of_states, left_of
from ..space.budget import parse_budgets, parse_limit
from ..space.costs import FILE, Additions, Costs, weights_left
from ..space.errors import SecateurError
from ..space.families.table import FAMILIES, anatomy, saved_dtype
from ..space.gene import Gene, features_of
from ..space.genome import Genome
from ..space.kinds.settings import Wishes
from ..space.kinds.table import KINDS
from ..space.latency import LatencyTable, Peak, Workload, roofline, table_from_json
from ..space.limits import of_costs
from ..space.objective import Objective, parse_objectives
from ..space.question import questions_of
from ..space.scores import HEADLESS_SCORES, SCORES
from ..space.space import Space
from .asked.recipe import Recipe
from .asked.settings import LatencySettings
from .asked.shorthand import AFFORDED
from .base import base_noted, base_of, states_of
from .file_size import layout
from .record import facts
from .record.folder import RunFolder

NONZERO = {"linear_weights", "nonzero_parameters"}
"""Costs that zeros lower."""
COUNTING = 2
"""How a run counts, which its journal notes. 1, where it does not: KV caches of one token, relative budgets on linear
weights cut off and not rounded to whole rows, and zeros that a model has by itself as weights."""


def counting_of(folder: RunFolder) -> int:
    """How a run counts that has begun; else how it will. Raises SecateurError where a newer version has begun it."""
    noted, begun = folder.journal.of(facts.COUNTING), folder.journal.of(facts.CONFIG) is not None
    if noted not in (None, COUNTING):
        raise SecateurError(f"{folder.path}: counts costs in way {noted}, which this secateur does not know")
    return 1 if noted is None and begun else COUNTING


def build_space(
    recipe: Recipe,
    config: dict[str, Any] | None = None,
    table: LatencyTable | None = None,
    counting: int = COUNTING,
    metadata: int | None = None,
    base: Plan | None = None,
) -> Space:
    """The space of a recipe; reads the model's configuration and no weights.

    `table`: the measured latency, once there is one; budgets on it are left out before. `counting`: that of a run.
    `metadata`: bytes of what a file says of the model, where that is known; otherwise its tokenizer is read, where the
    recipe names `file_bytes`. `base`: the plan below, where it is known; otherwise the file is read that the recipe
    names.

    Raises:
        SecateurError: anything about model, genes or budgets that does not fit.
    """
    config = config if config is not None else load_config(recipe.model.path, recipe.model.trust_remote_code)
    saved = saved_dtype(recipe.model.saved_dtype, config)
    shape = anatomy(config, saved)
    if shape.headless:
        _check_headless(recipe)
    target = None
    if recipe.target is not None:
        from ..plans.targets import restricted, target_of  # which takes a while, and few ask for it

        target = target_of(recipe.target)
    if target is not None and target.form.first and not recipe.keep_first_attention:
        raise SecateurError(f"target: {recipe.target} reads sizes off layer 0; leave keep_first_attention as it is")
    multiple, uniform = (target.multiple, target.uniform) if target is not None else (1, False)
    wishes = Wishes(recipe.keep_first_attention, recipe.widths.hidden, multiple, uniform)
    genes: list[Gene] = []
    for settings in recipe.genes:
        genes += KINDS[settings.kind].genes(shape, settings, wishes)
    below = states_of(base_of(recipe, shape, base), shape)
    features = features_of(genes)
    narrows = any(gene.narrows and not gene.kind.everywhere for gene in genes)
    if below is not None:
        done = features_of_states(shape, below)
        genes = list(left_of(shape, genes, below))
        features, narrows = features | done, narrows or "widths" in done
    additions = Additions(
        bias=narrows and recipe.widths.repair == "bias",
        projection=recipe.widths.hidden == "pca" and shape.tied and "stream" in features,
    )
    cached = 1 if counting == 1 else None
    space = Space(shape, tuple(genes), context=recipe.context, additions=additions, cached=cached, base=below)
    if recipe.target is not None:
        left = restricted(space, recipe.target, recipe.model.path, saved, config)
        space = replace(space, genes=left)
    if FILE in (*recipe.objectives, *recipe.budgets, recipe.score):
        space = replace(space, layout=layout(recipe, config, space, metadata))
    if recipe.latency is not None:
        _check_positions(recipe.latency, shape.family, config)
        if not shape.causal and recipe.latency.decode:
            raise SecateurError(f"latency.decode: {shape.family} is an encoder and decodes nothing; set it to 0")
        if recipe.latency.device == "estimate":
            table = estimated(recipe.latency, space)
        if table is not None:
            space = space.with_latency(table)
    rounded = (partial(weights_left, space.anatomy),) if counting > 1 else ()
    space = space.with_budgets(parse_budgets(of_costs(recipe.budgets), space.dense_costs, *rounded))
    _reference(recipe, space)
    _check_objectives(recipe, space)
    needs_text(recipe.pruner)
    try:
        space.check_budgets()
    except SecateurError:
        # Of a model that was pruned before less is left than its genes say; how much is counted when it is loaded.
        broken = {budget.cost for budget in space.budgets if not budget.allows(space.costs(space.smallest))}
        if counting == 1 or not broken <= NONZERO or not has_zeros(recipe.model.path):
            raise
    return space


def space_noted(folder: RunFolder, table: LatencyTable | None = None) -> Space:
    """The space of a run whose journal has noted what it needs of the model and of files."""
    journal = folder.journal
    config, metadata = journal.of(facts.CONFIG), journal.of(facts.METADATA)
    return build_space(folder.recipe, config, table, counting_of(folder), metadata, base_noted(folder))


def _check_headless(recipe: Recipe) -> None:
    """Raises SecateurError where the recipe asks a model without a head for something that takes one."""
    model = recipe.model.path
    if recipe.training is not None:
        raise SecateurError(
            f"training: is by the tokens that a model predicts, and model '{model}' has no head; leave it out"
        )
    if "widths" in recipe.features() and recipe.widths.order == "taylor":
        raise SecateurError(
            f"widths: taylor goes by the loss of the tokens that a model predicts, and model '{model}' has no head; "
            "write order: output-error"
        )
    for name in recipe.scores:
        if name.startswith("lm-eval:") or (name in SCORES and not SCORES[name].headless):
            raise SecateurError(
                f"score: {name} is of the tokens that a model predicts, and model '{model}' has no head; "
                f"write {' or '.join(HEADLESS_SCORES)}"
            )


def _check_positions(settings: LatencySettings, family: str, config: Mapping[str, Any]) -> None:
    """Raises SecateurError for a request that is longer than the model's positions."""
    most = FAMILIES[family].positions(config)
    if most is not None and settings.prefill + settings.decode > most:
        raise SecateurError(
            f"latency: {settings.prefill} tokens in and {settings.decode} out are more than the model's {most} "
            "positions; lower latency.prefill or latency.decode"
        )


def _check_objectives(recipe: Recipe, space: Space) -> None:
    """Raises SecateurError for a cost that no genome of the space changes: there would be no front."""
    dense, least = space.costs(space.dense).to_json(), space.costs(space.smallest).to_json()
    objectives = (Objective(recipe.score),) if recipe.smallest else parse_objectives(recipe.objectives)
    for objective in objectives:
        if objective.name in dense and dense[objective.name] == least[objective.name]:
            changing = [name for name in dense if dense[name] != least[name]]
            raise SecateurError(
                f"{'score' if recipe.smallest else 'objectives'}: {objective.name} is the same for every genome of "
                f"this space; choose from {', '.join(changing)}"
            )


def workload_of(settings: LatencySettings) -> Workload:
    """The request that is timed."""
    return Workload(settings.batch, settings.prefill, settings.decode)


def estimated(settings: LatencySettings, space: Space) -> LatencyTable:
    """The roofline estimate for a device that is not at hand."""
    assert settings.gflops is not None
    assert settings.bandwidth is not None
    peak = Peak(settings.gflops * 1e9, settings.bandwidth * 1e9)
    name = settings.name or f"{settings.gflops:g} GFLOP/s, {settings.bandwidth:g} GB/s"
    return roofline(space.anatomy, space.shapes(), workload_of(settings), peak, name)


def pool_of(recipe: Recipe) -> Pool:
    """The calibration text as searches see it."""
    return Pool(recipe.searched, recipe.calibration.length)


def problem_of(
    recipe: Recipe, space: Space, allowance: Allowance, starts: Sequence[Genome] = (), whole: bool = True
) -> Problem:
    """What the recipe's strategy, or one beside it, is given to search with `allowance`.

    `whole`: the whole model is on its device.

    Raises:
        SecateurError: a reference that cannot be read.
    """
    text = recipe.training_text
    return Problem(
        space,
        pool_of(recipe),
        recipe.seed,
        allowance,
        goal_of(recipe, space),
        tuple(starts),
        questions=questions_of(space, recipe.scores[0], whole),
        limited=len(recipe.limits) > recipe.smallest,
        length=text.length if text is not None else None,
        timed=recipe.effort.minutes is not None,
    )


def check_search(recipe: Recipe, space: Space) -> None:
    """Checks that the search which a recipe asks for can run on its space, text and effort.

    Raises:
        SecateurError: it cannot.
    """
    asked_problem(recipe, space, recipe.effort.tokens)


def asked_problem(
    recipe: Recipe, space: Space, tokens: int | None, starts: Sequence[Genome] = (), whole: bool = True
) -> tuple[Problem, TrainedSelection | Validated | None]:
    """What the recipe's strategy is given, checked, and the selection that follows; `tokens` are for both together.

    `whole`: the whole model is on its device.

    Raises:
        SecateurError: the search cannot run on its space and text, or with what the selection leaves.
    """
    selection = trained_selection(recipe, space, tokens) or validated_selection(recipe, space, tokens)
    left = tokens - selection.cost() if selection is not None and tokens is not None else tokens
    problem = problem_of(recipe, space, Allowance(left, recipe.effort.evaluations), starts, whole)
    recipe.strategy.check(problem)
    return problem, selection


def validated_selection(recipe: Recipe, space: Space, tokens: int | None) -> Validated | None:
    """What chooses among the best of a search on text that is kept from it; None where none is.

    Minutes that turn out to be too few for it go into the search alone.

    Raises:
        SecateurError: `tokens`, what search and choice may spend together, does not even reach for the choice.
    """
    if recipe.validation is None:
        return None
    selection = Validated(space, pool_of(recipe), recipe.validated, recipe.validation.finalists)
    if tokens is not None and recipe.effort.minutes is not None and tokens < AFFORDED * selection.cost():
        return None
    if tokens is not None and tokens <= selection.cost():
        raise SecateurError(
            f"effort: {tokens:,} tokens, of which validating {recipe.validation.finalists} finalists takes "
            f"{selection.cost():,}; raise 'effort', or lower validation.finalists or validation.share"
        )
    return selection


def trained_selection(recipe: Recipe, space: Space, tokens: int | None) -> TrainedSelection | None:
    """What follows a search whose best candidates are trained; None where there is no such thing.

    Raises:
        SecateurError: `tokens`, what search and selection may spend together, does not even reach for the selection.
    """
    settings = recipe.training
    if settings is None or recipe.strategy.trained():
        return None
    assert recipe.training_text is not None
    length, text = recipe.training_text.length, recipe.calibration
    stages = [
        Stage(whole(tokens, length), stage.survivors)
        for tokens, stage in zip(recipe.training_tokens, settings.stages, strict=True)
    ]
    pool = Pool(text.sequences, text.length)
    selection = TrainedSelection(space, pool, settings.candidates, stages, settings.sequences)
    if tokens is not None and tokens <= selection.cost():
        raise SecateurError(
            f"effort: {tokens:,} tokens, of which training {settings.candidates} candidates takes {selection.cost():,} "
            "(a trained token counts as three); raise 'effort', or lower training.candidates or training.stages"
        )
    return selection


def goal_of(recipe: Recipe, space: Space) -> Goal | None:
    """What a search for a front minimises; None where the recipe asks for the plan of the least score.

    The smallest plan that keeps a score is the end of a front whose other end is not looked for.

    Raises:
        SecateurError: a reference that cannot be read.
    """
    if recipe.smallest:
        limit = recipe.limits[0]
        # Further out nothing keeps it; a value relative to the dense model is known when that has been scored.
        reference = () if limit.relative else ((limit.objective.name, limit.most),)
        return Goal((limit.objective, Objective(recipe.score)), recipe.goal_sequences, reference, smallest=True)
    if not recipe.objectives:
        return None
    return Goal(parse_objectives(recipe.objectives), recipe.goal_sequences, _reference(recipe, space))


def _reference(recipe: Recipe, space: Space) -> tuple[tuple[str, float], ...]:
    """The worst values of interest that the recipe names; latencies relative to a table that is not there are left."""
    found = []
    for objective in parse_objectives(recipe.objectives):
        raw = recipe.reference.get(objective.name)
        if raw is None:
            continue
        where = f"reference.{objective.name}"
        if objective.is_cost:
            limit = parse_limit(objective.name, raw, space.dense_costs, where)
            if limit is not None:
                found.append((objective.name, float(limit)))
            continue
        try:
            found.append((objective.name, float(raw)))
        except ValueError:
            raise SecateurError(f"{where}: cannot read '{raw}'; write a number, such as 2.5") from None
    return tuple(found)


def space_of(folder: RunFolder) -> Space:
    """The space of a run, from what its journal noted of the model and its latency; needs no model."""
    table = folder.journal.of(facts.LATENCY)
    known = table_from_json(table) if table is not None else None
    space = space_noted(folder, known)
    counted, zeros = check_genomes(folder, space), folder.journal.of(facts.ZEROS)
    if zeros is None:
        return space
    dense = space.dense_costs
    if space.base is None:
        counted[space.dense] = replace(
            dense,
            nonzero_parameters=dense.nonzero_parameters - zeros["linears"] - zeros["outside"],
            linear_weights=dense.linear_weights - zeros["linears"],
        )
    return replace(space, counted=counted)


def check_genomes(folder: RunFolder, space: Space) -> dict[Genome, Costs]:
    """The costs of all genomes that a journal speaks of.

    Raises:
        SecateurError: one is not in the space of the run's recipe.
    """
    journal = folder.journal
    counted = {evaluation.genome: evaluation.costs for _, evaluation in journal.evaluations()}
    genomes = counted.keys() | {choice.genome for choice in journal.choices().values()}
    if not all(space.contains(genome) for genome in genomes):
        raise SecateurError(f"{folder.path}: its journal has genomes that its recipe's space does not; restore both")
    return counted

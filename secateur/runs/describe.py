"""What a recipe would search, and what it would take, from the model's configuration alone."""

import math
import os
from dataclasses import dataclass

from ..fitness.memory import shown as sized
from ..fitness.model.configuration import quantised_types, source_bytes
from ..fitness.timing.speed import speed_here
from ..plans.formats.gguf import ARCHITECTURES, SMALLEST, quantised_bytes
from ..search.loop import Allowance
from ..space.budget import labelled, shown
from ..space.gene import Gene
from ..space.limits import of_costs
from ..space.space import Space
from ..space.treatments import Sparsity, words
from . import problem
from .asked.baselines import search_baselines
from .asked.recipe import Recipe
from .checks import affordable, check, checked_space, least_effort
from .memory import held
from .report.source import quantised_note

BUSY = 0.75
"""Processes that want a core, for each core, from which on the machine is called busy."""


@dataclass(frozen=True, slots=True)
class Description:
    """What would be searched, ready to be shown."""

    genes: int
    size: int
    context: int
    kinds: tuple[tuple[str, str, str, str], ...]
    costs: tuple[tuple[str, str, str, str, str], ...]
    memory: tuple[tuple[str, str, str, str], ...]
    lines: tuple[str, ...]


def describe(recipe: Recipe) -> Description:
    """Describes what a recipe would search, from the model's configuration and the texts; checks all that `start` does.

    Raises:
        SecateurError: recipe, model, texts, budgets and effort do not fit together; each problem on a line of its own.
    """
    here = speed_here(recipe.model.device, recipe.model.dtype)
    speed = here.operations if here is not None else None
    size = source_bytes(recipe.model.path)
    space = checked_space(recipe, texts=size is not None)
    tokens = affordable(recipe, space, speed)
    check(recipe, space, tokens, elsewhere=here is None, texts=size is not None)
    groups: dict[tuple[str, str], list[str]] = {}
    for gene in space.genes:
        labels = ", ".join(_label(gene, level) for level in range(len(gene.levels)))
        groups.setdefault((gene.kind.name, labels), []).append(gene.site)
    kinds = tuple(
        (kind, str(len(sites)), labels, sites[0] if len(sites) == 1 else f"{sites[0]} … {sites[-1]}")
        for (kind, labels), sites in groups.items()
    )
    estimate = space.latency is not None and space.latency.estimate
    dense, least = space.dense_costs.to_json(), space.costs(space.smallest).to_json()
    limits = {budget.cost: f"<= {shown(budget.cost, budget.limit)}" for budget in space.budgets}
    costs = tuple(
        (
            labelled(name, estimate),
            shown(name, full),
            shown(name, least[name]),
            f"{least[name] / max(1, full):.4f}",
            limits.get(name, ""),
        )
        for name, full in dense.items()
    )
    lines = [f"Target: {recipe.target}; every plan of this space can go there."] if recipe.target else []
    if space.base is not None:
        below = space.costs(space.dense).parameters
        share = below / max(1, space.dense_costs.parameters)
        lines.append(f"On top of {recipe.base}, which keeps {below:,} parameters ({share:.4f} of dense).")
    lines += [
        _about_budgets(recipe, space),
        f"Baselines: {', '.join((*recipe.wanted_baselines(), *recipe.peers.values())) or 'none'}.",
    ]
    lines += [f"Baseline {name} does not apply: {reason}." for name, reason in recipe.idle_baselines().items()]
    features = space.features
    if "widths" in features:
        widths = recipe.widths
        hidden = f", residual width by {widths.hidden}" if "stream" in features else ""
        lines.append(f"Widths: kept by {widths.order}, repair {widths.repair or 'none'}{hidden}.")
    if recipe.latency is not None:
        known = space.latency
        how = f"an estimate for {known.device}" if known is not None else "measured when a search begins"
        lines.append(f"Latency of one request, {problem.workload_of(recipe.latency)}: {how}.")
    if recipe.objectives:
        lines.append(f"Objectives: {', '.join(recipe.objectives)}; the answer is a front.")
    if recipe.validated:
        lines.append(
            f"Calibration: {recipe.searched} sequences for the search, {recipe.validated} to choose its answer on."
        )
    if recipe.calibration.mixture:
        lines.append(f"Calibration mixes {', '.join(part.title for part in recipe.calibration.mixture)}.")
    if recipe.seeds is not None:
        lines.append(
            f"Draws: {len(recipe.draws)} of the texts (seeds {', '.join(map(str, recipe.draws))}), a run each; what is "
            "said here is of one."
        )
    if size is None:
        lines.append("The model's weights are not here: whether the texts suffice is known when it is loaded.")
    else:
        written = space.dense_costs.weight_bytes
        note = f", {written:,} in the dtype that is written" if abs(written - size) > size // 20 else ""
        if written > 1.05 * size:
            note += f"; a plan that keeps more than {size / written:.2f}x of that is larger than what went in"
            note += _smaller(space)
        lines.append(f"Model: {size:,} bytes as it is stored{note}.")
        if "bits" in features and (note := quantised_note(quantised_types(recipe.model.path))):
            lines.append(note)
    lines += _written(space)
    rounded: dict[str, list[int]] = {}
    for gene in space.genes:
        if gene.narrows:
            rounded.setdefault(gene.kind.name, []).extend(gene.counts)
    for kind, counts in sorted(rounded.items()):
        if (unit := math.gcd(*counts)) > 1:
            lines.append(f"Widths of kind {kind} are multiples of {unit}.")
    lines += _about_effort(recipe, space)
    lines += _time(recipe, space, speed, here.device if here is not None else recipe.model.device)
    lines += _timing(recipe, space, speed)
    if here is not None and here.warning:
        lines.append(f"{here.warning}.")
    memory, told = _memory(recipe, space, elsewhere=here is None)
    return Description(len(space.genes), space.size, space.context, kinds, costs, memory, (*lines, *told))


def _smaller(space: Space) -> str:
    """What makes it smaller, where there is something."""
    if space.anatomy.family not in ARCHITECTURES or "stream" in space.features:
        return ""
    dense = space.dense_costs
    small = quantised_bytes(dense.parameters, dense.block_parameters, SMALLEST)
    return f", unless it is quantised: export --to gguf --quantize {SMALLEST} writes the dense model in about {small:,}"


def _memory(recipe: Recipe, space: Space, elsewhere: bool) -> tuple[tuple[tuple[str, str, str, str], ...], list[str]]:
    """What a run will hold, and how the model is placed; `elsewhere`: on a device that is not on this machine."""
    name = recipe.model.device
    if recipe.model.memory is None and elsewhere:
        return (), [f"{name} is not on this machine, so whether the model fits there is not known; set model.memory."]
    parts, placement, peak = held(recipe, space)
    rows = tuple((one.name, _sized(one.device), _sized(one.host), _sized(one.disk)) for one in parts)
    lines = [f"Memory: at most {sized(peak)} at once on {name}, by shapes, besides what Python and its libraries take."]
    if placement.blocks is not None:
        where = "the host's memory" if placement.offload == "cpu" else "the checkpoint's files"
        lines.append(
            f"The model does not fit as a whole: {sized(placement.blocks)} of its blocks are there at once, the others "
            f"wait in {where}, and each comes once for all the candidates of a batch."
        )
    return rows, lines


def _sized(size: int) -> str:
    return sized(size) if size else ""


def _about_budgets(recipe: Recipe, space: Space) -> str:
    if len(space.budgets) < len(of_costs(recipe.budgets)):
        return "Whether budgets on latency can be kept is known once it is measured" + (
            "; the others can." if space.budgets else "."
        )
    scores = f" {' and '.join(map(str, recipe.limits))}: known once it is scored." if recipe.limits else ""
    if recipe.smallest:
        scores += (
            f" The answer is the plan of least {recipe.score} that keeps {'it' if len(recipe.limits) == 1 else 'them'}."
        )
    if not space.budgets:
        return scores.strip() or "No budget: every genome is feasible."
    told = f"Budgets{' on costs' if scores else ''} can be kept.{scores}"
    for budget in space.budgets:
        if budget.cost == "linear_weights" and budget.text.lower().endswith(("x", "%")):
            share = budget.limit / max(1, space.dense_costs.linear_weights)
            told += f" Zeros are whole numbers of each row's weights, so that {budget.text} is {share:.4f}x here."
    return told


def _label(gene: Gene, level: int) -> str:
    """A level in words; of treatments other than zeros without their name, which is the kind's."""
    value = gene.levels[level]
    if isinstance(value, int | Sparsity) and all(isinstance(one, int | Sparsity) for one in gene.levels):
        return str(gene.label(level))
    assert not isinstance(value, int)
    return words(value) if value else "dense"


def _written(space: Space) -> list[str]:
    """How large what comes out will be, where a budget says so."""
    if not space.budgets:
        return []
    dense = space.dense_costs
    if space.features == {"zeros"}:
        return [f"Written: {dense.weight_bytes:,} bytes, as many as dense: zeros save none in a checkpoint."]
    outside, width = dense.parameters - dense.block_parameters, space.anatomy.bytes_per_parameter
    bounds = {
        "weight_bytes": lambda limit: limit,
        "file_bytes": lambda limit: limit,
        "parameters": lambda limit: limit * width,
        "block_parameters": lambda limit: (limit + outside) * width,
    }
    sizes = [bounds[budget.cost](budget.limit) for budget in space.budgets if budget.cost in bounds]
    treated = space.features & {"bits", "treatments"}
    where = " by what stores types as they are, such as gguf; a checkpoint has them in its own dtype" if treated else ""
    return [f"Written: at most {min(*sizes, dense.weight_bytes):,} bytes{where}."] if sizes else []


def _about_effort(recipe: Recipe, space: Space) -> list[str]:
    """What the strategy needs at least."""
    least = least_effort(recipe, space)
    return [f"Effort: {recipe.strategy.name} needs {least:,} tokens at least here."] if least and least > 1 else []


def _timing(recipe: Recipe, space: Space, operations: float | None) -> list[str]:
    """How long the measurement of latencies takes."""
    settings = recipe.latency
    if settings is None or settings.device == "estimate" or operations is None:
        return []
    request = settings.batch * (settings.prefill + settings.decode)
    seconds = 2 * space.dense_costs.macs * request / operations
    rules = len(recipe.wanted_baselines())
    models = recipe.front.members + recipe.front.points * rules if recipe.objectives else 1 + rules
    whole = 2 * models * (settings.repeats + 1) * seconds / 60
    return [
        f"One request takes the dense model {1000 * seconds:,.1f} ms or more, as far as its operations say.",
        f"Timing: at most {settings.seconds:g} s for the table of shapes, then about {whole:.1f} minutes for up to "
        f"{models} whole models, each in turns with the dense one.",
    ]


def _time(recipe: Recipe, space: Space, operations: float | None, device: str) -> list[str]:
    """`operations`: a second, on the device; None where it is not on this machine."""
    tokens = expected_tokens(recipe, space)
    if operations is None:
        shown = f"about {tokens:,} tokens" if tokens is not None else "its length depends on what it finds"
        return [f"Search: {shown}. {device} is not on this machine, so no time can be estimated."]
    speed = operations / (2 * space.dense_costs.macs)
    if tokens is None and recipe.effort.evaluations is not None:  # each on as much as candidates are compared on
        tokens = recipe.effort.evaluations * recipe.goal_sequences * recipe.calibration.length
    if recipe.effort.minutes is not None:
        tokens = min(tokens or int(speed * 60 * recipe.effort.minutes), int(speed * 60 * recipe.effort.minutes))
    if tokens is None:
        return ["Search: its length depends on what it finds; limit it with 'effort'."]
    held_out = sum(text.sequences * text.length for text in recipe.held_out) * (len(recipe.wanted_baselines()) + 2)
    searched = sum(name in recipe.wanted_baselines() and name != recipe.strategy.name for name in search_baselines())
    total = (tokens * (1 + searched) + held_out) / speed / 60
    others = f"; searched baselines: {searched}, with at most as many each" if searched else ""
    return [
        f"Search: about {tokens:,} tokens{others}; confirmation about {held_out:,}.",
        f"Estimated time on {device} of this machine: at most {total:.1f} minutes at {speed:,.0f} dense "
        "tokens per second; what candidates share is computed once, and searches often end sooner. The preparation of "
        "levels and widths comes on top." + _busy(),
    ]


def _busy() -> str:
    """A word where others compute here, which an estimate cannot know to go on or not."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    running = os.getloadavg()[0]
    if running < BUSY * cores:
        return ""
    return f" Others compute here now (a load of {running:.1f} on {cores} cores): alone it would take less."


def expected_tokens(recipe: Recipe, space: Space) -> int | None:
    """About how many tokens the search will forward; None when only running it can tell."""
    if recipe.effort.tokens is not None:
        return recipe.effort.tokens
    allowance = Allowance(None, recipe.effort.evaluations)
    return recipe.strategy.expected(problem.problem_of(recipe, space, allowance))

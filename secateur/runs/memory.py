"""What a recipe's run will hold, and how its model is placed so that it fits."""

from collections.abc import Iterator

from ..fitness.bits.planes import packed_bytes, seen_bytes
from ..fitness.bits.rows import GPTQ, LOOKING
from ..fitness.free import free
from ..fitness.memory import Part, Placement, Work, shown
from ..fitness.model.device import CPU, find_device
from ..fitness.model.dtypes import DTYPES
from ..fitness.treatments import wanted_of
from ..fitness.zeros.level_store import needs_text
from ..fitness.zeros.nested import NESTED
from ..fitness.zeros.updating import UPDATING
from ..space.budget import parse_bytes
from ..space.errors import SecateurError
from ..space.objective import is_own
from ..space.scores import keeps_hidden
from ..space.space import Space
from .asked.recipe import Recipe


def placement_of(recipe: Recipe, space: Space) -> Placement:
    """How the model is placed on the recipe's device.

    Raises:
        SecateurError: it does not fit; or there is no such device here, and the recipe does not say how much memory it
            has.
    """
    given = "model.memory:" if recipe.model.memory is not None else f"model.device {recipe.model.device}: of its memory"
    host = free(CPU) // sharing(recipe)
    return work_of(recipe, space).placed(_memory(recipe), host, recipe.model.offload, given)


def check_needs(recipe: Recipe, space: Space) -> None:
    """Raises SecateurError where a search needs the whole model on its device, and it does not fit."""
    for where, what, remedy in _whole(recipe, space):
        check_whole(recipe, space, where, what, remedy)


def check_whole(recipe: Recipe, space: Space, where: str, what: str, remedy: str = "give model.memory more") -> None:
    """Raises SecateurError where the model does not fit as a whole, which `what` needs that `where` asks for."""
    work, memory = work_of(recipe, space), _memory(recipe)
    if not work.fits(memory):
        raise SecateurError(
            f"{where}: {what} needs the whole model on its device, and of the {shown(memory)} there it alone takes "
            f"{shown(work.outside + sum(work.blocks))}; {remedy}"
        )


def smallest_placement(recipe: Recipe, space: Space) -> Placement:
    """For whoever only looks at the model now and then: one block at a time, and nothing is kept."""
    work = work_of(recipe, space)
    return Placement(max(work.blocks), "disk", work.least)


def _memory(recipe: Recipe) -> int:
    """Bytes that the device gives, or that of each worker.

    Raises:
        SecateurError: that is not here to be asked.
    """
    if recipe.model.memory is not None:
        return parse_bytes(recipe.model.memory, "model.memory")
    workers = recipe.workers
    try:
        device = find_device(recipe.model.device)
    except SecateurError:
        if workers.backend == "processes":
            raise
        raise SecateurError(
            f"model.memory: the workers' {recipe.model.device} cannot be asked from here; write how much each has"
        ) from None
    return free(device) // sharing(recipe) if device.type == "cpu" else free(device)


def sharing(recipe: Recipe) -> int:
    """Among how many the memory of this machine is divided: workers, as far as they may be here, and the run itself."""
    return 1 if recipe.workers.alone else (recipe.workers.count or 1) + 1


def _whole(recipe: Recipe, space: Space) -> Iterator[tuple[str, str, str]]:
    """Settings that need all blocks at once: where, what, and what would do without."""
    if recipe.training is not None:
        yield "training", "training", "leave it out, or give model.memory more"
    if "widths" in space.features and recipe.widths.order == "taylor":
        yield "widths.order", "'taylor', which passes backwards,", "take another order, such as output-error"
    if recipe.latency is not None and recipe.latency.device != "estimate":
        yield "latency.device", "measuring latency", "take device: estimate, with the device's peaks"
    for name in filter(is_own, recipe.scores):
        yield f"objectives: {name}", "what runs the model by itself", "take one of our own scores, such as kl"


def work_of(recipe: Recipe, space: Space) -> Work:
    """What is to be done, in numbers."""
    features, widths = space.features, recipe.widths
    others = (*recipe.held_out, recipe.prepare, recipe.training_text)
    texts = [recipe.calibration, *(text for text in others if text is not None)]
    prepare = recipe.prepare or recipe.calibration
    zeros, narrower = "zeros" in features, "widths" in features
    rotated = "stream" in features and widths.hidden == "pca"
    levels = {level for some in wanted_of(space).values() for level in some if level.name == "zeros"}
    order_looks, order_pairs = widths.order not in ("magnitude", "taylor"), widths.order in ("output-error", "obs")
    treated = any(any(gene.treatments) for gene in space.genes)
    backward = recipe.training is not None or (treated and not recipe.objectives and recipe.strategy.descends())
    return Work(
        space.anatomy,
        DTYPES[recipe.model.dtype].itemsize,
        tuple((text.sequences, text.length) for text in texts),
        (prepare.sequences, prepare.length),
        dense_hidden=keeps_hidden(space.anatomy, recipe.scores),
        text=(zeros and needs_text(recipe.pruner))
        or (narrower and (order_looks or widths.repair is not None))
        or ("bits" in features and recipe.quantizer in LOOKING and recipe.importance is None),
        rows=zeros and recipe.pruner in NESTED and NESTED[recipe.pruner].group == "row",
        matrix=zeros and recipe.pruner in NESTED and NESTED[recipe.pruner].group == "matrix",
        updates=len(levels) if zeros and recipe.pruner in UPDATING else 0,
        packed=packed_bytes(space) + (seen_bytes(space, recipe.quantizer, rotated) if narrower else 0),
        outer=sum(
            len(levels) * space.anatomy.blocks[place[0]].matrices[place[1]].weights
            for place, levels in wanted_of(space).items()
            if space.anatomy.is_outside(*place)
        ),
        gram=(zeros and recipe.pruner in UPDATING)
        or ("bits" in features and recipe.quantizer == GPTQ)
        or (narrower and (order_pairs or widths.repair not in (None, "bias")))
        or ("stream" in features and zeros),
        widths=_widths(space) if narrower and widths.repair is not None else 0,
        variants=max((len(set(filter(None, gene.treatments))) for gene in space.genes), default=0)
        + (_widths(space) if narrower else 0),
        applied=backward or any(where != "widths.order" for where, _, _ in _whole(recipe, space)),
        backward=backward,
        accelerator=_is_accelerator(recipe.model.device),
    )


def _is_accelerator(name: str) -> bool:
    try:
        return find_device(name).type != "cpu"
    except SecateurError:  # of another machine
        return not name.startswith("cpu")


def _widths(space: Space) -> int:
    """The most widths that a sublayer is repaired at."""
    levels: dict[tuple[int, str], int] = {}
    for gene in space.genes:
        if gene.narrows:
            for block in gene.blocks:
                key = block, gene.kind.name
                levels[key] = len(gene.counts) - 1
    return max(levels.values(), default=0)


def held(recipe: Recipe, space: Space) -> tuple[list[Part], Placement, int]:
    """What a run holds, how the model is placed, and bytes on the device while most is held.

    Raises:
        SecateurError: see `check_needs` and `placement_of`.
    """
    check_needs(recipe, space)
    work, placement = work_of(recipe, space), placement_of(recipe, space)
    return list(work.parts(placement)), placement, work.peak(placement)

"""What the readers have in common: single changes of a dense model, checked, and put together."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..space.anatomy import HIDDEN, Anatomy, Block
from ..space.errors import SecateurError, suggest
from ..space.state import BlockState, dense_state, settled
from ..space.treatments import STEPS, Sparsity, Treatment
from .layers import unit


@dataclass
class Changes:
    """What a file says; everything else is dense.

    Attributes:
        kept: units of a dimension (`Block.dimensions`) that are kept, by (dimension, layer of the dense model); 0 drops
            the sublayer.
        treated: level by (layer, name of the linear inside it).
        hidden: residual width kept.
        removed: layers of which nothing is kept.
    """

    kept: dict[tuple[str, int], int] = field(default_factory=dict)
    treated: dict[tuple[int, str], Treatment] = field(default_factory=dict)
    hidden: int | None = None
    removed: set[int] = field(default_factory=set)


def as_states(anatomy: Anatomy, changes: Changes, where: str) -> tuple[BlockState, ...]:
    """The dense blocks with the changes made.

    Raises:
        SecateurError: a layer, linear or dimension that the model does not have, or more units than it has.
    """
    count = len(anatomy.blocks)
    layers = [*(layer for _, layer in changes.kept), *(layer for layer, _ in changes.treated), *changes.removed]
    outside = next((layer for layer in layers if not 0 <= layer < count), None)
    if outside is not None:
        raise SecateurError(f"{where}: block {outside}, but the model has {count}")
    hidden = anatomy.hidden_size if changes.hidden is None else changes.hidden
    if not 0 < hidden <= anatomy.hidden_size or (hidden < anatomy.hidden_size and not anatomy.hidden_orders):
        raise SecateurError(f"{where}: a residual width of {hidden} does not fit a model of {anatomy.hidden_size}")
    return tuple(_state(block, changes, hidden, f"{where}: block {block.index}") for block in anatomy.blocks)


def _state(block: Block, changes: Changes, hidden: int, where: str) -> BlockState:
    kept = {dimension: number for (dimension, layer), number in changes.kept.items() if layer == block.index}
    for dimension, number in kept.items():
        full = block.dimensions.get(dimension)
        if full is None:
            raise SecateurError(f"{where} has no {dimension}; {suggest(dimension, block.dimensions)}")
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= full:
            raise SecateurError(f"{where} keeps {number} of {full} {unit(dimension)}")
    levels = {name: level for (layer, name), level in changes.treated.items() if layer == block.index}
    linears = {matrix.name: matrix for matrix in block.matrices}
    for name, level in levels.items():
        if name not in linears:
            raise SecateurError(f"{where} has no linear '{name}'; {suggest(name, linears)}")
        if linears[name].inputs % level.multiple:
            raise SecateurError(f"{where}: {name} has {linears[name].inputs} inputs, no whole {level}")
    if block.index in changes.removed:
        kept = dict.fromkeys(block.dimensions, 0)
    return settled(block, dense_state(block).with_kept(**{**kept, HIDDEN: hidden}).with_treated(levels))


def places(anatomy: Anatomy) -> dict[str, tuple[int, str]]:
    """Layer and name inside it of every linear of the blocks, by its full name, in module order."""
    return {
        anatomy.matrix_name(block.index, position): (block.index, linear.name)
        for block in anatomy.blocks
        for position, linear in enumerate(block.linears)
    }


def located(name: str, anatomy: Anatomy, where: str) -> tuple[int, str]:
    """Layer and name inside it of a module by its full name; raises SecateurError when the model has no such linear."""
    prefix = f"{anatomy.blocks_path}."
    layer, _, inside = name.removeprefix(prefix).partition(".")
    if not name.startswith(prefix) or not layer.isdigit() or int(layer) >= len(anatomy.blocks):
        raise SecateurError(
            f"{where}: the model has no '{name}'; its blocks are {prefix}0 to {prefix}{len(anatomy.blocks) - 1}"
        )
    names = [linear.name for linear in anatomy.blocks[int(layer)].linears]
    if inside not in names:
        raise SecateurError(f"{where}: the model has no '{name}'; {suggest(inside, names)}")
    return int(layer), inside


def share(value: float, where: str) -> Sparsity:
    """The level nearest to a share of zeros; raises SecateurError outside [0, 1)."""
    if not 0 <= value < 1:
        raise SecateurError(f"{where}: a share of zeros of {value}; it has to be at least 0 and less than 1")
    return Sparsity(min(STEPS - 1, round(value * STEPS)))


def changes_of(anatomy: Anatomy, states: Sequence[BlockState]) -> Changes:
    """What states change of the dense blocks: the inverse of `as_states`."""
    changes = Changes(hidden=states[0].hidden)
    for block, state in zip(anatomy.blocks, states, strict=True):
        kept = {dimension: number for dimension, number in state.kept.items() if dimension != HIDDEN}
        changes.kept |= {(dimension, block.index): number for dimension, number in kept.items()}
        changes.treated |= {(block.index, name): level for name, level in state.treated.items()}
    return changes

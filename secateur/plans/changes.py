"""What the readers have in common: single changes of a dense model, checked, and put together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..space.anatomy import Anatomy
from ..space.errors import SecateurError, suggest
from ..space.state import BlockState, dense_state
from ..space.treatments import STEPS, Sparsity

Unit = Literal["attention", "queries", "mlp"]


@dataclass
class Changes:
    """What a file says; everything else is dense.

    Attributes:
        kept: KV groups, query heads in each, or channels kept, by (unit, layer of the dense model); 0 is dropped.
        sparsity: level by (layer, name of the linear inside it).
        hidden: residual width kept.
    """

    kept: dict[tuple[Unit, int], int] = field(default_factory=dict)
    sparsity: dict[tuple[int, str], Sparsity] = field(default_factory=dict)
    hidden: int | None = None


def dropped(layers: Iterable[int], units: Iterable[Unit] = ("attention", "mlp")) -> Changes:
    """Changes that drop the units of whole layers."""
    names = tuple(units)
    return Changes({(unit, layer): 0 for layer in layers for unit in names})


def as_states(anatomy: Anatomy, changes: Changes, where: str) -> tuple[BlockState, ...]:
    """The dense blocks with the changes made.

    Raises:
        SecateurError: a layer or linear that the model does not have, or more units than it has.
    """
    count = len(anatomy.blocks)
    layers = [*(layer for _, layer in changes.kept), *(layer for layer, _ in changes.sparsity)]
    outside = next((layer for layer in layers if not 0 <= layer < count), None)
    if outside is not None:
        raise SecateurError(f"{where}: block {outside}, but the model has {count}")
    hidden = anatomy.hidden_size if changes.hidden is None else changes.hidden
    if not 0 < hidden <= anatomy.hidden_size or (hidden < anatomy.hidden_size and not anatomy.hidden_orders):
        raise SecateurError(f"{where}: a residual width of {hidden} does not fit a model of {anatomy.hidden_size}")
    states = []
    for block in anatomy.blocks:
        dense = dense_state(block)
        full: dict[Unit, int] = {"attention": dense.attention, "queries": dense.queries, "mlp": dense.mlp}
        kept = {unit: changes.kept.get((unit, block.index), number) for unit, number in full.items()}
        for unit, number in kept.items():
            if not 0 <= number <= full[unit]:
                raise SecateurError(f"{where}: block {block.index} keeps {number} of {full[unit]} ({unit})")
        attention, mlp = kept["attention"] * bool(kept["queries"]), kept["mlp"]
        names = [linear.name for linear in block.linears]
        own = {name: level for (layer, name), level in changes.sparsity.items() if layer == block.index}
        unknown = next((name for name in own if name not in names), None)
        if unknown is not None:
            raise SecateurError(f"{where}: block {block.index} has no linear '{unknown}'; {suggest(unknown, names)}")
        widths = {linear.name: linear.inputs for linear in block.linears}
        odd = next((name for name, level in own.items() if level.of and widths.get(name, 0) % level.of), None)
        if odd is not None:
            raise SecateurError(f"{where}: block {block.index}: {odd} has {widths[odd]} inputs, no whole {own[odd]}")
        gone = {
            linear.name
            for sublayer, left in zip(block.sublayers, (attention, mlp), strict=True)
            for linear in sublayer.linears
            if not left
        }
        sparsity = tuple(Sparsity() if name in gone else own.get(name, Sparsity()) for name in names)
        states.append(BlockState(attention, kept["queries"] if attention else 0, mlp, hidden, sparsity))
    return tuple(states)


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
        changes.kept["attention", block.index], changes.kept["mlp", block.index] = state.kept
        if state.attention:
            changes.kept["queries", block.index] = state.queries
        levels = zip(block.linears, state.sparsity, strict=True)
        changes.sparsity |= {(block.index, linear.name): level for linear, level in levels if level}
    return changes

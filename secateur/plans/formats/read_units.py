"""Drop lists and levels: EvoPress, BlockPruner, SLEB, AlphaPruning."""

from typing import Any

from numpy.typing import NDArray

from ...space.anatomy import Anatomy
from ...space.errors import SecateurError
from ...space.treatments import STEPS
from ..changes import Changes, Unit, dropped, located, share
from ..features import OTHER_ORDER

DROPPED: dict[str, tuple[Unit, ...]] = {
    "none": (),
    "attn": ("attention",),
    "mlp": ("mlp",),
    "attn+mlp": ("attention", "mlp"),
}
HALF = 0.5 / STEPS
KINDS: dict[str, Unit] = {"mha": "attention", "attn": "attention", "mlp": "mlp"}


def evopress_drops(lines: list[str], anatomy: Anatomy, where: str) -> Changes:
    """A line for each block: none, attn, mlp, attn+mlp."""
    unknown = next((number for number, line in enumerate(lines, 1) if line not in DROPPED), None)
    if unknown is not None:
        raise SecateurError(f"{where}, line {unknown}: '{lines[unknown - 1]}' is none of {', '.join(DROPPED)}")
    if len(lines) != len(anatomy.blocks):
        raise SecateurError(f"{where}: has {len(lines)} lines, the model {len(anatomy.blocks)} blocks")
    return Changes({(unit, index): 0 for index, line in enumerate(lines) for unit in DROPPED[line]})


def named_levels(lines: list[str], where: str) -> dict[str, int]:
    """`name: level` lines in any order.

    Raises:
        SecateurError: a line that is none, or a name that stands twice.
    """
    found: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        name, _, level = (part.strip() for part in line.partition(":"))
        try:
            value = int(level)
        except ValueError:
            raise SecateurError(f"{where}, line {number}: '{line}' is no 'name: level'") from None
        if name in found:
            raise SecateurError(f"{where}, line {number}: '{name}' stands there twice")
        found[name] = value
    return found


def evopress_levels(lines: list[str], numbers: dict[str, Any], anatomy: Anatomy, where: str) -> Changes:
    """Level l is a share of s + l * weights_diff / numel, `s` being the database's sparsity."""
    changes = Changes()
    for name, level in named_levels(lines, where).items():
        layer, inside = located(name, anatomy, where)
        weights = next(linear.weights for linear in anatomy.blocks[layer].linears if linear.name == inside)
        value = float(numbers["sparsity"]) + level * float(numbers["weights_diff"]) / weights
        # A level is a whole number: half a step below nothing is rounding.
        changes.sparsity[layer, inside] = share(max(0.0, value) if value > -HALF else value, f"{where}, {name}")
    return changes


def blockpruner(values: dict[Any, Any], where: str) -> Changes:
    """{"4": [["mha", 10], ["mlp", 12], ...]}; the longest list counts."""
    last = values[max(values, key=int)]
    try:
        return Changes({(KINDS[kind], int(index)): 0 for kind, index in last})
    except (KeyError, TypeError, ValueError) as error:
        raise SecateurError(f'{where}: expected pairs such as ["mha", 10], got {last!r}') from error


def sleb(values: list[Any], where: str) -> Changes:
    """[10, 20]: layers that are removed."""
    if not all(isinstance(one, int) and not isinstance(one, bool) for one in values):
        raise SecateurError(f"{where}: expected a list of layers such as [10, 20]")
    return dropped(values)


def alphapruning(values: NDArray[Any], anatomy: Anatomy, where: str) -> Changes:
    """A share for each linear in module order, as our export writes it: the values of other profiles are no shares."""
    if anatomy.family in OTHER_ORDER:
        raise SecateurError(f"{where}: {anatomy.family} registers its linears in another order than the file's")
    if values.dtype.kind != "f":
        raise SecateurError(f"{where}: has values of the kind {values.dtype}; shares are floating-point numbers")
    names = [(block.index, linear.name) for block in anatomy.blocks for linear in block.linears]
    if values.shape != (len(names),):
        raise SecateurError(f"{where}: has the shape {values.shape}, the model {len(names)} linears")
    return Changes(sparsity={name: share(float(value), where) for name, value in zip(names, values, strict=True)})

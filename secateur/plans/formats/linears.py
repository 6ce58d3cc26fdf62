"""What formats that name linears have in common."""

from collections.abc import Iterator
from pathlib import Path

from ...space.anatomy import Linear
from ...space.both import Both
from ...space.errors import SecateurError
from ...space.treatments import DENSE, Sparsity
from ..features import Subject

OTHER_ORDER = ("phi3",)
"""Families whose linears are registered in another order than that of our anatomy; lists by position go wrong there."""
LLAMA_LIKE = ("llama", "mistral", "qwen2", "qwen3", "smollm3", "granite")
"""Families whose sublayers have separate q, k, v, o, gate, up and down projections."""
SNIPPETS = Path(__file__).with_name("snippets")
"""What stands beside a list in an export and applies it; these files import nothing of ours."""


def snippet(name: str) -> str:
    """The text of a file that stands beside a list and applies it."""
    return (SNIPPETS / f"{name}.py").read_text(encoding="utf8")


def linears(subject: Subject) -> Iterator[tuple[str, Linear, Sparsity]]:
    """Full name, shape and zeros of every linear, in module order: those beside a grid as well; other treatments count
    as dense."""
    for block, state in zip(subject.anatomy.blocks, subject.states, strict=True):
        for linear, level in zip(block.linears, state.levels(block), strict=True):
            part = level.zeros_of if isinstance(level, Both) else level
            zeros = part if isinstance(part, Sparsity) else DENSE
            yield subject.anatomy.block_prefix(block.index) + linear.name, linear, zeros


def check_zeros(subject: Subject) -> str | None:
    """Why there is nothing to do for a tool that makes zeros; None where there is."""
    return None if any(level for *_, level in linears(subject)) else "no linear has zeros"


def check_linears(subject: Subject) -> str | None:
    """Besides that there is something to do: these tools know `nn.Linear` alone."""
    name = next((name for name, linear, _ in linears(subject) if linear.transposed), None)
    return f"{name} is a Conv1D, and it prunes nn.Linear" if name else check_zeros(subject)


def check_order(subject: Subject) -> str | None:
    """Besides that: these tools read shares by the position of a module."""
    if subject.anatomy.family in OTHER_ORDER:
        return f"{subject.anatomy.family} registers its linears in another order, by which it reads shares"
    return check_linears(subject)


def check_llama_like(subject: Subject) -> str | None:
    """Why a format for sublayers as llama's does not fit; None where it does."""
    if subject.anatomy.family in LLAMA_LIKE:
        return None
    return f"{subject.anatomy.family} is laid out differently; {', '.join(LLAMA_LIKE)} are not"


def check_head_size(subject: Subject) -> str | None:
    """Some tools take the size of a head to be the residual width over their number."""
    block = subject.anatomy.blocks[0]
    if block.dense_sizes["query"] == block.hidden:
        return None
    heads, size = block.dense_sizes["heads"], block.segments["query"].unit
    return f"it takes a head to be {block.hidden} / {heads} wide, and here it is {size}"


def check_family(subject: Subject, known: tuple[str, ...]) -> str | None:
    """Why a tool that knows some families does not take this one; None where it does."""
    if subject.anatomy.family in known:
        return None
    return f"it does not know {subject.anatomy.family}; it knows {', '.join(known)}"


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

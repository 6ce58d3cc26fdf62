"""EvoPress's `layer_drop_config.txt`: a line for each layer."""

from ...space.anatomy import Anatomy
from ...space.errors import SecateurError
from ..changes import Changes
from ..features import Subject
from .form import DROPS, TRANSFORMER, Content, Files, Format

DROPPED: dict[str, tuple[str, ...]] = {
    "none": (),
    "attn": ("groups",),
    "mlp": ("channels",),
    "attn+mlp": ("groups", "channels"),
}
"""Dimensions of the sublayers that a word drops."""


def write(subject: Subject) -> Files:
    """A line for each layer of the dense model: none, attn, mlp, attn+mlp."""
    words = {units: word for word, units in DROPPED.items()}
    lines = []
    for state in subject.states:
        gone = tuple(dimension for dimension in DROPPED["attn+mlp"] if not state.kept[dimension])
        lines.append(f"{words[gone]}\n")
    return {"layer_drop_config.txt": "".join(lines)}


def reads(content: Content) -> bool:
    """Text that is nothing else: what is wrong with its lines is told."""
    return content.array is None and content.values is None and content.rows is None and not content.leveled


def read(content: Content, anatomy: Anatomy) -> Changes:
    """A line for each block: none, attn, mlp, attn+mlp."""
    lines, where = content.lines, content.where
    unknown = next((number for number, line in enumerate(lines, 1) if line not in DROPPED), None)
    if unknown is not None:
        raise SecateurError(f"{where}, line {unknown}: '{lines[unknown - 1]}' is not one of: {', '.join(DROPPED)}")
    if len(lines) != len(anatomy.blocks):
        raise SecateurError(f"{where}: has {len(lines)} lines, the model {len(anatomy.blocks)} blocks")
    return Changes({(unit, index): 0 for index, line in enumerate(lines) for unit in DROPPED[line]})


EVOPRESS = Format("evopress", "its layer_drop_config.txt", DROPS, write, reads=reads, read=read, sublayers=TRANSFORMER)

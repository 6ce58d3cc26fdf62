"""BlockPruner's list of removed sublayers."""

import json

from ...space.anatomy import Anatomy
from ...space.errors import SecateurError
from ..changes import Changes
from ..features import Subject
from .form import DROPS, TRANSFORMER, Content, Files, Format

KINDS = {"mha": "groups", "attn": "groups", "mlp": "channels"}
"""Dimensions of the sublayers that it names."""


def write(subject: Subject) -> Files:
    """Pairs of sublayer and layer, under their number (`--del-block-num`)."""
    pairs = []
    for index, state in enumerate(subject.states):
        pairs += [] if state.kept["groups"] else [["mha", index]]
        pairs += [] if state.kept["channels"] else [["mlp", index]]
    return {"blockpruner.json": json.dumps({str(len(pairs)): pairs}) + "\n"}


def reads(content: Content) -> bool:
    """A mapping by numbers."""
    return bool(content.names) and all(name.isdigit() for name in content.names)


def read(content: Content, _: Anatomy) -> Changes:
    """{"4": [["mha", 10], ["mlp", 12], ...]}; the longest list counts."""
    last = content.values[max(content.values, key=int)]
    try:
        return Changes({(KINDS[kind], int(index)): 0 for kind, index in last})
    except (KeyError, TypeError, ValueError) as error:
        raise SecateurError(f'{content.where}: expected pairs such as ["mha", 10], got {last!r}') from error


BLOCKPRUNER = Format(
    "blockpruner", "its list of removed sublayers", DROPS, write, reads=reads, read=read, sublayers=TRANSFORMER
)

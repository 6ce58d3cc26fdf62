"""SLEB's list of removed layers."""

import json

from ...space.anatomy import Anatomy
from ...space.errors import SecateurError
from ..changes import Changes
from ..features import Subject
from .form import Content, Files, Format, of


def write(subject: Subject) -> Files:
    """The argument of `--removal_list`."""
    return {"removal_list.txt": json.dumps(list(subject.removed)) + "\n"}


def reads(content: Content) -> bool:
    """A list that is nothing else."""
    return isinstance(content.values, list)


def read(content: Content, _: Anatomy) -> Changes:
    """[10, 20]: layers that are removed."""
    if not all(isinstance(one, int) and not isinstance(one, bool) for one in content.values):
        raise SecateurError(f"{content.where}: expected a list of layers such as [10, 20]")
    return Changes(removed=set(content.values))


SLEB = Format("sleb", "its list of removed layers", of("layers"), write, reads=reads, read=read)

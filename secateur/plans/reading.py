"""Which tool wrote a file, told by its content, and the states it makes of the blocks."""

import re
from pathlib import Path

from ..space.anatomy import Anatomy
from ..space.errors import SecateurError
from ..space.state import BlockState
from .changes import as_states
from .formats.form import Content, Format, content_of
from .formats.table import FORMATS

OF_CONTENT = (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, RecursionError, OSError, re.error)
"""What a reader may raise for content that is not what its format asks for."""


def read_states(path: Path, anatomy: Anatomy) -> tuple[BlockState, ...]:
    """What a plan file makes of each block.

    Raises:
        SecateurError: the file cannot be read, is of no known format, or is for another model.
    """
    content = content_of(path)
    try:
        form = _reader(content)
        assert form.read is not None
        changes = form.read(content, anatomy)
    except OF_CONTENT as error:
        raise SecateurError(f"{content.where}: is not what its format asks for: {error!r}") from error
    return as_states(anatomy, changes, content.where)


def format_of(path: Path) -> str:
    """The name of the format that a plan file is read as; raises SecateurError as `read_states` does."""
    return _reader(content_of(path)).name


def _reader(content: Content) -> Format:
    """The first format that reads the file."""
    for form in FORMATS.values():
        if form.reads is not None and form.read is not None and form.reads(content):
            return form
    known = ", ".join(name for name, form in FORMATS.items() if form.reads is not None)
    raise SecateurError(
        f"{content.where}: of no known format; known: {known}; a list of layers to drop is [2, 5] in a .json file"
    )

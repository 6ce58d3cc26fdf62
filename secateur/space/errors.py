"""The one exception that is meant for users."""

import difflib
from collections.abc import Iterable


class SecateurError(Exception):
    """What was wrong, where, and what would work; the command line prints it and exits with status 2."""


class StorageError(SecateurError):
    """The disk is full or cannot be written: ends whatever is going on; what was written before is kept."""


class DeviceError(SecateurError):
    """A device has no room, or has failed: ends whatever is going on, and nothing of the batch is noted."""


def suggest(word: str, known: Iterable[str]) -> str:
    """Names the closest of `known`, or lists them all: the second half of an unknown-name message."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(names)}"

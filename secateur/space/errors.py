"""What is told to users: the one exception that is meant for them, and how other people's become it."""

import contextlib
import difflib
from collections.abc import Iterable, Iterator

LONGEST = 300
"""Characters of what a library says."""


class SecateurError(Exception):
    """What was wrong, where, and what would work; the command line prints it and exits with status 2."""


class StorageError(SecateurError):
    """The disk is full or cannot be written, or something that was prepared is damaged: ends whatever is going on; what
    was written before is kept."""


class DeviceError(SecateurError):
    """A device has no room, or has failed: ends whatever is going on, and nothing of the batch is noted."""


class OutOfMemoryError(DeviceError):
    """A device has no room, even for less at once."""


class Stopped(BaseException):
    """The user or the system wants the program to end (SIGINT, SIGTERM); its notes say how to go on."""

    def __init__(self, number: int, word: str) -> None:
        super().__init__(number)
        self.status, self.word = 128 + number, word


@contextlib.contextmanager
def border(what: str) -> Iterator[None]:
    """Turns any exception of the libraries called inside into a SecateurError; the cause is kept for `--debug`.

    Only calls of libraries stand inside: a fault of ours would be told as one of the file's.
    """
    try:
        yield
    except (SecateurError, MemoryError):
        raise
    except Exception as error:
        raise SecateurError(f"{what}: {said(error)}") from error


def said(error: BaseException) -> str:
    """What an exception says, on one line and not too long; its name where that says more."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # other people's may fail at that too
        text = ""
    if not text or isinstance(error, LookupError | AttributeError | TypeError | AssertionError | ArithmeticError):
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"


def suggest(word: str, known: Iterable[str]) -> str:
    """Names the closest of `known`, or lists them all: the second half of an unknown-name message."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(names)}"

"""The border to files of other people's: whatever a library raises while it reads one becomes one message."""

import contextlib
import warnings
from collections.abc import Iterator

from transformers.utils import logging as transformers_logging

from ..space.errors import SecateurError

LONGEST = 300
"""Characters of what a library says."""


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


@contextlib.contextmanager
def library(path: str, what: str, here: bool = True) -> Iterator[None]:
    """The border for what transformers does with a model, without its warnings.

    `path` is how the user named the model; it is `here`, or looked for in the hub.
    """
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    with warnings.catch_warnings(), border(f"model '{path[:200]}': {what}"):
        warnings.simplefilter("ignore")
        try:
            yield
        except OSError as error:
            if here:
                raise
            raise SecateurError(
                f"model '{path}': there is no such folder here, and no model of that name in the hub's cache or on the "
                f"hub, as far as that can be reached: {said(error)}"
            ) from error


def said(error: BaseException) -> str:
    """What an exception says, on one line and not too long; its name where that says more."""
    text = " ".join(str(error).split())
    if not text or isinstance(error, LookupError | AttributeError | TypeError | AssertionError | ArithmeticError):
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"

"""The border to what transformers does with other people's models: whatever it raises becomes one message."""

import contextlib
import warnings
from collections.abc import Iterator

from ...space.errors import SecateurError, border, said


@contextlib.contextmanager
def library(path: str, what: str, here: bool = True) -> Iterator[None]:
    """The border for what transformers does with a model, without its warnings.

    `path` is how the user named the model; it is `here`, or looked for in the hub.
    """
    from transformers.utils import logging as transformers_logging  # here, since transformers takes seconds

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

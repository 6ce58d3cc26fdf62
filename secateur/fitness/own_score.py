"""Scores of the user's own: a function of the live subnet and one sequence, named in the recipe."""

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..space.errors import SecateurError
from .cache import digest

OwnScore = Callable[[Any, torch.Tensor], float]
"""(model, ids (1, time)) -> loss, lower is better. The model is the subnet; it is to be left as it was found."""


def is_own(name: str) -> bool:
    return ":" in name


def own_score(name: str) -> OwnScore:
    """The function that `module:function` names; modules are also looked for in the working directory.

    Raises:
        SecateurError: there is no such module or function, or it cannot be called with a model and a sequence.
    """
    module, _, function = name.partition(":")
    here = str(Path.cwd())
    sys.path.append(here)
    try:
        found: Any = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise SecateurError(f"objectives: '{name}' cannot be imported: {error}") from error
    finally:
        sys.path.remove(here)
    try:
        inspect.signature(found).bind(None, None)
    except (TypeError, ValueError) as error:
        raise SecateurError(f"objectives: '{name}' is not called as function(model, ids): {error}") from error
    score: OwnScore = found
    return score


def source_digest(name: str) -> str:
    """Names what the function does, so that changed code does not meet losses of the old."""
    try:
        return digest(inspect.getsource(own_score(name)))
    except (OSError, TypeError):
        return "unknown"

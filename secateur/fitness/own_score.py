"""Scores that are not ours: a function of the user's, named `module:function`, or a task, `lm-eval:NAME`."""

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..space.errors import SecateurError
from .cache import digest
from .tasks import TaskRequest, TaskScore, check_task, definitions
from .teacher import Teacher

OwnFunction = Callable[[Any, torch.Tensor], float]
"""(model, ids (1, time)) -> loss, lower is better. The model is the subnet; it is to be left as it was found."""
OwnScore = Callable[[range], list[float]]
"""One loss for each sequence, of whatever subnet is applied to the live model."""
LM_EVAL = "lm-eval"


def is_own(name: str) -> bool:
    return ":" in name


def check_own(name: str, request: TaskRequest, sequences: int) -> None:
    """Raises SecateurError for a score that cannot be had on so many sequences."""
    if name.startswith(f"{LM_EVAL}:"):
        check_task(name.partition(":")[2], request, sequences)
    else:
        own_function(name)


def own_function(name: str) -> OwnFunction:
    """The function that `module:function` names; modules are also looked for in the working directory.

    Raises:
        SecateurError: there is no such module or function, or it cannot be called with a model and a sequence.
    """
    module, _, function = name.partition(":")
    before = list(sys.path)
    sys.path.append(str(Path.cwd()))
    try:
        found: Any = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise SecateurError(f"objectives: '{name}' cannot be imported: {error}") from error
    finally:
        sys.path[:] = before
    try:
        inspect.signature(found).bind(None, None)
    except (TypeError, ValueError) as error:
        raise SecateurError(f"objectives: '{name}' is not called as function(model, ids): {error}") from error
    score: OwnFunction = found
    return score


def own_score(name: str, teacher: Teacher, tokenizer: Any, request: TaskRequest) -> OwnScore:
    """The score as something to be asked; raises SecateurError as `check_own` does."""
    blocks, text = teacher.blocks, teacher.text
    if name.startswith(f"{LM_EVAL}:"):
        return TaskScore(name.partition(":")[2], request, blocks.model, tokenizer)
    function = own_function(name)

    def scored(sequences: range) -> list[float]:
        try:
            return [float(function(blocks.model, text.ids[index][None].to(blocks.device))) for index in sequences]
        except Exception as error:
            # Whatever the user's function raises, it is this candidate that failed.
            raise ValueError(f"{name}: {type(error).__name__}: {error}") from error

    return scored


def source_digest(name: str, request: TaskRequest) -> str:
    """Names what a score does, so that changed code does not meet losses of the old."""
    if name.startswith(f"{LM_EVAL}:"):
        return digest(request.documents, *definitions(request.include))
    try:
        source = inspect.getsourcefile(own_function(name))
        return digest(Path(source or "").read_text(encoding="utf8"))
    except (OSError, TypeError):
        return "unknown"

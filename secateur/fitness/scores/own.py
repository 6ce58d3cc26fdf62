"""Scores that are not ours: a function of the user's, named `module:function`, or a task, `lm-eval:NAME`."""

import contextlib
import importlib
import inspect
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from ...space.errors import SecateurError, Stopped, said
from ...space.objective import is_own
from ..cache import digest
from ..faults import CandidateError, is_of_device, is_of_memory
from .tasks import TaskRequest, TaskScore, check_task, definitions
from .teacher import Teacher

OwnFunction = Callable[[Any, torch.Tensor], float]
"""(model, ids (1, time)) -> loss, lower is better. The model is the subnet; it is to be left as it was found."""
OwnScore = Callable[[range], list[float]]
"""One loss for each sequence, of whatever subnet is applied to the live model."""
LM_EVAL = "lm-eval"


def is_function(name: str) -> bool:
    """Whether an objective is a function of the user's own, which can be asked on any text."""
    return is_own(name) and not name.startswith(f"{LM_EVAL}:")


def check_own(name: str, request: TaskRequest, sequences: int) -> None:
    """Raises SecateurError for a score that cannot be had on so many sequences."""
    if name.startswith(f"{LM_EVAL}:"):
        check_task(name.partition(":")[2], request, sequences)
    else:
        own_function(name)


def own_function(name: str) -> OwnFunction:
    """The function that `module:function` names; modules are also looked for in the working directory.

    Raises:
        SecateurError: there is no such module or function, the module fails or leaves, or it cannot be called with a
            model and a sequence.
    """
    module, _, function = name.partition(":")
    before = list(sys.path)
    sys.path.append(str(Path.cwd()))
    try:
        found: Any = getattr(importlib.import_module(module), function)
    except (Stopped, KeyboardInterrupt):
        raise
    except BaseException as error:
        # The module is the user's: whatever it raises is for the user to mend.
        raise SecateurError(f"score '{name}' cannot be imported: {_named(error)}") from error
    finally:
        sys.path[:] = before
    try:
        inspect.signature(found).bind(None, None)
    except (TypeError, ValueError) as error:
        raise SecateurError(f"score '{name}' is not called as function(model, ids): {error}") from error
    score: OwnFunction = found
    return score


def check_picklable(name: str) -> None:
    """Raises SecateurError for a function that other processes could not be given."""
    if name.startswith(f"{LM_EVAL}:"):
        return
    function = own_function(name)
    if name.startswith("__main__:"):
        raise SecateurError(f"score '{name}' is a script's, which workers do not run; put it into a module")
    try:
        pickle.dumps(function)
    except Exception as error:  # the user's object may say anything to it
        raise SecateurError(
            f"score '{name}' cannot be pickled, so workers cannot be given it: {_named(error)}; write it as a "
            "function of a module"
        ) from error


def own_score(name: str, teacher: Teacher, tokenizer: Any, request: TaskRequest) -> OwnScore:
    """The score as something to be asked; raises SecateurError as `check_own` does."""
    blocks, text = teacher.blocks, teacher.text
    if name.startswith(f"{LM_EVAL}:"):
        score = TaskScore(name.partition(":")[2], request, blocks.model, tokenizer)
        return lambda sequences: _blamed(name, lambda: score(sequences))
    function = own_function(name)

    def one(index: int) -> float:
        ids = text.ids[index][None].to(blocks.device)
        with limited(request.timeout, name):
            return float(function(blocks.model, ids))

    return lambda sequences: _blamed(name, lambda: [one(index) for index in sequences])


def _blamed(name: str, score: Callable[[], list[float]]) -> list[float]:
    """Whatever a user's function or task raises, it is this candidate that failed; but for memory and devices."""
    try:
        return score()
    except (CandidateError, Stopped, KeyboardInterrupt):
        raise
    except BaseException as error:
        if is_of_memory(error) or is_of_device(error):
            raise
        raise CandidateError(f"{name}: {_named(error)}") from error


def _named(error: BaseException) -> str:
    """The kind of an exception and what it says."""
    kind, text = type(error).__name__, said(error)
    return text if text.startswith(f"{kind}:") else f"{kind}: {text}"


@contextlib.contextmanager
def limited(seconds: float | None, name: str) -> Iterator[None]:
    """Ends what takes longer, where a limit is set, as a failure of the candidate.

    By an alarm of the system, in the main thread: what never comes back to Python's interpreter is not ended.
    """
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise CandidateError(f"{name}: took longer than {seconds:g} s (tasks.timeout)")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def source_digest(name: str, request: TaskRequest) -> str:
    """Names what a score does, so that changed code does not meet losses of the old."""
    if name.startswith(f"{LM_EVAL}:"):
        return digest(request.documents, *definitions(request.include))
    try:
        source = inspect.getsourcefile(own_function(name))
        content = Path(source or "").read_bytes()
    except (OSError, TypeError):
        return "unknown"
    try:
        return digest(content.decode())  # as it has always been named
    except UnicodeDecodeError:  # of source in an encoding of its own
        return digest(content.hex())

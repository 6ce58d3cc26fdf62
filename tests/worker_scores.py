"""Scores of a user's own that workers are given: one that ends its worker, one that hangs, one that wants too much."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import torch

CANDIDATE, HANGS = "SECATEUR_TEST_CANDIDATE", "SECATEUR_TEST_HANGS"
"""In the environment: losses of the candidate that is bad to have, to seven digits; a file whose finder hangs."""
POISON = "SECATEUR_TEST_POISON"
"""In the environment: a file, for workers that are older than a test, likewise with the losses of a candidate."""


def plain(model: Any, ids: torch.Tensor) -> float:
    """The loss of the next token."""
    logits = model(input_ids=ids).logits[0, :-1].float()
    return float(torch.nn.functional.cross_entropy(logits, ids[0, 1:]))


def unhurried(model: Any, ids: torch.Tensor) -> float:
    """Takes long enough for somebody to come by and kill it."""
    time.sleep(0.02)
    return plain(model, ids)


def _is_bad(value: float) -> bool:
    poison = Path(os.environ.get(POISON, "nowhere"))
    losses = os.environ.get(CANDIDATE, "") + " " + (poison.read_text() if poison.exists() else "")
    return f"{value:.7f}" in losses.split()


def deadly(model: Any, ids: torch.Tensor) -> float:
    """Of one candidate whoever asks for it dies."""
    value = plain(model, ids)
    if _is_bad(value):
        os.kill(os.getpid(), signal.SIGKILL)
    return value


def greedy(model: Any, ids: torch.Tensor) -> float:
    """One candidate takes all memory there is."""
    value = plain(model, ids)
    if _is_bad(value):
        raise torch.OutOfMemoryError("out of memory: tried to allocate 80 GiB")
    return value


def slow(model: Any, ids: torch.Tensor) -> float:
    """Whoever comes first never comes back."""
    flag = os.environ.get(HANGS)
    if flag:
        try:
            Path(flag).unlink()
        except FileNotFoundError:
            return plain(model, ids)
        time.sleep(3600)
    return plain(model, ids)

"""How fast this machine multiplies matrices, for estimates before a model is loaded."""

import time

import torch

from .checkpoint import DTYPES


def matrix_speed(dtype: str, seconds: float = 0.3) -> float:
    """Floating-point operations per second of a linear layer of usual size on the CPU; a rough upper figure."""
    rows = torch.randn(256, 1024, dtype=DTYPES[dtype])
    weight = torch.randn(1024, 1024, dtype=DTYPES[dtype])
    torch.nn.functional.linear(rows, weight)
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        torch.nn.functional.linear(rows, weight)
        count += 1
    return count * 2 * 256 * 1024 * 1024 / (time.perf_counter() - started)

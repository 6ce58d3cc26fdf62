"""How fast a device multiplies matrices, for estimates before a model is loaded."""

import time
from typing import NamedTuple

import torch

from ...space.errors import SecateurError
from ..faults import is_of_device, is_of_memory
from ..model.device import find_device
from ..model.dtypes import DTYPES

TURNS = 12
"""Short measurements, of which the fastest counts: what else a busy machine does takes time from the others."""


SLOWER = 1.5
"""How many times slower than float32 a dtype has to be before anything is said."""
ROUNDS = 5
"""Of measurements of both, of which the one in the middle counts."""


class Speed(NamedTuple):
    """Of a device: its name, floating-point operations a second (None: it cannot do that), a warning or nothing."""

    device: str
    operations: float | None
    warning: str


def speed_here(name: str, dtype: str) -> Speed | None:
    """How fast a device computes in a dtype, measured; None where it is not on this machine."""
    try:
        device = find_device(name)
    except SecateurError:
        return None
    return Speed(str(device), matrix_speed(dtype, device), slowness(dtype, device))


def matrix_speed(dtype: str, device: torch.device, seconds: float = 0.12) -> float | None:
    """Floating-point operations per second of a linear layer of usual size; None where the device cannot do that."""
    try:
        rows = torch.randn(256, 1024, dtype=DTYPES[dtype], device=device)
        weight = torch.randn(1024, 1024, dtype=DTYPES[dtype], device=device)
        torch.nn.functional.linear(rows, weight).sum().item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        if is_of_memory(error) or is_of_device(error) or device.type != "cpu":
            return None
        raise
    best = 0.0
    for _ in range(TURNS):
        count, started, last = 0, time.perf_counter(), None
        while time.perf_counter() - started < seconds / TURNS:
            last = torch.nn.functional.linear(rows, weight)
            count += 1
        assert last is not None
        last[0, 0].item()  # a device works on while the host does not wait
        best = max(best, count * 2 * 256 * 1024 * 1024 / (time.perf_counter() - started))
    return best


def slowness(dtype: str, device: torch.device) -> str:
    """A warning where a dtype is slower than float32, as bfloat16 is on processors without instructions for it.

    From a second of measurements in turns, so that what else the machine does slows both; empty where there is nothing
    to say.
    """
    if dtype == "float32":
        return ""
    ratios = []
    for _ in range(ROUNDS):
        plain, own = matrix_speed("float32", device), matrix_speed(dtype, device)
        if plain is None or own is None:
            return ""
        ratios.append(plain / own)
    ratio = sorted(ratios)[ROUNDS // 2]
    if ratio < SLOWER:
        return ""
    return (
        f"{dtype} is {ratio:.1f} times slower than float32 on this {device.type}: set model.dtype to float32 "
        "(model.saved_dtype still says what is counted and written)"
    )

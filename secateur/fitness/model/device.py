"""Devices by the names that torch gives them, and what has to be asked of one whatever its make."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

from ...space.errors import SecateurError

AUTO = "auto"
CPU = torch.device("cpu")


def find_device(name: str) -> torch.device:
    """The device of a name: `cpu`, an accelerator's (`cuda`, `cuda:1`, `xpu`, `mps`), or `auto`, the accelerator if
    there is one.

    Raises:
        SecateurError: torch sees no such device.
    """
    there = _accelerator()
    if name == AUTO:
        return there or CPU
    here = f"{there.type} or cpu" if there is not None else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SecateurError(f"model.device '{name[:40]}': torch knows no such device; use {here}") from error
    if device.type == "cpu":
        return CPU
    if there is None or device.type != there.type:
        raise SecateurError(f"model.device '{name[:40]}': torch sees no such device; use {here}, or auto")
    count = int(_module(device).device_count())
    if device.index is not None and device.index >= count:
        raise SecateurError(f"model.device '{name[:40]}': there are {count} of them, counted from 0")
    return device


def device_name(device: torch.device) -> str:
    """What tells results of a device from those of another model: its kind, and of an accelerator its model."""
    if device.type == "cpu":
        return "cpu"
    named = getattr(_module(device), "get_device_name", None)
    return f"{device.type} {named(device)}" if named is not None else device.type


def threads_here() -> int:
    """Of the CPU, that this process computes with."""
    return torch.get_num_threads()


@contextmanager
def with_threads(count: int) -> Iterator[None]:
    """Has this process compute with so many threads on the CPU, for as long as this is open."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def synchronise(device: torch.device) -> None:
    """Waits until a device has done what it was told."""
    if device.type == "mps":  # of which there is one
        _module(device).synchronize()
    elif device.type != "cpu":
        _module(device).synchronize(device)


def _accelerator() -> torch.device | None:
    """The kind of accelerator that torch sees; None where there is none."""
    if hasattr(torch, "accelerator"):  # since torch 2.6
        return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return torch.device("cuda") if torch.cuda.is_available() else None


@cache
def _module(device: torch.device) -> Any:
    return torch.get_device_module(device)

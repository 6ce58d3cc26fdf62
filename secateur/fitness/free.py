"""What memory a device, or this machine, has to give."""

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import torch

M_MMAP_THRESHOLD = -3
"""Of glibc's `mallopt`: what is larger is mapped by itself, and the size no longer changes with what is freed."""
CONTROL = Path("/sys/fs/cgroup")


def give_back() -> None:
    """Has what is freed on the host given back at once, instead of kept in pieces; where the C library can do that."""
    adjust = getattr(ctypes.CDLL(None), "mallopt", None)
    if adjust is not None:
        adjust(M_MMAP_THRESHOLD, 2**20)


def free(device: torch.device) -> int:
    """Bytes that a device, or the host, has to give; where it does not say, more than anything takes."""
    if device.type == "cpu":
        return min(int(psutil.virtual_memory().available), *_allowed())
    module: Any = torch.get_device_module(device)
    if not hasattr(module, "mem_get_info"):
        return 2**60
    kept = module.memory_reserved(device) - module.memory_allocated(device) if hasattr(module, "memory_reserved") else 0
    return int(module.mem_get_info(device)[0] + kept)


def _stated(limit: str) -> list[list[str]]:
    """What the kernel says of a group's memory; pages of files that nobody uses are given back when they are wanted."""
    return [line.split() for line in (CONTROL / limit).with_name("memory.stat").read_text().splitlines()]


def _allowed() -> Iterator[int]:
    """What a container leaves."""
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            files = max(int(value) for name, value in _stated(limit) if name.endswith("inactive_file"))
            yield int((CONTROL / limit).read_text()) - int((CONTROL / used).read_text()) + files
        except (OSError, ValueError):  # there is none, or "max"
            yield 2**60

"""Which of a machine's accelerators is a worker's own: the first that no other worker there has taken."""

import fcntl
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from ...space.errors import SecateurError
from ..model.device import find_device

_held: dict[str, int] = {}
"""By the name of a device, the open file whose lock says that this process has it."""


def devices(name: str) -> int | None:
    """How many of the accelerators are here that a recipe's name means; None: it is the CPU, or one of them alone."""
    device = find_device(name)
    if device.type == "cpu" or device.index is not None:
        return None
    module: Any = torch.get_device_module(device)
    return int(module.device_count())


def own_device(name: str) -> str:
    """The device of a recipe's name for this process alone, as long as it lives: of several, one that is free.

    Raises:
        SecateurError: torch sees no such device, or other workers have taken them all.
    """
    count = devices(name)
    if count is None:
        return name
    kind = find_device(name).type
    names = {f"{kind}-{_visible(kind, index)}": f"{kind}:{index}" for index in range(count)}
    # What this process has already comes first.
    for name in sorted(names, key=lambda name: name not in _held):
        if _taken(name):
            return names[name]
    raise SecateurError(f"all {count} of {kind} are taken by other workers; start no more workers than devices")


def _visible(kind: str, index: int) -> str:
    """What a device is called outside of this process, which may see some of them only."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "") if kind == "cuda" else ""
    names = [name.strip() for name in seen.split(",") if name.strip()]
    return names[index].replace("/", "-") if index < len(names) else str(index)


def _taken(name: str) -> bool:
    """Takes a device for this process, if no other has it; the system lets go of it however the process ends."""
    if name in _held:
        return True
    folder = Path(tempfile.gettempdir()) / f"secateur-devices-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    handle = os.open(folder / f"{name}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return False
    _held[name] = handle
    return True

"""Tensors of files where the model is: brought once, and again only where there was no room to keep them."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping

import torch

RESIDENT_BYTES = 2**31
"""How much is kept on an accelerator besides the model, and as much again in pinned memory of its host."""
PINNING = ("cuda", "xpu")
"""Devices that copy faster from pinned memory."""

Tensors = Mapping[str, torch.Tensor]


class Resident:
    """Keeps up to `limit` bytes on a device, the least recently used out first.

    What goes out stays in pinned memory of the host, up to as many bytes again; beyond that it is read anew. On the CPU
    nothing is copied: files are memory-mapped.
    """

    def __init__(self, device: torch.device, limit: int = RESIDENT_BYTES) -> None:
        self._device, self._limit = device, limit
        self._here: OrderedDict[Hashable, tuple[Tensors, Tensors]] = OrderedDict()
        self._pinned: OrderedDict[Hashable, Tensors] = OrderedDict()

    def get(self, key: Hashable, read: Callable[[], Tensors]) -> Tensors:
        """The tensors of `key` on the device; `read` gives them on the host."""
        if key in self._here:
            self._here.move_to_end(key)
            return self._here[key][1]
        host = self._pinned.pop(key, None) or read()
        with torch.inference_mode(False):  # whoever asks first, trainings may ask later
            here = {name: tensor.to(self._device, non_blocking=True) for name, tensor in host.items()}
        self._here[key] = host, here
        while len(self._here) > 1 and sum(_bytes(kept) for _, kept in self._here.values()) > self._limit:
            old, (left, _) = self._here.popitem(last=False)
            if self._device.type != "cpu":
                self._pinned[old] = {name: self._pin(tensor) for name, tensor in left.items()}
        while sum(map(_bytes, self._pinned.values())) > self._limit:
            self._pinned.popitem(last=False)
        return here

    def _pin(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.pin_memory() if self._device.type in PINNING else tensor


def _bytes(tensors: Tensors) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())

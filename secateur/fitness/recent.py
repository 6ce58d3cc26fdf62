"""Tensors that take work to make, kept as long as there is room."""

from collections import OrderedDict
from collections.abc import Callable, Hashable

import torch


class Recent:
    """Keeps up to `limit` bytes of tensors, the least recently used out first; the last one made always stays."""

    def __init__(self, limit: int) -> None:
        self._limit, self._bytes = limit, 0
        self._tensors: OrderedDict[Hashable, torch.Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tensors)

    def get(self, key: Hashable, make: Callable[[], torch.Tensor]) -> torch.Tensor:
        """The tensor of `key`, made if it is not there."""
        if key in self._tensors:
            self._tensors.move_to_end(key)
            return self._tensors[key]
        made = make()
        self._tensors[key] = made
        self._bytes += made.nbytes
        while self._bytes > self._limit and len(self._tensors) > 1:
            _, old = self._tensors.popitem(last=False)
            self._bytes -= old.nbytes
        return made

"""Blocks of a model that does not fit on its device: each comes when it is needed, and makes room for the next.

A block that is not there has its parameters on torch's meta device, so that whoever uses one by mistake is told.
"""

from collections import Counter
from collections.abc import Callable, Mapping

import torch
from torch import nn

from ...space.anatomy import Anatomy, Tensor
from ..resident import PINNING
from .surgery import parent_of

Change = Callable[[int, Tensor, torch.Tensor], torch.Tensor]
"""What becomes of a parameter of a block, by the block's index; on the device."""


class Shelf:
    """Holds up to `room` bytes of blocks on a device, but always the one that came last.

    Passes go through the blocks in order and begin again, so whoever came last goes first when there is no room: those
    before it are there again when the next pass begins.

    Attributes:
        brought: how often each block has come.
    """

    def __init__(
        self,
        anatomy: Anatomy,
        modules: list[nn.Module],
        source: Mapping[str, torch.Tensor],
        device: torch.device,
        room: int,
    ) -> None:
        """
        Args:
            modules: the blocks, with all their parameters on the meta device.
            source: parameters by their names in the model, in its dtype, on the host; looked up whenever they come.
        """
        self._anatomy, self._modules, self._source, self._device = anatomy, modules, source, device
        self.room = room
        self._here: dict[int, dict[str, torch.Tensor]] = {}
        self._away: dict[int, dict[str, nn.Parameter]] = {}
        self._changes: list[Change] = []
        self._followers: list[tuple[Callable[[int], None], Callable[[int], None]]] = []
        self.brought: Counter[int] = Counter()
        for index, module in enumerate(modules):
            module.register_forward_pre_hook(lambda _module, _inputs, index=index: self._bring(index))

    def tensors(self, index: int) -> Mapping[str, torch.Tensor]:
        """The dense parameters of a block on the device, by their names in it."""
        if index not in self._here:
            self._bring(index)
        return self._here[index]

    def is_here(self, index: int) -> bool:
        """Whether a block is on the device."""
        return index in self._here

    def change(self, change: Change) -> None:
        """Changes the dense model for good: what comes from now on comes changed."""
        self.clear()
        self._changes.append(change)

    def follow(self, came: Callable[[int], None], goes: Callable[[int], None]) -> None:
        """Tells of each block that has come, and of each that is about to go."""
        self._followers.append((came, goes))

    def clear(self) -> None:
        """No block is on the device."""
        for index in list(self._here):
            self._take_away(index)

    def _bring(self, index: int) -> None:
        if index in self._here:
            return
        block = self._anatomy.blocks[index]
        wanted = {tensor.name: tensor for sublayer in block.sublayers for tensor in sublayer.parameters()}
        size = self._bytes(index)
        while self._here and size + sum(map(self._bytes, self._here)) > self.room:
            self._take_away(next(reversed(self._here)))
        with torch.inference_mode(False):
            prefix, tensors = self._anatomy.block_prefix(index), {}
            for name, tensor in wanted.items():
                values = self._source[prefix + name].to(self._device, non_blocking=True)
                for change in self._changes:
                    values = change(index, tensor, values)
                tensors[name] = values
        self._away[index] = {}
        for name, values in tensors.items():
            owner, attribute = parent_of(self._modules[index], name)
            self._away[index][name] = getattr(owner, attribute)
            setattr(owner, attribute, nn.Parameter(values, requires_grad=False))
        self._here[index] = tensors
        self.brought[index] += 1
        try:
            for came, _ in self._followers:
                came(index)
        except BaseException:  # it is not as it was to be: whoever asks again brings it again
            self._take_away(index)
            raise

    def _take_away(self, index: int) -> None:
        for _, goes in reversed(self._followers):
            goes(index)
        for name, parameter in self._away.pop(index).items():
            owner, attribute = parent_of(self._modules[index], name)
            setattr(owner, attribute, parameter)
        del self._here[index]

    def _bytes(self, index: int) -> int:
        here = self._here.get(index)
        if here is not None:
            return sum(tensor.nbytes for tensor in here.values())
        block = self._anatomy.blocks[index]
        parameters = [
            self._modules[index].get_parameter(tensor.name)
            for sublayer in block.sublayers
            for tensor in sublayer.parameters()
        ]
        return sum(parameter.numel() * parameter.element_size() for parameter in parameters)


def held(anatomy: Anatomy, source: Mapping[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    """The parameters of all blocks in the host's memory, where a device copies fastest from."""
    names = [
        anatomy.block_prefix(block.index) + tensor.name
        for block in anatomy.blocks
        for sublayer in block.sublayers
        for tensor in sublayer.parameters()
    ]
    pinned = device.type in PINNING
    return {name: source[name].pin_memory() if pinned else source[name].clone() for name in names}

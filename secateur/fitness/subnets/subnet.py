"""A genome's block states applied to the live model without copying it, and undone exactly."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import TracebackType

import torch
from torch import nn

from ...space.state import BlockState, Outside, dense_state, outside_of
from ..model.blocks import Blocks
from ..model.surgery import add_projection, parent_of, set_size, stand_in
from .weights import Weights


class Subnet:
    """Points the blocks of a live model at the weights of a subnet.

    A dropped sublayer's modules are exchanged for stand-ins, a parameter for the slice or the tensor of its state; the
    dense tensors stay where they are, so that undoing puts the same storage back. Work is proportional to what changes.
    Use as a context manager: leaving restores the dense model.
    """

    def __init__(self, blocks: Blocks, weights: Weights | None = None) -> None:
        self._blocks = blocks
        self.weights = weights or Weights(blocks)
        self._dense = tuple(dense_state(block) for block in blocks.anatomy.blocks)
        self.states: list[BlockState] = list(self._dense)
        self.outside = outside_of(blocks.anatomy.blocks, self._dense)
        self._undo: dict[int, list[Callable[[], None]]] = {}
        if blocks.shelf is not None:
            blocks.shelf.follow(self._came, self._back)

    def apply(self, states: Sequence[BlockState]) -> None:
        """Brings every block into its state, and what is outside."""
        self.set_outside(outside_of(self._blocks.anatomy.blocks, states))
        for index, state in enumerate(states):
            self.set_block(index, state)

    def set_outside(self, outside: Outside) -> None:
        """Brings what lies outside the blocks to a residual width, and embedding and head to their levels."""
        if self.outside == outside:
            return
        anatomy, model = self._blocks.anatomy, self._blocks.model
        dense = outside_of(anatomy.blocks, self._dense)
        own, wanted = self.weights.outside(dense), self.weights.outside(outside)
        parameters = {name: tensor for name, tensor in wanted.items() if tensor is not own.get(name)}
        self._back(-1)
        self.outside = dense
        undo = self._undo.setdefault(-1, [])
        if f"{anatomy.norm}.1.weight" in parameters:
            norm = add_projection(model, anatomy.norm, outside.hidden)
            undo.append(partial(setattr, *parent_of(model, anatomy.norm), norm))
        self._point(model, parameters, undo)
        self.outside = outside

    def set_block(self, index: int, state: BlockState) -> None:
        """Brings one block into `state`, whatever it was in before; one that is not on the device when it comes."""
        if self.states[index] == state:
            return
        shelf = self._blocks.shelf
        if shelf is None or shelf.is_here(index):
            self._carry_out(index, state)
        self.states[index] = state

    def dense_block(self, index: int) -> None:
        """Makes one block dense again."""
        self.set_block(index, self._dense[index])

    def _came(self, index: int) -> None:
        state, self.states[index] = self.states[index], self._dense[index]
        try:
            self.set_block(index, state)
        finally:
            self.states[index] = state

    def _carry_out(self, index: int, state: BlockState) -> None:
        module, block = self._blocks.modules[index], self._blocks.anatomy.blocks[index]
        # All that can fail (memory, a damaged store) comes before the first change.
        dense = self.weights.dense(index)
        parameters = self.weights.block(index, state)
        parameters = {name: tensor for name, tensor in parameters.items() if tensor is not dense.get(name)}
        self._back(index)
        self.states[index] = self._dense[index]
        undo = self._undo.setdefault(index, [])
        sizes, dense_sizes = state.sizes(block), block.dense_sizes
        self._point(module, parameters, undo)
        for sublayer in block.sublayers:
            if not state.has(sublayer):
                for path, role in sublayer.stand_ins:
                    old = (*parent_of(module, path), stand_in(module, path, role))
                    undo.append(partial(setattr, *old))
                continue
            for path, attribute, size in sublayer.attributes:
                if sizes[size] != dense_sizes[size]:
                    old = set_size(module, path, attribute, sizes[size])
                    undo.append(partial(setattr, *old))
            for linear in sublayer.linears:
                if linear.transposed and linear.shape(sizes)[0] != linear.outputs:
                    old = set_size(module, linear.name, "nf", linear.shape(sizes)[0])
                    undo.append(partial(setattr, *old))

    def _point(self, module: nn.Module, parameters: dict[str, torch.Tensor], undo: list[Callable[[], None]]) -> None:
        """Points parameters at other tensors, and adds those that the module does not have."""
        for name, tensor in parameters.items():
            owner, attribute = parent_of(module, name)
            parameter = getattr(owner, attribute)
            if parameter is None:
                setattr(owner, attribute, nn.Parameter(tensor, requires_grad=False))
                undo.append(partial(setattr, owner, attribute, None))
            else:
                undo.append(partial(setattr, parameter, "data", parameter.data))
                parameter.data = tensor

    def _back(self, index: int) -> None:
        for step in reversed(self._undo.pop(index, [])):
            step()

    def run(self, index: int, hidden: torch.Tensor) -> torch.Tensor:
        """The block on hidden states (sequences, time, hidden); a removed block hands them on untouched."""
        return hidden if self.states[index].removed else self._blocks.run(index, hidden)

    def restore(self) -> None:
        """Makes the model dense again."""
        self.apply(self._dense)

    def __enter__(self) -> "Subnet":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()


@contextmanager
def pointed(model: nn.Module, parameters: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """The model with other tensors in its parameters' place; afterwards each has its own again, the same storage."""
    live = dict(model.named_parameters())
    own = {name: live[name].data for name in parameters}
    try:
        for name, tensor in parameters.items():
            live[name].data = tensor
        yield
    finally:
        for name, tensor in own.items():
            live[name].data = tensor

"""A genome's block states applied to the live model without copying it, and undone exactly."""

from collections.abc import Sequence
from types import TracebackType

import torch
from torch import nn

from ..space.costs import BlockState, dense_state
from .blocks import Blocks
from .dropped import stand_in
from .level_store import LevelStore


class Subnet:
    """Points the blocks of a live model at the weights of a subnet.

    A dropped sublayer's modules are exchanged for stand-ins, a sparse linear's weight for the tensor of its level; the
    dense tensors stay where they are, so that undoing puts the same storage back. Work is proportional to what changes.
    Use as a context manager: leaving restores the dense model.
    """

    def __init__(self, blocks: Blocks, store: LevelStore | None = None) -> None:
        self._blocks = blocks
        self._store = store
        self._dense = tuple(dense_state(block) for block in blocks.anatomy.blocks)
        self.states: list[BlockState] = list(self._dense)
        self._replaced: dict[int, list[tuple[str, nn.Module]]] = {}

    def apply(self, states: Sequence[BlockState]) -> None:
        """Brings every block into its state."""
        for index, state in enumerate(states):
            self.set_block(index, state)

    def set_block(self, index: int, state: BlockState) -> None:
        """Brings one block into `state`, whatever it was in before."""
        if self.states[index] == state:
            return
        module, block = self._blocks.modules[index], self._blocks.anatomy.blocks[index]
        # All that can fail (memory, a damaged store) comes before the first change.
        weights = {}
        for position, (linear, level) in enumerate(zip(block.linears, state.sparsity, strict=True)):
            if level != self.states[index].sparsity[position]:
                if self._store is None:
                    raise ValueError("a sparse state needs a level store")
                weights[linear.name] = self._store.weight(index, position, level)
        for path, original in reversed(self._replaced.pop(index, [])):
            parent_path, _, name = path.rpartition(".")
            setattr(module.get_submodule(parent_path) if parent_path else module, name, original)
        for name, weight in weights.items():
            module.get_parameter(f"{name}.weight").data = weight
        replaced = []
        for sublayer, kept in zip(block.sublayers, (state.attention, state.mlp), strict=True):
            if not kept:
                replaced += [(path, stand_in(module, path, role)) for path, role in sublayer.stand_ins]
        self._replaced[index] = replaced
        self.states[index] = state

    def run(self, index: int, hidden: torch.Tensor) -> torch.Tensor:
        """The block on hidden states (1, time, hidden); a removed block hands them on untouched."""
        return hidden if self.states[index].removed else self._blocks.run(index, hidden)

    def restore(self) -> None:
        self.apply(self._dense)

    def __enter__(self) -> "Subnet":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()

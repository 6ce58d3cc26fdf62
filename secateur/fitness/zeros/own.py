"""Zeros that a model has by itself, as a pruned checkpoint does: counted, so that costs are those of what is written.

A pruner removes them first and no training brings them back, so that each row, matrix or pattern's group has as many
zeros as its level asks for, or as there were if those are more.
"""

import torch

from ...space.anatomy import Linear, Sublayer
from ...space.state import BlockState, Outside
from ...space.treatments import Sparsity, zeros_per_row
from ..subnets.weights import Weights
from .nested import NESTED
from .treatment import Zeros


class OwnZeros:
    """Counts on the weights themselves, once for each of their states.

    `linears`: zeros in the linears of all blocks of the dense model.
    """

    def __init__(self, weights: Weights) -> None:
        self._weights, self._anatomy = weights, weights.anatomy
        self._counted: dict[tuple[object, ...], int] = {}
        self._outside: dict[Outside, int] = {}
        self._some: set[tuple[int, int]] = set()
        self._lines: set[tuple[int, int]] = set()
        self.linears = 0
        for block in self._anatomy.blocks:
            for position, linear in enumerate(block.linears):
                zero = weights.dense(block.index)[f"{linear.name}.weight"] == 0
                if bool(zero.any()):
                    self.linears += int(zero.sum())
                    self._some.add((block.index, position))
                    if bool(zero.all(dim=0).any() | zero.all(dim=1).any()):
                        self._lines.add((block.index, position))

    def _linear(self, index: int, position: int) -> Linear:
        return self._anatomy.blocks[index].linears[position]

    def outside(self, outside: Outside) -> int:
        """In embeddings and head."""
        if outside not in self._outside:
            # Of treated ones the zeros are theirs to say.
            treated = {f"{name}.weight" for name, _ in outside.treated}
            tensors = self._weights.outside(Outside(outside.hidden)).items()
            matrices = [values for name, values in tensors if values.dim() > 1 and name not in treated]
            self._outside[outside] = sum(int((values == 0).sum()) for values in matrices)
        return self._outside[outside]

    def in_block(self, index: int, state: BlockState) -> int:
        """In the linears of a block in a state."""
        block = self._anatomy.blocks[index]
        return sum(
            self._in_linear(index, block.where[linear.name], position, state)
            for position, linear in enumerate(block.linears)
            if state.has(block.where[linear.name])
        )

    def _in_linear(self, index: int, sublayer: Sublayer, position: int, state: BlockState) -> int:
        linear = self._linear(index, position)
        level, shape = state.level(linear.name), linear.shape(state.sizes(self._anatomy.blocks[index]))
        # Of other treatments the zeros are theirs to say.
        if (index, position) not in self._some or not isinstance(level, Sparsity):
            return level.zeros(*shape)
        known = (index, position, state.widths(sublayer), state.hidden, level)
        if known not in self._counted:
            self._counted[known] = self._count(index, position, state, level, shape)
        return self._counted[known]

    def _count(self, index: int, position: int, state: BlockState, level: Sparsity, shape: tuple[int, int]) -> int:
        linear, zeros = self._linear(index, position), self._weights.compressors.get("zeros")
        store = zeros.store if isinstance(zeros, Zeros) else None
        if level and shape == (linear.outputs, linear.inputs):
            assert store is not None
            return shape[0] * shape[1] - store.nonzeros(index, position, level)
        matrix = self._weights.untreated(index, position, state)
        if matrix is None and (index, position) not in self._lines:
            return level.zeros(*shape)  # of rotated features none are zero, but for whole rows or columns
        if matrix is None or (level and (store is None or store.pruner not in NESTED)):
            return int((self._weights.linear(index, position, state) == 0).sum())
        if store is None or not level:
            return int((matrix == 0).sum())
        return with_level(matrix == 0, level, by_row=NESTED[store.pruner].group == "row")


def with_level(zero: torch.Tensor, level: Sparsity, by_row: bool) -> int:
    """Zeros of a matrix (outputs, inputs) at a level whose pruner removes first those that are there.

    `by_row`: an unstructured level removes the same share of each row, not of the whole matrix.
    """
    outputs, inputs = zero.shape
    if level.of:
        groups, least = zero.reshape(outputs, inputs // level.of, level.of).sum(dim=2), level.of - level.keep
    elif by_row:
        groups, least = zero.sum(dim=1), zeros_per_row(level.steps, inputs)
    else:
        groups, least = zero.sum(), level.zeros(outputs, inputs)
    return int(groups.clamp_min(least).sum())

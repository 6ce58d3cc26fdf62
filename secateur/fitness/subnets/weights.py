"""The parameters of a block in a given state: slices of the dense ones, or what was prepared for that state."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ...space.anatomy import Block, Linear, Sublayer, Tensor
from ...space.state import BlockState, dense_state
from ...space.treatments import DENSE
from ..cache import read_tensors
from ..model.blocks import Blocks
from ..widths.axes import copied, kept_positions, sliced
from ..widths.preparation import Widths, repair_file
from ..widths.rotation import Basis, narrower_bias, narrower_linear, narrower_norm, narrower_outside, norm_before
from ..zeros.level_store import Kept, LevelStore, as_matrix
from .recent import Recent


@dataclass(frozen=True, slots=True)
class Repairs:
    """Where the repaired last linears are, and which repair it is."""

    folder: Path
    name: str


class Weights:
    """Gives the parameters of any state of a model that is dense (and permuted by importance) when this is made.

    What is a slice shares memory with the dense model; what has to be assembled is kept up to `cache_bytes`, least
    recently used out first.
    """

    def __init__(
        self,
        blocks: Blocks,
        store: LevelStore | None = None,
        repairs: Repairs | None = None,
        basis: Basis | None = None,
        cache_bytes: int = 2**29,
    ) -> None:
        self.blocks, self.anatomy = blocks, blocks.anatomy
        self.store, self._repairs, self._basis = store, repairs, basis
        self._dense = [
            {t.name: module.get_parameter(t.name).data for sub in block.sublayers for t in sub.parameters()}
            for block, module in zip(self.anatomy.blocks, blocks.modules, strict=True)
        ]
        self._outside = {t.name: blocks.model.get_parameter(t.name).data for t in self.anatomy.outside}
        self._narrower: tuple[int, dict[str, torch.Tensor]] | None = None
        self._read: dict[Path, dict[str, torch.Tensor]] = {}
        self._assembled = Recent(cache_bytes)

    def dense(self, index: int) -> Mapping[str, torch.Tensor]:
        """The parameters of the dense block, by their name in it."""
        return self._dense[index]

    def block(self, index: int, state: BlockState) -> dict[str, torch.Tensor]:
        """The parameters of the sublayers that `state` keeps, by their name in the block; added biases included."""
        block, result, position = self.anatomy.blocks[index], {}, 0
        dense = state == dense_state(block)
        for sublayer, kept, narrowed in zip(block.sublayers, state.kept, state.narrowed(block), strict=True):
            levels = state.sparsity[position : position + len(sublayer.linears)]
            if kept:
                for tensor in sublayer.parameters():
                    values = self._dense[index][tensor.name]
                    result[tensor.name] = values if dense else self._slice(block, sublayer, tensor, state)
                if state.hidden < block.hidden:
                    self._narrow_norms(block, sublayer, state, result)
                for number, (linear, level) in enumerate(zip(sublayer.linears, levels, strict=True)):
                    if level or state.hidden < block.hidden or (narrowed and linear is sublayer.linears[-1]):
                        name = f"{linear.name}.weight"
                        result[name] = self._linear(block, sublayer, number, position + number, state)
                if narrowed:
                    self._repair_bias(block, sublayer, state, result)
            position += len(sublayer.linears)
        return result

    def linear(self, index: int, position: int, state: BlockState) -> torch.Tensor:
        """The weight of the linear at a position in a block, of a sublayer that `state` keeps, as its module has it."""
        block, before = self.anatomy.blocks[index], 0
        for sublayer in block.sublayers:
            number = position - before
            if number < len(sublayer.linears):
                return self._linear(block, sublayer, number, position, state)
            before += len(sublayer.linears)
        raise IndexError(f"block {index} has no linear {position}")

    def unpruned(self, index: int, position: int, state: BlockState) -> torch.Tensor | None:
        """That linear's matrix (outputs, inputs) before its level is applied; None where it is a rotated one."""
        if state.hidden < self.anatomy.hidden_size and self._basis is not None and self._basis.rotation is not None:
            return None
        block, linear = self.anatomy.blocks[index], self.anatomy.blocks[index].linears[position]
        plain = replace(state, sparsity=(*state.sparsity[:position], DENSE, *state.sparsity[position + 1 :]))
        return as_matrix(linear, self.linear(block.index, position, plain))

    def outside(self, hidden: int) -> dict[str, torch.Tensor]:
        """The parameters outside the blocks for a residual width, by the names they have in a model of that width."""
        if hidden == self.anatomy.hidden_size:
            return self._outside
        if self._narrower is None or self._narrower[0] != hidden:
            assert self._basis is not None
            changed = narrower_outside(self._basis, self.anatomy, self._outside, hidden)
            same = {t.name for t in self.anatomy.outside if all(not axis for axis in t.axes)}
            self._narrower = hidden, {**{name: self._outside[name] for name in same}, **changed}
        return self._narrower[1]

    def _slice(self, block: Block, sublayer: Sublayer, tensor: Tensor, state: BlockState) -> torch.Tensor:
        """A slice of a dense parameter; kept where it is no view."""
        values, sizes = self._dense[block.index][tensor.name], state.sizes(block)
        if not copied(tensor, block, sizes):
            return sliced(tensor, values, block, sizes)
        key = ("slice", block.index, tensor.name, widths_of(sublayer, state), state.hidden)
        return self._assembled.get(key, lambda: sliced(tensor, values, block, sizes))

    def _narrow_norms(
        self, block: Block, sublayer: Sublayer, state: BlockState, result: dict[str, torch.Tensor]
    ) -> None:
        assert self._basis is not None
        norm = norm_before(sublayer)
        number = 2 * block.index + (sublayer.kind == "mlp")
        result[norm.name] = narrower_norm(self._basis, self._dense[block.index][norm.name], number, state.hidden)
        for linear in sublayer.linears:
            if linear.bias and linear.rows == ("hidden",):
                name = f"{linear.name}.bias"
                result[name] = narrower_bias(self._basis, self._dense[block.index][name], state.hidden)

    def _repair(self, block: Block, sublayer: Sublayer, state: BlockState) -> dict[str, torch.Tensor] | None:
        if self._repairs is None:
            return None
        widths = widths_of(sublayer, state)
        path = repair_file(self._repairs.folder, block.index, sublayer.kind, widths, self._repairs.name)
        if path not in self._read:
            self._read[path] = read_tensors(path)
        return self._read[path]

    def _repair_bias(
        self, block: Block, sublayer: Sublayer, state: BlockState, result: dict[str, torch.Tensor]
    ) -> None:
        repair = self._repair(block, sublayer, state)
        if repair is None or "bias" not in repair:
            return
        linear = sublayer.linears[-1]
        name = f"{linear.name}.bias"
        weight = self._dense[block.index][f"{linear.name}.weight"]
        bias = repair["bias"].to(device=weight.device, dtype=weight.dtype)
        if state.hidden < block.hidden:
            assert self._basis is not None
            bias = narrower_bias(self._basis, bias, state.hidden)
        result[name] = result[name] + bias if name in result else bias

    def _linear(self, block: Block, sublayer: Sublayer, number: int, position: int, state: BlockState) -> torch.Tensor:
        linear, level, sizes = sublayer.linears[number], state.sparsity[position], state.sizes(block)
        shape = linear.shape(sizes)
        repaired = number == len(sublayer.linears) - 1 and state.narrowed(block)[sublayer.kind == "mlp"]
        repair = self._repair(block, sublayer, state) if repaired else None
        if shape == (linear.outputs, linear.inputs):
            if self.store is not None:
                return self.store.weight(block.index, position, level)
            if level:
                raise ValueError("a sparse state needs a level store")
            return self._dense[block.index][f"{linear.name}.weight"]
        narrow_hidden = state.hidden < block.hidden
        if not level and repair is None and not (narrow_hidden and self._basis and self._basis.rotation is not None):
            return self._slice(block, sublayer, next(linear.tensors()), state)
        key = (block.index, position, widths_of(sublayer, state), state.hidden, level)
        return self._assembled.get(
            key, lambda: self._assemble(block, sublayer, number, position, state, repair["weight"] if repair else None)
        )

    def _assemble(
        self,
        block: Block,
        sublayer: Sublayer,
        number: int,
        position: int,
        state: BlockState,
        repaired: torch.Tensor | None,
    ) -> torch.Tensor:
        linear, level = sublayer.linears[number], state.sparsity[position]
        inner = state.sizes(block) | {"hidden": block.hidden}
        weight = next(linear.tensors())
        dense = self._dense[block.index][weight.name]
        if repaired is not None:
            matrix = repaired.to(device=dense.device, dtype=dense.dtype)
        else:
            matrix = as_matrix(linear, sliced(weight, dense, block, inner))
        rotated = False
        if state.hidden < block.hidden:
            assert self._basis is not None
            norm = self._dense[block.index][norm_before(sublayer).name]
            matrix = narrower_linear(self._basis, linear, norm, matrix, state.hidden)
            rotated = self._basis.rotation is not None
        if level:
            if self.store is None:
                raise ValueError("a sparse state needs a level store")
            kept = self._kept(block, linear, state, repaired is None and not rotated)
            matrix = self.store.masked(
                block.index, position, matrix, level, kept, rotated and linear.columns == ("hidden",)
            )
        return as_matrix(linear, matrix).contiguous()

    def _kept(self, block: Block, linear: Linear, state: BlockState, values: bool) -> Kept:
        sizes = state.sizes(block)
        rows = kept_positions(linear.rows, linear.outputs, block, sizes)
        columns = kept_positions(linear.columns, linear.inputs, block, sizes)
        return Kept(rows, columns, values)


def widths_of(sublayer: Sublayer, state: BlockState) -> Widths:
    """What a state keeps of a sublayer, as files and memos of its weights are named by."""
    return (state.attention, state.queries) if sublayer.kind == "attention" else (state.mlp, 0)

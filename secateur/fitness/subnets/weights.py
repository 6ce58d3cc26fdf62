"""The parameters of a block in a given state: slices of the dense ones, or what was prepared for that state."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ...space.anatomy import HIDDEN, Block, Linear, Sublayer, Tensor
from ...space.bits import Bits
from ...space.state import BlockState, Outside, dense_state
from ...space.treatments import DENSE, Treatment
from ..bits.treatment import Quantised
from ..cache import read_tensors
from ..model.blocks import Blocks
from ..recent import Recent
from ..resident import Resident, Tensors
from ..room import ROOM, Room
from ..treatments import Compressor, Kept
from ..widths.axes import copied, kept_positions, sliced
from ..widths.preparation import repair_file
from ..widths.rotation import (
    Basis,
    narrower_bias,
    narrower_linear,
    narrower_norm,
    narrower_outside,
    norm_before,
    norm_number,
)
from ..zeros.level_store import as_matrix


@dataclass(frozen=True, slots=True)
class Repairs:
    """Where the repaired last linears are, and which repair it is."""

    folder: Path
    name: str


class Weights:
    """Gives the parameters of any state of a model that is dense (and permuted by importance) when this is made.

    What is a slice shares memory with the dense model; what has to be assembled is kept as far as there is `room`,
    least recently used out first.
    """

    def __init__(
        self,
        blocks: Blocks,
        compressors: Mapping[str, Compressor] | None = None,
        repairs: Repairs | None = None,
        basis: Basis | None = None,
        room: Room = ROOM,
    ) -> None:
        self.blocks, self.anatomy = blocks, blocks.anatomy
        self.compressors, self._repairs, self._basis = {} if compressors is None else compressors, repairs, basis
        for block in self.anatomy.blocks if blocks.shelf is None else ():
            blocks.dense(block.index)
        self._outside = {t.name: blocks.model.get_parameter(t.name).data for t in self.anatomy.outside}
        self._narrower: tuple[int, dict[str, torch.Tensor]] | None = None
        self._repaired = Resident(blocks.device, room.assembled)
        # What is applied is held even where the cache has let it go.
        held = blocks.size if room.stays(blocks.size) else 0
        self._assembled = Recent(room.assembled - held)

    @property
    def repairs(self) -> bool:
        """Whether the last linears of narrowed sublayers are repaired."""
        return self._repairs is not None

    def dense(self, index: int) -> Mapping[str, torch.Tensor]:
        """The parameters of the dense block, by their name in it."""
        return self.blocks.dense(index)

    def block(self, index: int, state: BlockState) -> dict[str, torch.Tensor]:
        """The parameters of the sublayers that `state` keeps, by their name in the block; added biases included."""
        block = self.anatomy.blocks[index]
        if state == dense_state(block):
            return dict(self.blocks.dense(index))
        result: dict[str, torch.Tensor] = {}
        for sublayer in block.sublayers:
            if not state.has(sublayer):
                continue
            narrowed = state.narrowed(block, sublayer)
            for tensor in sublayer.parameters():
                result[tensor.name] = self._slice(block, sublayer, tensor, state)
            if state.hidden < block.hidden:
                self._narrow_norm(block, sublayer, state, result)
            for linear in sublayer.linears:
                changed = linear.name in state.treated or (narrowed and linear is sublayer.linears[-1])
                if changed or state.hidden < block.hidden:
                    result[f"{linear.name}.weight"] = self._linear(block, sublayer, linear, state)
                    bias = self._bias(block, sublayer, linear, state)
                    if bias is not None:
                        result[f"{linear.name}.bias"] = bias
        return result

    def linear(self, index: int, position: int, state: BlockState) -> torch.Tensor:
        """One of a block's matrices, of a sublayer that `state` keeps or of what is outside, as its module has it."""
        block = self.anatomy.blocks[index]
        linear = block.matrices[position]
        if self.anatomy.is_outside(index, position):
            return self._outer(linear.name, state.hidden, state.level(linear.name))
        return self._linear(block, block.where[linear.name], linear, state)

    def packed(self, index: int, position: int, state: BlockState) -> torch.Tensor | None:
        """The packed rows (outputs, bytes) of a matrix that is stored in fewer bits; None where it is not."""
        block = self.anatomy.blocks[index]
        linear = block.matrices[position]
        level = state.level(linear.name)
        if not isinstance(level, Bits):
            return None
        quantised = self.compressors[level.name]
        assert isinstance(quantised, Quantised)
        matrix, kept = self._part(index, position, state)
        return quantised.packed((index, position), matrix, level, kept)

    def importance(self, index: int, position: int, state: BlockState) -> torch.Tensor | None:
        """What the inputs (inputs,) of a matrix in fewer bits are worth; None where nobody has looked at them."""
        quantised = self.compressors[state.level(self.anatomy.blocks[index].matrices[position].name).name]
        assert isinstance(quantised, Quantised)
        return quantised.importance((index, position), self._part(index, position, state)[1])

    def _part(self, index: int, position: int, state: BlockState) -> tuple[torch.Tensor, Kept | None]:
        """A matrix (outputs, inputs) before its level is applied, and which part of the dense one it is."""
        block = self.anatomy.blocks[index]
        linear = block.matrices[position]
        if self.anatomy.is_outside(index, position):
            return self._before_outer(linear.name, state.hidden)
        sublayer = block.where[linear.name]
        repair = self._repair(block, sublayer, linear, state)
        return self._before(block, sublayer, linear, state, repair["weight"] if repair else None)

    def bias(self, index: int, position: int, state: BlockState) -> torch.Tensor | None:
        """The bias of that linear, which may be one that a repair adds; None where there is none."""
        block = self.anatomy.blocks[index]
        linear = block.linears[position]
        return self._bias(block, block.where[linear.name], linear, state)

    def untreated(self, index: int, position: int, state: BlockState) -> torch.Tensor | None:
        """That linear's matrix (outputs, inputs) before its level is applied; None where it is a rotated one."""
        if state.hidden < self.anatomy.hidden_size and self._basis is not None and self._basis.rotation is not None:
            return None
        linear = self.anatomy.blocks[index].linears[position]
        return as_matrix(linear, self.linear(index, position, state.with_treated({linear.name: DENSE})))

    def outside(self, outside: Outside) -> dict[str, torch.Tensor]:
        """The parameters outside the blocks, by the names they have in a model of that residual width."""
        found = self._untreated_outside(outside.hidden)
        if not outside.treated:
            return found
        treated = {f"{name}.weight": self._outer(name, outside.hidden, level) for name, level in outside.treated}
        return {**found, **treated}

    def _outer(self, name: str, hidden: int, level: Treatment) -> torch.Tensor:
        """Embedding or head at a level."""
        if not level:
            return self._untreated_outside(hidden)[f"{name}.weight"]
        place, compressor = self.anatomy.places_outside[name], self.compressors[level.name]
        matrix, kept = self._before_outer(name, hidden)
        key = ("outside", name, hidden, level)
        return self._assembled.get(key, lambda: compressor.weight(place, matrix, level, kept))

    def _before_outer(self, name: str, hidden: int) -> tuple[torch.Tensor, Kept | None]:
        """Embedding or head (tokens, hidden) before its level is applied, and which part of the dense one it is."""
        block = self.anatomy.blocks[self.anatomy.places_outside[name][0]]
        matrix = self._untreated_outside(hidden)[f"{name}.weight"]
        if hidden == self.anatomy.hidden_size:
            return matrix, None
        rows = torch.arange(len(matrix), device=matrix.device)
        columns = kept_positions((HIDDEN,), block.hidden, block, {**block.dimensions, HIDDEN: hidden}, matrix.device)
        rotated = self._basis is not None and self._basis.rotation is not None
        return matrix, Kept(rows, columns, not rotated, rotated, (hidden,))

    def _untreated_outside(self, hidden: int) -> dict[str, torch.Tensor]:
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
        values = self.blocks.dense(block.index)[tensor.name]
        if not copied(tensor, block, state.kept):
            return sliced(tensor, values, block, state.kept)
        key = ("slice", block.index, tensor.name, state.widths(sublayer), state.hidden)
        return self._assembled.get(key, lambda: sliced(tensor, values, block, state.kept))

    def _narrow_norm(
        self, block: Block, sublayer: Sublayer, state: BlockState, result: dict[str, torch.Tensor]
    ) -> None:
        assert self._basis is not None
        norm = norm_before(sublayer)
        number = norm_number(self.anatomy, block, sublayer)
        result[norm.name] = narrower_norm(self._basis, self.blocks.dense(block.index)[norm.name], number, state.hidden)

    def _repair(self, block: Block, sublayer: Sublayer, linear: Linear, state: BlockState) -> Tensors | None:
        """What is repaired of a linear: of the last one of a narrowed sublayer, weight and bias."""
        if self._repairs is None or linear is not sublayer.linears[-1] or not state.narrowed(block, sublayer):
            return None
        widths = state.widths(sublayer)
        path = repair_file(self._repairs.folder, block.index, sublayer.name, widths, self._repairs.name)
        return self._repaired.get(path, lambda: read_tensors(path))

    def _bias(self, block: Block, sublayer: Sublayer, linear: Linear, state: BlockState) -> torch.Tensor | None:
        """The bias of a linear, with what a repair of its narrowed sublayer adds to the last one's."""
        own, dense = None, self.blocks.dense(block.index)
        for tensor in linear.tensors():
            if tensor.name == f"{linear.name}.bias":
                if state.hidden < block.hidden and linear.rows == (HIDDEN,):
                    own = self._in_stream(dense[tensor.name], state)
                else:
                    own = self._slice(block, sublayer, tensor, state)
        repair = self._repair(block, sublayer, linear, state)
        if repair is None or "bias" not in repair:
            return own
        added = repair["bias"].to(dense[f"{linear.name}.weight"].dtype)
        added = self._in_stream(added, state) if state.hidden < block.hidden else added
        return added if own is None else own + added

    def _in_stream(self, bias: torch.Tensor, state: BlockState) -> torch.Tensor:
        """What is added to a narrower residual stream."""
        assert self._basis is not None
        return narrower_bias(self._basis, bias, state.hidden)

    def _linear(self, block: Block, sublayer: Sublayer, linear: Linear, state: BlockState) -> torch.Tensor:
        level, shape = state.level(linear.name), linear.shape(state.sizes(block))
        repair = self._repair(block, sublayer, linear, state)
        if not level and shape == (linear.outputs, linear.inputs):
            return self.blocks.dense(block.index)[f"{linear.name}.weight"]
        narrow_hidden = state.hidden < block.hidden
        if not level and repair is None and not (narrow_hidden and self._basis and self._basis.rotation is not None):
            return self._slice(block, sublayer, next(linear.tensors()), state)
        widths = () if shape == (linear.outputs, linear.inputs) else state.widths(sublayer)
        key = (block.index, linear.name, widths, state.hidden, level)
        return self._assembled.get(
            key, lambda: self._assemble(block, sublayer, linear, state, repair["weight"] if repair else None)
        )

    def _assemble(
        self, block: Block, sublayer: Sublayer, linear: Linear, state: BlockState, repaired: torch.Tensor | None
    ) -> torch.Tensor:
        level = state.level(linear.name)
        matrix, kept = self._before(block, sublayer, linear, state, repaired)
        if level:
            compressor = self.compressors.get(level.name)
            if compressor is None:
                raise ValueError(f"nothing here carries out {level.name}")
            matrix = compressor.weight((block.index, block.linears.index(linear)), matrix, level, kept)
        return as_matrix(linear, matrix).contiguous()

    def _before(
        self, block: Block, sublayer: Sublayer, linear: Linear, state: BlockState, repaired: torch.Tensor | None
    ) -> tuple[torch.Tensor, Kept | None]:
        """A linear's matrix (outputs, inputs) before its level is applied, and which part of the dense one it is."""
        weight = next(linear.tensors())
        dense = self.blocks.dense(block.index)[weight.name]
        if repaired is not None:
            matrix = repaired.to(dense.dtype)
        else:
            inner = {**state.kept, HIDDEN: block.hidden}
            matrix = as_matrix(linear, sliced(weight, dense, block, inner))
        rotated = False
        if state.hidden < block.hidden:
            assert self._basis is not None
            norm = self.blocks.dense(block.index)[norm_before(sublayer).name]
            matrix = narrower_linear(self._basis, linear, norm, matrix, state.hidden)
            rotated = self._basis.rotation is not None
        if repaired is None and matrix.shape == (linear.outputs, linear.inputs):
            return matrix, None
        rows = kept_positions(linear.rows, linear.outputs, block, state.kept, dense.device)
        columns = kept_positions(linear.columns, linear.inputs, block, state.kept, dense.device)
        unchanged = repaired is None and not rotated
        widths = (*state.widths(sublayer), state.hidden)
        return matrix, Kept(rows, columns, unchanged, rotated and linear.columns == (HIDDEN,), widths)

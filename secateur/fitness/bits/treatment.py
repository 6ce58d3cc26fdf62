"""Fewer bits as a treatment: packed rows of every linear and type, made once, kept on disk, taken apart where used."""

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from pathlib import Path

import torch

from ...space.anatomy import Block
from ...space.bits import TYPES, Bits
from ...space.errors import SecateurError
from ...space.space import Space
from ...space.treatments import Treatment
from ..cache import cache_folder, digest, read_tensors, usable, write_tensors
from ..recent import Recent
from ..resident import Resident, Tensors
from ..treatments import Ground, Kept, Position, Watch
from ..zeros.level_store import as_matrix
from ..zeros.preparation import block_statistics, input_norms
from .decoding import decode
from .encoding import by_library, encode, library

VERSION = 1
"""Part of every store's address: raise it when a type's rows change."""
IMPORTANCE = "importance"
"""The quantizer that looks at text, and the plane with what it has seen."""
TRAINED = "training holds types of few bits to the nearest, not by importance: search with quantizer: nearest"
"""Why levels that were made otherwise are not trained."""
NARROWER_BYTES = 2**26
"""Of packed rows of narrower linears."""


def types_of(block: Block, levels: Iterable[Treatment]) -> set[str]:
    """The types that levels are in the whole linears of a block."""
    inputs = {linear.inputs for linear in block.linears}
    return {level.at(count).kind for level in levels if isinstance(level, Bits) for count in inputs}


def check_types(space: Space, quantizer: str) -> None:
    """Raises SecateurError where a type of the space's levels cannot be made on this machine by a quantizer."""
    blocks = space.anatomy.blocks
    _check(
        {kind for gene in space.genes for block in gene.blocks for kind in types_of(blocks[block], gene.treatments)},
        quantizer == IMPORTANCE,
    )


def packed_bytes(space: Space) -> int:
    """What the store of all levels of a space takes on disk."""
    total = 0
    for block in space.anatomy.blocks:
        levels = {level for gene in space.genes if block.index in gene.blocks for level in gene.treatments}
        for kind in types_of(block, levels):
            own = [linear for linear in block.linears if linear.inputs % TYPES[kind].block == 0]
            total += sum(Bits(kind).bytes(linear.outputs, linear.inputs, 0) for linear in own)
    return total


def _check(kinds: Iterable[str], weighted: bool) -> None:
    for kind in sorted(kinds):
        # Made of nothing, it says what is missing.
        one = torch.ones(TYPES[kind].block)
        encode(kind, one[None], one if weighted else None)


class Quantised:
    """Linears in llama.cpp's types, bit for bit as its quantizer makes them of the same matrix and importance.

    A store is a folder named by what went into it. It has one safetensors file per block and type, of packed rows, and
    where text is looked at one per block with the mean squares of the linears' inputs, the importance matrix.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground, blocks = ground, ground.blocks
        self.quantizer = ground.quantizer or IMPORTANCE
        self._looks = self.quantizer == IMPORTANCE
        text = ground.text.digest if self._looks else ""
        self.folder = cache_folder() / "levels" / f"bits-{digest(VERSION, ground.digest, self.quantizer, text)}"
        self.anatomy = blocks.anatomy
        self._planes = Resident(blocks.device, ground.room)
        self._narrower = Recent(NARROWER_BYTES)
        self._kinds: set[str] = set()

    @property
    def identity(self) -> str:
        """The version of the store, the name of its folder, and where not all comes from gguf the library's version."""
        made = sorted({self._maker(kind) for kind in self._kinds} - {""})
        return " ".join([str(VERSION), self.folder.name, *made])

    def prepare(self, wanted: Mapping[int, Collection[Treatment]], watch: Watch) -> None:
        """Fills the store, block by block.

        Raises:
            SecateurError: a type cannot be made here, or the cache is damaged or cannot be written.
        """
        kinds = {index: types_of(self.anatomy.blocks[index], levels) for index, levels in wanted.items()}
        self._kinds |= set().union(*kinds.values())
        _check(self._kinds, self._looks)
        if self._looks:
            self._measure(sorted(kinds), watch)
        todo = [
            (index, kind)
            for index in sorted(kinds)
            for kind in sorted(kinds[index])
            if not usable(self._file(index, kind))
        ]
        for done, (index, kind) in enumerate(todo):
            watch(done, len(todo))
            write_tensors(self._file(index, kind), self._rows(index, kind))
        if todo:
            watch(len(todo), len(todo))

    def weight(self, place: Position, matrix: torch.Tensor, level: Treatment, kept: Kept | None) -> torch.Tensor:
        """What the packed rows stand for, in the matrix's dtype."""
        assert isinstance(level, Bits)
        kind = level.at(matrix.shape[1]).kind
        return decode(kind, self.packed(place, matrix, level, kept)).to(matrix.dtype)

    def packed(self, place: Position, matrix: torch.Tensor, level: Bits, kept: Kept | None) -> torch.Tensor:
        """Rows (outputs, bytes) of a matrix (outputs, inputs); see `Compressor.weight` for the rest."""
        kind = level.at(matrix.shape[1]).kind
        if kept is None:
            return self._plane(place[0], kind)[self.anatomy.blocks[place[0]].linears[place[1]].name]
        key = place, kind, kept.widths, kept.rotated
        return self._narrower.get(key, lambda: self._encoded(place, matrix, kind, kept))

    def hold(self, level: Treatment, matrix: torch.Tensor, live: torch.Tensor) -> torch.Tensor:
        """To the nearest of the level, where gradients pass as if it was not done (straight-through).

        Raises:
            SecateurError: levels are weighted by importance, and would not be held as they were made.
        """
        assert isinstance(level, Bits)
        if self._looks:
            raise SecateurError(TRAINED)
        kind = level.at(matrix.shape[1]).kind
        with torch.no_grad():
            held = decode(kind, encode(kind, matrix).to(matrix.device)).to(matrix.dtype)
        return matrix + (held - matrix).detach()

    # -- making ----------------------------------------------------------------------------------------------------

    def _maker(self, kind: str) -> str:
        """What decides how the rows of a type come out, besides gguf's own rules; empty: nothing."""
        found = library() if by_library(kind, self._looks) else None
        return found.version if found is not None else ""

    def _file(self, index: int, kind: str) -> Path:
        maker = self._maker(kind) if kind in TYPES else ""
        return self.folder / f"block-{index:03d}.{kind}{f'.{digest(maker)[:8]}' if maker else ''}.safetensors"

    def _measure(self, indices: list[int], watch: Watch) -> None:
        """Has the importance of every block's inputs on disk."""
        todo = [index for index in indices if not usable(self._file(index, IMPORTANCE))]
        if not todo:
            return
        ground, blocks = self._ground, self._ground.blocks
        watch(0, len(todo))
        for block, hidden in blocks.inputs(ground.text.ids, todo[-1] + 1):
            if block.index in todo:
                found = block_statistics(blocks, block, hidden, gram=ground.rotation is not None)
                count = next(iter(found.values())).count
                sums = input_norms(blocks.dense(block.index), block, found, ground.rotation)
                means = {name: (value.double() / count).float() for name, value in sums.items()}
                write_tensors(self._file(block.index, IMPORTANCE), means)
                watch(todo.index(block.index) + 1, len(todo))

    def _importance(self, index: int, linear: str, rotated: bool = False) -> torch.Tensor | None:
        if not self._looks:
            return None
        return self._plane(index, IMPORTANCE)[f"{linear}@rotated" if rotated else linear]

    def _rows(self, index: int, kind: str) -> dict[str, torch.Tensor]:
        """Of every linear of a block whose rows are whole blocks of the type."""
        parameters, found = self._ground.blocks.dense(index), {}
        for linear in self.anatomy.blocks[index].linears:
            if linear.inputs % TYPES[kind].block == 0:
                matrix = as_matrix(linear, parameters[f"{linear.name}.weight"])
                found[linear.name] = encode(kind, matrix, self._importance(index, linear.name))
        return found

    def _encoded(self, place: Position, matrix: torch.Tensor, kind: str, kept: Kept) -> torch.Tensor:
        index, position = place
        importance = self._importance(index, self.anatomy.blocks[index].linears[position].name, kept.rotated)
        own = None if importance is None else importance[kept.columns]
        return encode(kind, matrix, own).to(matrix.device)

    def _plane(self, index: int, kind: str) -> Tensors:
        """On the model's device."""
        read: Callable[[], Tensors] = partial(read_tensors, self._file(index, kind))
        return self._planes.get((index, kind), read)

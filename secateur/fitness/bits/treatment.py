"""Fewer bits as a treatment: packed rows of every linear and type, made once, kept on disk, taken apart where used."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from ...space.anatomy import Anatomy
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
AT_ONCE = 2**24
"""Weights that are taken apart together."""


Wanted = Mapping[Position, Collection[Treatment]]
"""Levels, by the matrix that they are of."""


@dataclass(frozen=True, slots=True)
class Planes:
    """What a store has to hold: types, of all linears of a block together, and of each matrix outside."""

    blocks: Mapping[int, set[str]]
    outside: Mapping[Position, set[str]]

    def kinds(self) -> tuple[set[str], set[str]]:
        """In blocks, and outside."""
        return set().union(*self.blocks.values()), set().union(*self.outside.values())


def planes_of(anatomy: Anatomy, wanted: Wanted) -> Planes:
    """The types that levels are in whole matrices."""
    blocks: dict[int, set[str]] = {}
    outside: dict[Position, set[str]] = {}
    for (index, position), levels in wanted.items():
        block = anatomy.blocks[index]
        inputs = block.matrices[position].inputs
        kinds = {level.at(inputs).kind for level in levels if isinstance(level, Bits)}
        if position < len(block.linears):
            blocks.setdefault(index, set()).update(kinds)
        else:
            outside[index, position] = kinds
    return Planes(blocks, outside)


def wanted_of(space: Space) -> Wanted:
    """All levels of a space."""
    found: dict[Position, set[Treatment]] = {}
    for gene in space.genes:
        for member in gene.members if gene.treatments else ():
            found.setdefault(member, set()).update(filter(None, gene.treatments))
    return found


def check_types(space: Space, quantizer: str) -> None:
    """Raises SecateurError where a type of the space's levels cannot be made on this machine by a quantizer."""
    _check(planes_of(space.anatomy, wanted_of(space)), quantizer == IMPORTANCE)


def packed_bytes(space: Space) -> int:
    """What the store of all levels of a space takes on disk."""
    planes, blocks = planes_of(space.anatomy, wanted_of(space)), space.anatomy.blocks
    stored = [
        (linear, kind) for index, kinds in planes.blocks.items() for linear in blocks[index].linears for kind in kinds
    ]
    stored += [(blocks[index].matrices[n], kind) for (index, n), kinds in planes.outside.items() for kind in kinds]
    return sum(
        Bits(kind).bytes(matrix.outputs, matrix.inputs, 0)
        for matrix, kind in stored
        if matrix.inputs % TYPES[kind].block == 0
    )


def _check(planes: Planes, weighted: bool) -> None:
    inside, outside = planes.kinds()
    for kinds, looks in ((inside, weighted), (outside, False)):
        for kind in sorted(kinds):
            # Made of nothing, it says what is missing.
            one = torch.ones(TYPES[kind].block)
            try:
                encode(kind, one[None], one if looks else None)
            except SecateurError as error:
                if kinds is inside or not TYPES[kind].needs_importance:
                    raise
                raise SecateurError(
                    f"bits: {kind} needs an importance matrix, which embedding and head have none of"
                ) from error


class Quantised:
    """Matrices in llama.cpp's types, bit for bit as its quantizer makes them of the same matrix and importance.

    A store is a folder named by what went into it. It has one safetensors file per block and type, of packed rows, and
    where text is looked at one per block with the mean squares of the linears' inputs, the importance matrix. Embedding
    and head have files of their own and, as in llama.cpp, no importance.
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
        self._kinds: set[tuple[str, bool]] = set()

    @property
    def identity(self) -> str:
        """The version of the store, the name of its folder, and where not all comes from gguf the library's version."""
        made = sorted({self._maker(kind, looks) for kind, looks in self._kinds} - {""})
        return " ".join([str(VERSION), self.folder.name, *made])

    def prepare(self, wanted: Wanted, watch: Watch) -> None:
        """Fills the store, block by block, then what is outside.

        Raises:
            SecateurError: a type cannot be made here, or the cache is damaged or cannot be written.
        """
        planes = planes_of(self.anatomy, wanted)
        _check(planes, self._looks)
        inside, outside = planes.kinds()
        self._kinds |= {(kind, self._looks) for kind in inside} | {(kind, False) for kind in outside}
        if self._looks:
            self._measure(sorted(planes.blocks), watch)
        places = [((index, 0), kinds) for index, kinds in planes.blocks.items()] + list(planes.outside.items())
        todo = [
            (place, kind)
            for place, kinds in sorted(places, key=lambda pair: (self._is_outside(pair[0]), pair[0]))
            for kind in sorted(kinds)
            if not usable(self._file(place, kind))
        ]
        for done, (place, kind) in enumerate(todo):
            watch(done, len(todo))
            write_tensors(self._file(place, kind), self._rows(place, kind))
        if todo:
            watch(len(todo), len(todo))

    def weight(self, place: Position, matrix: torch.Tensor, level: Treatment, kept: Kept | None) -> torch.Tensor:
        """What the packed rows stand for, in the matrix's dtype."""
        assert isinstance(level, Bits)
        kind = level.at(matrix.shape[1]).kind
        rows = self.packed(place, matrix, level, kept)
        found = torch.empty_like(matrix, memory_format=torch.contiguous_format)
        count = max(1, AT_ONCE // matrix.shape[1])
        for start in range(0, len(matrix), count):
            found[start : start + count] = decode(kind, rows[start : start + count])
        return found

    def packed(self, place: Position, matrix: torch.Tensor, level: Bits, kept: Kept | None) -> torch.Tensor:
        """Rows (outputs, bytes) of a matrix (outputs, inputs); see `Compressor.weight` for the rest."""
        kind = level.at(matrix.shape[1]).kind
        if kept is None:
            return self._plane(place, kind)[self.anatomy.blocks[place[0]].matrices[place[1]].name]
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

    def _maker(self, kind: str, looks: bool) -> str:
        """What decides how the rows of a type come out, besides gguf's own rules; empty: nothing.

        `looks`: at importance.
        """
        found = library() if by_library(kind, looks) else None
        return found.version if found is not None else ""

    def _is_outside(self, place: Position) -> bool:
        return place[1] >= len(self.anatomy.blocks[place[0]].linears)

    def _file(self, place: Position, kind: str) -> Path:
        """Of a block, or of one matrix outside."""
        outside = self._is_outside(place)
        maker = self._maker(kind, self._looks and not outside) if kind in TYPES else ""
        what = self.anatomy.matrix_name(*place) if outside else f"block-{place[0]:03d}"
        return self.folder / f"{what}.{kind}{f'.{digest(maker)[:8]}' if maker else ''}.safetensors"

    def _measure(self, indices: list[int], watch: Watch) -> None:
        """Has the importance of every block's inputs on disk."""
        todo = [index for index in indices if not usable(self._file((index, 0), IMPORTANCE))]
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
                write_tensors(self._file((block.index, 0), IMPORTANCE), means)
                watch(todo.index(block.index) + 1, len(todo))

    def _importance(self, place: Position, rotated: bool = False) -> torch.Tensor | None:
        if not self._looks or self._is_outside(place):
            return None
        linear = self.anatomy.blocks[place[0]].linears[place[1]].name
        return self._plane((place[0], 0), IMPORTANCE)[f"{linear}@rotated" if rotated else linear]

    def _rows(self, place: Position, kind: str) -> dict[str, torch.Tensor]:
        """Of every linear of a block whose rows are whole blocks of the type; or of the one matrix outside."""
        index, blocks = place[0], self._ground.blocks
        if self._is_outside(place):
            name = self.anatomy.matrix_name(*place)
            return {name: encode(kind, blocks.model.get_parameter(f"{name}.weight").data)}
        parameters, found = blocks.dense(index), {}
        for position, linear in enumerate(self.anatomy.blocks[index].linears):
            if linear.inputs % TYPES[kind].block == 0:
                matrix = as_matrix(linear, parameters[f"{linear.name}.weight"])
                found[linear.name] = encode(kind, matrix, self._importance((index, position)))
        return found

    def _encoded(self, place: Position, matrix: torch.Tensor, kind: str, kept: Kept) -> torch.Tensor:
        importance = self._importance(place, kept.rotated)
        own = None if importance is None else importance[kept.columns]
        return encode(kind, matrix, own).to(matrix.device)

    def _plane(self, place: Position, kind: str) -> Tensors:
        """On the model's device."""
        file = self._file(place, kind)
        read: Callable[[], Tensors] = partial(read_tensors, file)
        return self._planes.get(file, read)

"""Fewer bits as a treatment: packed rows of every linear and type, made once, kept on disk, taken apart where used."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import torch

from ...space.anatomy import Block
from ...space.bits import TYPES
from ...space.both import Both
from ...space.errors import SecateurError
from ...space.kinds.bits import read as level_of
from ...space.treatments import Treatment
from ..cache import cache_folder, digest, read_tensors, usable, write_tensors
from ..recent import Recent
from ..resident import Resident, Tensors
from ..treatments import Ground, Kept, Position, Wanted, Watch
from ..widths.rotation import norm_before
from ..zeros.level_store import as_matrix
from ..zeros.preparation import block_statistics, input_norms
from .encoding import by_library, library
from .planes import check_planes, planes_of, reads_with
from .rows import GPTQ, IMPORTANCE, LOOKING, NEAREST, name_of, pruned, rows_of, weights_of

VERSION = 2
"""Part of every store's address: raise it when a type's rows change."""
TRAINED = "training holds levels of few bits to the nearest: search with quantizer: nearest"
"""Why levels that were made otherwise are not trained."""
NARROWER_BYTES = 2**26
"""Of packed rows of narrower linears."""
AT_ONCE = 2**24
"""Weights that are taken apart together."""


class Quantised:
    """Matrices in fewer bits; those of llama.cpp's types bit for bit as its quantizer makes them of the same matrix and
    importance.

    A store is a folder named by what went into it. It has one safetensors file per block and type, of packed rows, and
    where text is looked at one per block with what was seen of the linears' inputs: their mean squares, the importance
    matrix; or their products with each other, once for all that read the same, where linears may become narrower (their
    diagonals where not). Embedding and head have files of their own and, as in llama.cpp, nothing that was seen.
    """

    from_before = True

    def __init__(self, ground: Ground) -> None:
        self._ground, blocks = ground, ground.blocks
        self.quantizer = ground.quantizer or IMPORTANCE
        self._looks = self.quantizer in LOOKING
        text = ground.text.digest if self._looks else ""
        if ground.importances is not None:
            text = ground.importances.digest
        self.folder = cache_folder() / "levels" / f"bits-{digest(VERSION, ground.digest, self.quantizer, text)}"
        self.anatomy = blocks.anatomy
        self._planes = Resident(blocks.device, ground.room)
        self._narrower = Recent(NARROWER_BYTES)
        self._kinds: set[tuple[str, bool]] = set()
        self._held: dict[int, Tensors] = {}

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
        check_planes(planes, self.quantizer)
        inside, outside = planes.kinds()
        self._kinds |= {(kind, self._looks) for kind in inside} | {(kind, False) for kind in outside}
        beside = {self.quantizer} if self._looks and self._keeps else set()
        needed = {(index, 0): planes.blocks[index] | beside for index in sorted(planes.blocks)}
        needed |= dict(sorted(planes.outside.items()))
        missing = {
            place: [kind for kind in sorted(kinds) if not usable(self._file(place, kind))]
            for place, kinds in needed.items()
        }
        todo = [place for place, kinds in missing.items() if kinds]
        for done, place in enumerate(self._in_turn(todo)):
            watch(done, len(todo))
            for kind in missing[place]:
                if kind != self.quantizer:
                    write_tensors(self._file(place, kind), self._rows(place, kind))
            self._held.pop(place[0], None)
        if todo:
            watch(len(todo), len(todo))

    def weight(self, place: Position, matrix: torch.Tensor, level: Treatment, kept: Kept | None) -> torch.Tensor:
        """What the packed rows stand for, in the matrix's dtype."""
        name = self._name(level, matrix)
        rows = self.packed(place, matrix, level, kept)
        found = torch.empty_like(matrix, memory_format=torch.contiguous_format)
        count = max(1, AT_ONCE // matrix.shape[1])
        for start in range(0, len(matrix), count):
            found[start : start + count] = weights_of(name, rows[start : start + count], matrix.shape[1])
        return found

    def packed(self, place: Position, matrix: torch.Tensor, level: Treatment, kept: Kept | None) -> torch.Tensor:
        """Rows (outputs, bytes) of a matrix (outputs, inputs); see `Compressor.weight` for the rest."""
        name = self._name(level, matrix)
        if kept is None:
            return self._plane(place, name)[self.anatomy.blocks[place[0]].matrices[place[1]].name]
        key = place, name, kept.widths, kept.rotated
        return self._narrower.get(key, lambda: self._encoded(place, matrix, name, kept))

    def hold(self, level: Treatment, matrix: torch.Tensor, began: torch.Tensor) -> torch.Tensor:
        """To the nearest of the level, where gradients pass as if it was not done (straight-through).

        Raises:
            SecateurError: levels are made otherwise, and would not be held as they were made.
        """
        if self.quantizer != NEAREST:
            raise SecateurError(TRAINED)
        if isinstance(level, Both):
            # Its zeros stay where they were made, and the rest is on its grid.
            matrix, level = torch.where(pruned(began, level.zeros_of), 0.0, matrix), level.grid
        name = self._name(level, matrix)
        with torch.no_grad():
            rows = rows_of(name, matrix, NEAREST).to(matrix.device)
            held = weights_of(name, rows, matrix.shape[1]).to(matrix.dtype)
        return matrix + (held - matrix).detach()

    def importance(self, place: Position, kept: Kept | None) -> torch.Tensor | None:
        """Mean squares of the inputs (inputs,) that are kept of a linear, or of all linears' one multiple of them; None
        where they were not looked at."""
        seen = self._seen_of(place, kept)
        return seen if seen is None or seen.dim() == 1 else seen.diagonal()

    # -- making ----------------------------------------------------------------------------------------------------

    @property
    def _keeps(self) -> bool:
        """Whether what was seen of inputs is kept."""
        return self._looks and self._ground.importances is None

    def _name(self, level: Treatment, matrix: torch.Tensor) -> str:
        name = name_of(level, matrix.shape[1])
        assert name is not None
        return name

    def _maker(self, kind: str, looks: bool) -> str:
        """What decides how the rows of a type come out, besides the rules of gguf and our own; empty: nothing.

        `looks`: at importance.
        """
        found = library() if kind in TYPES and by_library(kind, looks) else None
        return found.version if found is not None else ""

    def _file(self, place: Position, kind: str) -> Path:
        """Of a block, or of one matrix outside."""
        outside = self.anatomy.is_outside(*place)
        maker = self._maker(kind, self._looks and not outside)
        what = self.anatomy.matrix_name(*place) if outside else f"block-{place[0]:03d}"
        kind = kind.replace(":", "of")  # which some file systems do not have in names
        return self.folder / f"{what}.{kind}{f'.{digest(maker)[:8]}' if maker else ''}.safetensors"

    def _in_turn(self, places: list[Position]) -> Iterable[Position]:
        """The places; of blocks, what is seen of their inputs is there as long as it is their turn."""
        inside = [place for place in places if not self.anatomy.is_outside(*place)]
        if not self._looks or not inside or self._ground.importances is not None:
            yield from places
            return
        ground, blocks = self._ground, self._ground.blocks
        looked = {place[0] for place in inside}
        for block, hidden in blocks.inputs(ground.text.ids, max(looked) + 1):
            if block.index in looked:
                if not self._keeps or not usable(self._file((block.index, 0), self.quantizer)):
                    self._look(block, hidden)
                yield block.index, 0
        yield from (place for place in places if self.anatomy.is_outside(*place))

    def _look(self, block: Block, hidden: list[torch.Tensor]) -> None:
        """Has what is to be seen of a block's inputs at hand, and on disk where it is kept."""
        ground = self._ground
        products = self.quantizer == GPTQ
        found = block_statistics(ground.blocks, block, hidden, gram=products or ground.rotation is not None)
        parameters = ground.blocks.dense(block.index)
        if products:
            told = {reads_with(block, name) for name in found}
            seen = {name: one.gram.float() for name, one in found.items() if name in told and one.gram is not None}
            if ground.rotation is not None:
                for sublayer in block.sublayers:
                    view = ground.rotation.float() / parameters[norm_before(sublayer).name].float()[:, None]
                    first = sublayer.linears[0].name
                    seen[f"{first}@rotated"] = view.T @ seen[first] @ view
        else:
            count = next(iter(found.values())).count
            sums = input_norms(parameters, block, found, ground.rotation)
            seen = {name: (value.double() / count).float() for name, value in sums.items()}
        self._held[block.index] = seen
        if self._keeps:
            # Products take much, and are of use where linears become narrower; of others their diagonal is.
            squares = products and not ground.narrower
            kept = {name: value.diagonal().clone() for name, value in seen.items()} if squares else seen
            write_tensors(self._file((block.index, 0), self.quantizer), kept)

    def _seen(self, place: Position, rotated: bool = False) -> torch.Tensor | None:
        """Of the inputs of a linear, mean squares (inputs,) or products (inputs, inputs)."""
        if not self._looks or self.anatomy.is_outside(*place):
            return None
        if (given := self._ground.importances) is not None:
            return given.values[self.anatomy.matrix_name(*place)].to(self._ground.blocks.device)
        held = self._held.get(place[0])
        tensors = held if held is not None else self._plane((place[0], 0), self.quantizer)
        block = self.anatomy.blocks[place[0]]
        linear = block.linears[place[1]].name
        linear = reads_with(block, linear) if self.quantizer == GPTQ else linear
        return tensors[f"{linear}@rotated" if rotated else linear]

    def _rows(self, place: Position, kind: str) -> dict[str, torch.Tensor]:
        """Of every linear of a block that the type fits; or of the one matrix outside."""
        index, blocks = place[0], self._ground.blocks
        if self.anatomy.is_outside(*place):
            name = self.anatomy.matrix_name(*place)
            return {name: rows_of(kind, blocks.model.get_parameter(f"{name}.weight").data, self.quantizer)}
        parameters, found = blocks.dense(index), {}
        for position, linear in enumerate(self.anatomy.blocks[index].linears):
            if linear.inputs % level_of(kind).multiple == 0:
                matrix = as_matrix(linear, parameters[f"{linear.name}.weight"])
                found[linear.name] = rows_of(kind, matrix, self.quantizer, self._seen((index, position)))
        return found

    def _encoded(self, place: Position, matrix: torch.Tensor, kind: str, kept: Kept) -> torch.Tensor:
        return rows_of(kind, matrix, self.quantizer, self._seen_of(place, kept)).to(matrix.device)

    def _seen_of(self, place: Position, kept: Kept | None) -> torch.Tensor | None:
        """Of the inputs that are kept."""
        seen = self._seen(place, kept is not None and kept.rotated)
        if seen is None or kept is None:
            return seen
        seen = seen[kept.columns]
        return seen[:, kept.columns] if seen.dim() > 1 else seen

    def _plane(self, place: Position, kind: str) -> Tensors:
        """On the model's device."""
        file = self._file(place, kind)
        read: Callable[[], Tensors] = partial(read_tensors, file)
        return self._planes.get(file, read)

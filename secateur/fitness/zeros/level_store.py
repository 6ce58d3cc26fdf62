"""What each sparsity level's weights are: prepared once, kept on disk, memory-mapped, shared by every run.

A store is a folder named by what went into it: the model, the calibration text, the pruner. It has one safetensors file
per block and *plane*. For nested pruners a plane is one byte a weight and serves all unstructured levels (`steps`), or
all patterns N:M of one M (`of-4`); for pruners that update weights it is one level, survivors and a bit mask.
"""

from collections.abc import Iterable
from pathlib import Path

import torch

from ...space.anatomy import Linear
from ...space.errors import SecateurError, suggest
from ...space.treatments import Sparsity
from ..cache import read_tensors
from ..model.blocks import Blocks
from ..recent import Recent
from ..resident import RESIDENT_BYTES, Resident, Tensors
from ..treatments import Kept
from .nested import NESTED, Statistics, plane
from .nested import kept as survivors
from .updating import UPDATING, unpack_survivors

PRUNERS = (*NESTED, *UPDATING)
INPUTS = "inputs"
"""The plane with the squared norms of the linears' inputs, by which narrower linears are pruned."""
NARROWER_BYTES = 2**26
"""Of planes of narrower linears, one byte a weight, which take a sorting each."""
VERSION = 2
"""Part of every store's address: raise it when a pruner's result changes."""


def needs_text(pruner: str) -> bool:
    """Whether a pruner looks at activations; raises SecateurError for an unknown one."""
    if pruner not in PRUNERS:
        raise SecateurError(f"pruner '{pruner}'; {suggest(pruner, PRUNERS)}")
    return pruner in UPDATING or NESTED[pruner].needs_text


def needs_inputs(pruner: str) -> bool:
    """Whether it prunes narrower linears by the norms of their inputs."""
    return pruner in NESTED and NESTED[pruner].needs_text


def plane_name(pruner: str, level: Sparsity) -> str:
    """The plane of a store that holds `level`."""
    if pruner in UPDATING:
        return f"level-{str(level).replace(':', 'of')}"
    return f"of-{level.of}" if level.of else "steps"


def plane_file(folder: Path, block: int, plane: str) -> Path:
    """Where a block's plane of a store is kept."""
    return folder / f"block-{block:03d}.{plane}.safetensors"


def as_matrix(linear: Linear, weight: torch.Tensor) -> torch.Tensor:
    """(outputs, inputs) from the layout of the module, and back: Conv1D stores the transpose."""
    return weight.T if linear.transposed else weight


class LevelStore:
    """Reads weights of a model at a level."""

    def __init__(self, folder: Path, pruner: str, blocks: Blocks, room: int = RESIDENT_BYTES) -> None:
        """`room`: bytes of planes that are held ready."""
        self.folder, self.pruner, self.anatomy, self._blocks = folder, pruner, blocks.anatomy, blocks
        self._dying: dict[tuple[int, int, str], torch.Tensor] = {}
        self._planes = Resident(blocks.device, room)
        self._narrower = Recent(NARROWER_BYTES)

    def check(self, levels: Iterable[Sparsity], blocks: Iterable[int], inputs: bool = False) -> None:
        """Opens every file that will be needed; raises SecateurError when one is missing, truncated or damaged."""
        planes = {plane_name(self.pruner, level) for level in levels if level}
        planes |= {INPUTS} if inputs and needs_inputs(self.pruner) else set()
        for block in blocks:
            for name in planes:
                self._file(block, name)

    def dense(self, block: int, linear: int) -> torch.Tensor:
        """The weight of the dense model."""
        return self._blocks.dense(block)[f"{self.anatomy.blocks[block].linears[linear].name}.weight"]

    def weight(self, block: int, linear: int, level: Sparsity) -> torch.Tensor:
        """The weight of a linear at `level`, in the layout and dtype of its module; the dense tensor itself at 0."""
        dense = self.dense(block, linear)
        if not level:
            return dense
        shape = self.anatomy.blocks[block].linears[linear]
        if self.pruner in NESTED:
            tensors = self._plane(block, plane_name(self.pruner, level))
            mask = survivors(as_matrix(shape, tensors[shape.name]), level)
            return dense * as_matrix(shape, mask)
        matrix = self._survivors(block, linear, level)
        return as_matrix(shape, matrix).to(dense.dtype).contiguous()

    def nonzeros(self, block: int, linear: int, level: Sparsity) -> int:
        """How many weights of a whole linear are left at `level`: fewer than it asks for where the model has zeros."""
        shape = self.anatomy.blocks[block].linears[linear]
        plane = self._file(block, plane_name(self.pruner, level))
        if self.pruner not in NESTED:
            return plane[f"{shape.name}.values"].numel()
        key = block, linear, plane_name(self.pruner, level)
        if key not in self._dying:
            alive = (self.dense(block, linear) != 0).cpu()
            self._dying[key] = plane[shape.name][alive].int().bincount(minlength=256)
        bytes_alive = survivors(torch.arange(256, dtype=torch.uint8), level)
        return int(self._dying[key][bytes_alive].sum())

    def masked(self, block: int, linear: int, weight: torch.Tensor, level: Sparsity, kept: Kept) -> torch.Tensor:
        """A narrower linear's weight (outputs, inputs) at `level`, with exactly `level.zeros` of its shape zeros.

        Nested pruners score the narrower matrix itself, by the norms of the inputs it still has. Of pruners that update
        weights the survivors are taken where the matrix was not repaired; as their number in a part of the matrix is
        not exact, the smallest go, or the largest of the dense weights come back, until it is.

        Args:
            weight: as it is before pruning.
            kept: the positions of its rows and columns in the dense matrix.
        """
        shape = self.anatomy.blocks[block].linears[linear]
        if self.pruner in NESTED:
            key = block, linear, kept.widths, kept.rotated, level.of
            scored = self._narrower.get(key, lambda: self._scored(block, shape, weight, level, kept))
            return weight * survivors(scored, level)
        alive = self._survivors(block, linear, level)[kept.rows][:, kept.columns]
        if kept.values:
            weight = torch.where(alive != 0, alive.to(weight.dtype), weight)
        score = weight.abs() + (alive != 0) * weight.abs().max()
        return weight * survivors(plane(score, "matrix", level.of), level)

    def _scored(self, block: int, linear: Linear, weight: torch.Tensor, level: Sparsity, kept: Kept) -> torch.Tensor:
        """The plane of a narrower linear by a nested pruner, which serves all its levels of one kind."""
        nested, statistics = NESTED[self.pruner], None
        if nested.needs_text:
            norms = self._plane(block, INPUTS)[f"{linear.name}@rotated" if kept.rotated else linear.name]
            statistics = Statistics(norms[kept.columns], 0)
        # Zeros that are there already go first.
        score = torch.where(weight == 0, -1.0, nested.score(weight.float(), statistics))
        return plane(score, nested.group, level.of)

    def _file(self, block: int, plane: str) -> Tensors:
        return read_tensors(plane_file(self.folder, block, plane))

    def _plane(self, block: int, plane: str) -> Tensors:
        """On the model's device."""
        return self._planes.get((block, plane), lambda: self._file(block, plane))

    def _survivors(self, block: int, linear: int, level: Sparsity) -> torch.Tensor:
        """(outputs, inputs), what an updating pruner left."""
        shape = self.anatomy.blocks[block].linears[linear]
        tensors = self._plane(block, plane_name(self.pruner, level))
        values, bits = tensors[f"{shape.name}.values"], tensors[f"{shape.name}.bits"]
        return unpack_survivors(values, bits, (shape.outputs, shape.inputs))

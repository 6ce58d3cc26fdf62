"""What carries out treatments of linears on a model; `space.treatments` has them by name."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from ..space.space import Space
from ..space.state import treated_of
from ..space.tables import load
from ..space.treatments import TREATMENTS, Treatment
from .bits.imatrix import Importances
from .model.blocks import Blocks
from .resident import RESIDENT_BYTES
from .text import Sequences

Watch = Callable[[int, int], None]
"""Told how many blocks of how many are done."""
Position = tuple[int, int]
"""(block, position among its `matrices`)."""
Wanted = Mapping[Position, Collection[Treatment]]
"""Levels, by the matrix that they are of."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The rows and columns of a dense matrix that a narrower one keeps.

    Attributes:
        values: it has their weights unchanged.
        rotated: the columns are rotated residual features.
        widths: of its sublayer and of the residual stream, by which it is told from other narrower ones.
    """

    rows: torch.Tensor
    columns: torch.Tensor
    values: bool
    rotated: bool
    widths: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Ground:
    """What levels are made from: a model that is loaded and in order.

    Attributes:
        digest: names the model as it is, order included.
        text: for calibration.
        pruner: what makes zeros; None where there are none.
        has_zeros: whether the linears have zeros by themselves.
        narrower: whether linears can become narrower.
        rotation: (hidden, hidden), of the residual stream where it is narrowed by one.
        room: bytes of what was prepared that may be held ready.
        quantizer: what stores weights in fewer bits; None where nothing does.
        importances: what inputs are worth to it; None: what they are on the text.
    """

    blocks: Blocks
    digest: str
    text: Sequences
    pruner: str | None = None
    has_zeros: bool = False
    narrower: bool = False
    rotation: torch.Tensor | None = None
    room: int = RESIDENT_BYTES
    quantizer: str | None = None
    importances: Importances | None = None


class Compressor(Protocol):
    """Carries out the levels of one treatment on one model.

    Attributes:
        identity: names how levels are made; evaluations under others are not comparable.
        from_before: training begins with matrices as they were before their level, which `hold` carries out anew at
            every step; else with what the level has made of them.
    """

    @property
    def identity(self) -> str: ...
    @property
    def from_before(self) -> bool: ...

    def prepare(self, wanted: Wanted, watch: Watch) -> None:
        """Makes ready, and checks, what the wanted levels of each matrix need; done again, it goes on where it was.

        Raises:
            SecateurError: something in the cache is damaged or cannot be written.
        """

    def weight(self, place: Position, matrix: torch.Tensor, level: Treatment, kept: Kept | None) -> torch.Tensor:
        """A linear's matrix (outputs, inputs) at a level, after widths and repairs.

        Args:
            matrix: as it is before.
            kept: which part of the dense matrix it is; None: all of it, unchanged.
        """

    def hold(self, level: Treatment, matrix: torch.Tensor, began: torch.Tensor) -> torch.Tensor:
        """What is left at a level of what a training made of a matrix (outputs, inputs); differentiable in it.

        `began`: what training began with. Which of its zeros have to stay, the model's own or those of the level, is
        decided here.
        """


def wanted_of(space: Space) -> Wanted:
    """All levels of a space, those of the plan below it as well."""
    found: dict[Position, set[Treatment]] = {}
    for block, position, level in treated_of(space.anatomy.blocks, space.begun):
        found.setdefault((block, position), set()).add(level)
    for gene in space.genes:
        for member in gene.members if gene.treatments else ():
            found.setdefault(member, set()).update(filter(None, gene.treatments))
    return found


def masked(matrix: torch.Tensor, live: torch.Tensor) -> torch.Tensor:
    """A matrix with zeros wherever `live` has some."""
    return torch.where(live != 0, matrix, 0.0)


def compressor(name: str, ground: Ground) -> Compressor:
    """What carries out a treatment on a model."""
    make: Callable[[Ground], Compressor] = load(TREATMENTS[name].carried_out, None)
    return make(ground)

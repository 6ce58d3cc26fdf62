"""The width of the residual stream, the same in every block."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, model_validator

from ..anatomy import HIDDEN as STREAM
from ..anatomy import Anatomy, Block
from ..errors import SecateurError, suggest
from ..gene import Feature, Gene, Place, nearest_level
from ..settings import Positive
from ..state import BlockState
from .levels import WidthLevels, width_levels
from .settings import GeneSettings, Levels, Wishes
from .sublayer import removed


class HiddenSettings(GeneSettings):
    """The residual width: one gene for the model."""

    kind: Literal["hidden"] = "hidden"
    levels: Levels = Field(default=(), examples=[[1.0, 0.75, 0.5], "step 64 to 0.5"])
    """What is kept: counts or shares."""
    multiple_of: Positive | None = None
    """What kept shares are rounded to."""

    @model_validator(mode="after")
    def _levels_fit(self) -> "HiddenSettings":
        if not self.levels:
            raise ValueError("hidden genes need 'levels', such as [1.0, 0.75, 0.5]")
        if self.layers != "all":
            raise ValueError("the residual width is one gene for the model: genes of kind hidden take no 'layers'")
        return self

    def features(self) -> frozenset[Feature]:
        return frozenset({"widths", "stream"})


@dataclass(frozen=True, slots=True)
class HiddenKind:
    """How many directions of the residual stream are kept."""

    name: str = "hidden"
    dimension: str = "hidden"
    settings: type[GeneSettings] = HiddenSettings
    free: bool = False
    everywhere: bool = True
    absorbs: bool = False

    def genes(self, anatomy: Anatomy, asked: GeneSettings, wishes: Wishes) -> tuple[Gene, ...]:
        """The one gene; see `made` for what it raises."""
        assert isinstance(asked, HiddenSettings)
        return (self.made(anatomy, asked.levels, asked.multiple_of, wishes.hidden),)

    def made(self, anatomy: Anatomy, levels: WidthLevels, multiple_of: int | None, order: str) -> Gene:
        """The gene of the residual width.

        Raises:
            SecateurError: the family does not allow it, or a level does not fit.
        """
        if order not in anatomy.hidden_orders:
            possible = "none is: its norms or embeddings stand in the way, so leave the hidden gene out"
            if anatomy.hidden_orders:
                possible = suggest(order, anatomy.hidden_orders)
            raise SecateurError(f"hidden: order '{order}' is not possible for family {anatomy.family}; {possible}")
        if not levels or (not isinstance(levels, str) and any(isinstance(level, list | tuple) for level in levels)):
            raise SecateurError("hidden: needs one list of 'levels' for the whole model, such as [1.0, 0.9, 0.8]")
        kept = width_levels("hidden", "of the residual width", anatomy.hidden_size, levels, multiple_of)
        if 0 in kept:
            raise SecateurError("hidden: a residual width of 0 is no model; end the levels above it")
        return Gene(self, "model", kept, tuple((block.index, -1) for block in anatomy.blocks))

    def features(self, gene: Gene) -> frozenset[Feature]:
        return frozenset({"widths", "stream"})

    def apply(self, gene: Gene, level: int, block: Block, state: BlockState) -> BlockState:
        value = gene.levels[level]
        assert isinstance(value, int)
        return state.with_kept(**{STREAM: value})

    def places(self, gene: Gene, anatomy: Anatomy) -> frozenset[Place]:
        return frozenset()

    def silences(self, gene: Gene, level: int, anatomy: Anatomy) -> frozenset[Place]:
        return frozenset()

    def removed(self, gene: Gene, level: int) -> float:
        return removed(gene, level)

    def nearest(self, gene: Gene, states: Sequence[BlockState], anatomy: Anatomy) -> int:
        # A block that is gone says nothing of the width that it shares with others.
        blocks = [block for block in gene.blocks if len(gene.blocks) == 1 or not states[block].removed]
        shares = [1 - states[block].hidden / anatomy.blocks[block].hidden for block in blocks]
        return nearest_level(gene, sum(shares) / len(shares)) if shares else 0


HIDDEN = HiddenKind()

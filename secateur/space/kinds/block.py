"""Whether a block is kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..anatomy import Anatomy, Block
from ..gene import Feature, Gene, Place, nearest_level
from ..state import BlockState
from .settings import GeneSettings, Wishes, parse_layers
from .sublayer import first_of_each_sort, nothing_left, removed


class BlockSettings(GeneSettings):
    """Whether a layer is kept or dropped, attention and MLP together."""

    kind: Literal["block"] = "block"
    multiple_of: Literal[1] | None = None
    """Says nothing; recipes of before may have it."""

    def features(self) -> frozenset[Feature]:
        return frozenset({"drops"})


@dataclass(frozen=True, slots=True)
class BlockKind:
    """Kept (1) or dropped (0)."""

    name: str = "block"
    dimension: str = ""
    settings: type[GeneSettings] = BlockSettings
    free: bool = False
    everywhere: bool = False
    absorbs: bool = True

    def genes(self, anatomy: Anatomy, asked: GeneSettings, wishes: Wishes) -> tuple[Gene, ...]:
        """One gene for each of the layers that need not keep attention.

        Raises:
            SecateurError: there is none.
        """
        layers = parse_layers(asked.layers, len(anatomy.blocks))
        made = self.made(anatomy, layers, wishes.keep_first_attention)
        if not made:
            raise nothing_left(self.name, layers, wishes.keep_first_attention)
        return made

    def made(self, anatomy: Anatomy, layers: Sequence[int], keep_first_attention: bool = True) -> tuple[Gene, ...]:
        """Genes for `layers`; see `SublayerKind.made` for `keep_first_attention`."""
        firsts = first_of_each_sort(anatomy) if keep_first_attention else set[int]()
        return tuple(Gene(self, str(index), (1, 0), ((index, -1),)) for index in layers if index not in firsts)

    def features(self, gene: Gene) -> frozenset[Feature]:
        return frozenset({"drops"})

    def apply(self, gene: Gene, level: int, block: Block, state: BlockState) -> BlockState:
        if gene.levels[level]:
            return state
        for sublayer in block.sublayers:
            state = state.without(sublayer)
        return state

    def places(self, gene: Gene, anatomy: Anatomy) -> frozenset[Place]:
        return frozenset()

    def silences(self, gene: Gene, level: int, anatomy: Anatomy) -> frozenset[Place]:
        gone = gene.blocks if not gene.levels[level] else ()
        return frozenset((block, sublayer.name) for block in gone for sublayer in anatomy.blocks[block].sublayers)

    def removed(self, gene: Gene, level: int) -> float:
        return removed(gene, level)

    def nearest(self, gene: Gene, states: Sequence[BlockState], anatomy: Anatomy) -> int:
        gone = [float(states[block].removed) for block in gene.blocks]
        return nearest_level(gene, sum(gone) / len(gone))


BLOCK = BlockKind()

"""What the kinds that decide how much of a sublayer is kept have in common."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..anatomy import Anatomy, Block
from ..errors import SecateurError
from ..gene import Feature, Gene, Place, nearest_level
from ..state import BlockState
from .levels import WidthLevels, liked_multiple, per_layer, width_levels
from .settings import GeneSettings, WidthSettings, Wishes, parse_layers


@dataclass(frozen=True, slots=True)
class SublayerKind:
    """How many units of a dimension of a sublayer are kept.

    Attributes:
        name, dimension: as in `Kind`.
        unit: what is counted, for messages.
        droppable: none kept means that the sublayer is dropped.
        attends: dropping it drops attention, from which caches read sizes.
        rounded: the number of units is what hardware likes to be a multiple of something.
    """

    name: str
    dimension: str
    unit: str
    settings: type[GeneSettings]
    droppable: bool = True
    attends: bool = False
    rounded: bool = False
    free: bool = False
    everywhere: bool = False
    absorbs: bool = False

    def genes(self, anatomy: Anatomy, asked: GeneSettings, wishes: Wishes) -> tuple[Gene, ...]:
        """One gene for each of the layers, or one for all of them.

        Raises:
            SecateurError: a level that does not fit a layer, lists that do not fit the layers, or nothing to decide.
        """
        assert isinstance(asked, WidthSettings)
        layers = parse_layers(asked.layers, len(anatomy.blocks))
        multiple, together = asked.multiple_of, asked.per == "model"
        if asked.levels:
            if self.rounded and wishes.multiple > 1:
                dense = anatomy.blocks[layers[0]].dimensions.get(self.dimension, 1)
                multiple = math.lcm(multiple or liked_multiple(dense), wishes.multiple)
            together = together or wishes.together
        first = wishes.keep_first_attention
        made = self.made(anatomy, layers, first, asked.levels, multiple, together)
        check_some(made, self, layers, first)
        return made

    def made(
        self,
        anatomy: Anatomy,
        layers: Sequence[int],
        keep_first_attention: bool = True,
        levels: WidthLevels = (),
        multiple_of: int | None = 1,
        together: bool = False,
    ) -> tuple[Gene, ...]:
        """Genes for `layers`, or one for all of them `together`.

        `multiple_of`: None is what hardware likes of channels, and 1 of heads. `levels`: as `width_levels` reads them,
        or one such list for each of `layers`; nothing: kept and dropped. Layer 0 keeps some attention unless
        `keep_first_attention` is false: caches and llama.cpp read sizes from it. Where layers with and without a
        sliding window alternate, so does the first layer of each sort. Together, layers are narrowed and never dropped.

        Raises:
            SecateurError: a level that does not fit the layer, or lists that do not fit the layers.
        """
        firsts = first_of_each_sort(anatomy) if keep_first_attention and self.attends else set[int]()
        genes = []
        for index, wanted in zip(layers, per_layer(self.name, levels, layers), strict=True):
            where = f"{self.name}, layer {index}"
            dense = anatomy.blocks[index].dimensions.get(self.dimension)
            if dense is None:
                raise SecateurError(f"{where}: has no {self.dimension}; name other 'layers'")
            if not self.droppable and dense == 1:
                raise SecateurError(
                    f"{where}: one query head per KV group, as many KV groups as heads: use kind 'attention' for them"
                )
            multiple = 1 if multiple_of is None and not self.rounded else multiple_of
            kept = width_levels(where, self.unit, dense, wanted, multiple) if levels else (dense, 0)
            if not self.droppable or index in firsts:
                kept = tuple(level for level in kept if level)
            if len(kept) > 1:
                genes.append(Gene(self, str(index), kept, ((index, -1),)))
        return self._together(genes, layers, len(anatomy.blocks)) if together else tuple(genes)

    def _together(self, genes: Sequence[Gene], layers: Sequence[int], count: int) -> tuple[Gene, ...]:
        """One gene with the widths that all layers have, of the model's `count`."""
        widths = {gene.counts for gene in genes}
        if len(genes) < len(layers) or len(widths) > 1:
            raise SecateurError(
                f"{self.name}: layers have different levels, which one gene for all of them cannot have"
            )
        [levels] = widths
        if len(levels) < 2:
            raise SecateurError(f"{self.name}: one gene for all layers narrows them; give 'levels' above 0")
        site = "model" if len(layers) == count else f"{layers[0]}-{layers[-1]}"
        return (Gene(self, site, levels, tuple((index, -1) for index in layers)),)

    def features(self, gene: Gene) -> frozenset[Feature]:
        found: set[Feature] = {"drops"} if self.droppable and gene.levels[-1] == 0 else set()
        return frozenset(found | ({"widths"} if any(count != gene.levels[0] for count in gene.counts) else set()))

    def apply(self, gene: Gene, level: int, block: Block, state: BlockState) -> BlockState:
        value = gene.levels[level]
        assert isinstance(value, int)
        return state.with_kept(**{self.dimension: min(state.kept[self.dimension], value)})

    def places(self, gene: Gene, anatomy: Anatomy) -> frozenset[Place]:
        found = ((block, anatomy.blocks[block].with_dimension(self.dimension)) for block in gene.blocks)
        return frozenset((block, sublayer.name) for block, sublayer in found if sublayer is not None)

    def silences(self, gene: Gene, level: int, anatomy: Anatomy) -> frozenset[Place]:
        dropped = self.droppable and gene.levels[level] == 0
        return self.places(gene, anatomy) if dropped else frozenset()

    def removed(self, gene: Gene, level: int) -> float:
        return removed(gene, level)

    def nearest(self, gene: Gene, states: Sequence[BlockState], anatomy: Anatomy) -> int:
        # A block that is gone says nothing of the width that it shares with others.
        blocks = [block for block in gene.blocks if len(gene.blocks) == 1 or not states[block].removed]
        shares = [1 - self._share(states[block], anatomy.blocks[block]) for block in blocks]
        return nearest_level(gene, sum(shares) / len(shares)) if shares else 0

    def _share(self, state: BlockState, block: Block) -> float:
        full = block.dimensions[self.dimension]
        # What cannot drop a sublayer says nothing of one that is dropped.
        return (state.kept[self.dimension] or (0 if self.droppable else full)) / full


def removed(gene: Gene, level: int) -> float:
    """The share of what is kept densely that a level of counts removes."""
    first, value = gene.levels[0], gene.levels[level]
    assert isinstance(first, int)
    assert isinstance(value, int)
    return 1 - value / first


def first_of_each_sort(anatomy: Anatomy) -> set[int]:
    """The first layer, and the first of those with another sliding window: caches read sizes from them."""
    windows = [block.window for block in anatomy.blocks]
    # An encoder has no cache.
    return {windows.index(window) for window in windows} if anatomy.causal else set()


def check_some(genes: Sequence[Gene], kind: SublayerKind, layers: Sequence[int], keep_first_attention: bool) -> None:
    """Raises SecateurError where what was asked for leaves nothing to decide; says at which layers, and why."""
    if genes:
        return
    raise nothing_left(kind.name, layers, kind.attends and keep_first_attention)


def nothing_left(name: str, layers: Sequence[int], kept_first: bool) -> SecateurError:
    """What is wrong where genes of a kind would have nothing to decide."""
    where = f"{name}, layer {', '.join(map(str, layers[:4]))}{', …' if len(layers) > 4 else ''}"
    if kept_first and tuple(layers) == (0,):
        return SecateurError(
            f"{where}: has to keep some attention, since caches and llama.cpp read sizes from it; name other 'layers', "
            "or set keep_first_attention: false"
        )
    return SecateurError(f"{where}: 'levels' leave nothing to choose from; give one below the dense")

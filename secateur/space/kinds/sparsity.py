"""The share of zeros in linears, or how many of every few inputs are none."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import model_validator

from ..anatomy import Anatomy, Block
from ..errors import SecateurError, suggest
from ..gene import Feature, Gene, Place, nearest_level
from ..settings import Positive
from ..state import BlockState
from ..treatments import Sparsity
from .settings import GeneSettings, Levels, Wishes, parse_layers

GRANULARITIES = ("linear", "sublayer", "block", "group")


class SparsitySettings(GeneSettings):
    """`levels`: shares of zeros and patterns such as "2:4"; `per` linear, sublayer, block, or `group` of blocks."""

    kind: Literal["sparsity"] = "sparsity"
    levels: Levels = ()
    per: Literal["linear", "sublayer", "block", "group"] = "linear"
    group: Positive = 1
    multiple_of: Literal[1] | None = None
    """Says nothing; recipes of before may have it."""

    @model_validator(mode="after")
    def _levels_fit(self) -> "SparsitySettings":
        if not self.levels or isinstance(self.levels, str):
            raise ValueError("sparsity genes need a list of 'levels', such as [0.4, 0.5, 0.6] or ['2:4']")
        if any(isinstance(level, tuple) for level in self.levels):
            raise ValueError("sparsity genes take one list of 'levels'; give layers that differ genes of their own")
        if (self.per == "group") != (self.group > 1):
            raise ValueError("write per: group together with group: K, K at least 2")
        return self

    def features(self) -> frozenset[Feature]:
        return frozenset({"zeros"})


@dataclass(frozen=True, slots=True)
class SparsityKind:
    """Zeros in the linears that a gene covers."""

    name: str = "sparsity"
    dimension: str = ""
    settings: type[GeneSettings] = SparsitySettings
    free: bool = True
    everywhere: bool = False
    absorbs: bool = False

    def genes(self, anatomy: Anatomy, asked: GeneSettings, wishes: Wishes) -> tuple[Gene, ...]:
        """Genes over the linears of the layers; see `made` for what it raises."""
        assert isinstance(asked, SparsitySettings)
        levels = [Sparsity.parse(level) for level in asked.levels if not isinstance(level, tuple)]
        return self.made(anatomy, levels, parse_layers(asked.layers, len(anatomy.blocks)), asked.per, asked.group)

    def made(
        self, anatomy: Anatomy, levels: Sequence[Sparsity], layers: Sequence[int], per: str, group: int = 1
    ) -> tuple[Gene, ...]:
        """Genes over the linears of `layers`, one per linear, sublayer, block or group of `group` blocks.

        Raises:
            SecateurError: an N:M pattern does not divide a linear's input, or `per` is unknown.
        """
        ordered = tuple(sorted({Sparsity(), *levels}, key=lambda level: (level.share, level.of, level.keep)))
        for index in layers:
            for linear in anatomy.blocks[index].linears:
                for level in ordered:
                    if level.of and linear.inputs % level.of:
                        raise SecateurError(
                            f"block {index}, {linear.name}: {linear.inputs} inputs are no multiple of {level.of}, so "
                            f"the pattern {level} does not fit; leave it out or restrict 'layers'"
                        )
        return tuple(Gene(self, site, ordered, members) for site, members in _sites(anatomy, tuple(layers), per, group))

    def features(self, gene: Gene) -> frozenset[Feature]:
        return frozenset({"zeros"})

    def apply(self, gene: Gene, level: int, block: Block, state: BlockState) -> BlockState:
        value = gene.levels[level]
        assert isinstance(value, Sparsity)
        levels = list(state.sparsity)
        for index, linear in gene.members:
            if index == block.index:
                levels[linear] = value
        return replace(state, sparsity=tuple(levels))

    def places(self, gene: Gene, anatomy: Anatomy) -> frozenset[Place]:
        firsts = {block: len(anatomy.blocks[block].attention.linears) for block in gene.blocks}
        return frozenset((block, "attention" if linear < firsts[block] else "mlp") for block, linear in gene.members)

    def silences(self, gene: Gene, level: int) -> frozenset[Place]:
        return frozenset()

    def removed(self, gene: Gene, level: int) -> float:
        value = gene.levels[level]
        assert isinstance(value, Sparsity)
        return value.share

    def nearest(self, gene: Gene, states: Sequence[BlockState], anatomy: Anatomy) -> int:
        wanted = [states[block].sparsity[linear] for block, linear in gene.members]
        exact = next((level for level, one in enumerate(gene.levels) if set(wanted) == {one}), None)
        return nearest_level(gene, sum(one.share for one in wanted) / len(wanted)) if exact is None else exact


SPARSITY = SparsityKind()


def _sites(
    anatomy: Anatomy, layers: Sequence[int], per: str, group: int
) -> Iterator[tuple[str, tuple[tuple[int, int], ...]]]:
    if per not in GRANULARITIES:
        raise SecateurError(f"sparsity per '{per}'; {suggest(per, GRANULARITIES)}")
    if per in ("block", "group"):
        size = group if per == "group" else 1
        for start in range(0, len(layers), size):
            chunk = layers[start : start + size]
            site = str(chunk[0]) if len(chunk) == 1 else f"{chunk[0]}-{chunk[-1]}"
            yield site, tuple((i, j) for i in chunk for j in range(len(anatomy.blocks[i].linears)))
        return
    for index in layers:
        block = anatomy.blocks[index]
        if per == "linear":
            for j, linear in enumerate(block.linears):
                yield f"{index}.{linear.name}", ((index, j),)
        else:
            first = len(block.attention.linears)
            yield f"{index}.attention", tuple((index, j) for j in range(first))
            yield f"{index}.mlp", tuple((index, j) for j in range(first, len(block.linears)))

"""What the kinds that treat linears have in common: which linears a gene covers, and levels that are treatments."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import model_validator

from ..anatomy import Anatomy, Block
from ..errors import SecateurError, suggest
from ..gene import Feature, Gene, Place, nearest_level
from ..settings import Positive
from ..state import BlockState
from ..treatments import DENSE, Sparsity, Treatment, read_with, words
from .settings import GeneSettings, Levels, Wishes, parse_layers

GRANULARITIES = ("linear", "sublayer", "block", "group")
Site = tuple[str, tuple[tuple[int, int], ...]]
"""Where a gene is, in words, and its members."""


class LinearSettings(GeneSettings):
    """Genes that decide what is done to linears."""

    levels: Levels = ()
    """What may be done, besides nothing: a list, or a text where the kind knows one."""
    per: Literal["linear", "sublayer", "block", "group"] = "linear"
    """What has one level together."""
    group: Positive = 1
    """Blocks of a group, where it is `per: group`."""

    texts: ClassVar[bool] = False
    """Whether levels may be a text."""

    @model_validator(mode="after")
    def _levels_fit(self) -> "LinearSettings":
        name = type(self).model_fields["kind"].default
        if not self.levels or (isinstance(self.levels, str) and not self.texts):
            raise ValueError(f"{name} genes need a list of 'levels', such as {self.example()}")
        if any(isinstance(level, tuple) for level in self.levels):
            raise ValueError(f"{name} genes take one list of 'levels'; give layers that differ genes of their own")
        if (self.per == "group") != (self.group > 1):
            raise ValueError("write per: group together with group: K, K at least 2")
        return self

    @classmethod
    def example(cls) -> str:
        """A list of levels, for messages."""
        return "['...']"

    def sites(self, anatomy: Anatomy) -> tuple[Site, ...]:
        """What has one level together; see `sites_of` for what it raises."""
        return sites_of(anatomy, parse_layers(self.layers, len(anatomy.blocks)), self.per, self.group)


@dataclass(frozen=True, slots=True)
class LinearKind:
    """A treatment of the linears that a gene covers.

    Attributes:
        name: as in `Kind`.
        feature: of its genes.
        read: a level of a recipe; a ValueError says what is wrong with it.
        sized: of levels that are a text, those of a gene of so many weights, where the largest has so many.
        otherwise: what else may be done about a level that does not fit, for messages.
    """

    name: str
    settings: type[GeneSettings]
    feature: Feature
    read: Callable[[float | int | str], Treatment]
    sized: Callable[[str, int, int], Sequence[Treatment]] | None = None
    dimension: str = ""
    free: bool = True
    everywhere: bool = False
    absorbs: bool = False
    otherwise: str = ""

    def genes(self, anatomy: Anatomy, asked: GeneSettings, wishes: Wishes) -> tuple[Gene, ...]:
        """Genes over the linears of the layers; see `at` for what it raises."""
        assert isinstance(asked, LinearSettings)
        sites = asked.sites(anatomy)
        if isinstance(asked.levels, str):
            return self._made_by_size(anatomy, asked.levels, sites)
        levels = [read_with(self.read, one, self.name) for one in asked.levels if not isinstance(one, tuple)]
        return self.at(anatomy, levels, sites)

    def _made_by_size(self, anatomy: Anatomy, text: str, sites: Sequence[Site]) -> tuple[Gene, ...]:
        """Genes whose levels depend on how many weights they have."""
        assert self.sized is not None
        sizes = [sum(anatomy.blocks[block].matrices[place].weights for block, place in members) for _, members in sites]
        return tuple(
            Gene(self, site, (DENSE, *(level for level in self.sized(text, size, max(sizes)) if level)), members)
            for (site, members), size in zip(sites, sizes, strict=True)
        )

    def made(
        self, anatomy: Anatomy, levels: Sequence[Treatment], layers: Sequence[int], per: str, group: int = 1
    ) -> tuple[Gene, ...]:
        """Genes over the linears of `layers`, one per linear, sublayer, block or group of `group` blocks; see `at` and
        `sites_of` for what they raise."""
        return self.at(anatomy, levels, sites_of(anatomy, layers, per, group))

    def at(self, anatomy: Anatomy, levels: Sequence[Treatment], sites: Sequence[Site]) -> tuple[Gene, ...]:
        """A gene at each site.

        Raises:
            SecateurError: a level does not fit a matrix's inputs.
        """
        for index, position in (member for _, members in sites for member in members):
            inputs = anatomy.blocks[index].matrices[position].inputs
            for level in levels:
                if inputs % level.multiple:
                    kind = "pattern" if isinstance(level, Sparsity) else "level"
                    instead = "leave it out" + ("" if anatomy.is_outside(index, position) else " or restrict 'layers'")
                    raise SecateurError(
                        f"{anatomy.place(index, position)}: {inputs} inputs are no multiple of {level.multiple}, so "
                        f"the {kind} {words(level)} does not fit; {self.otherwise}{instead}"
                    )
        return tuple(Gene(self, site, _in_order(anatomy, levels, members), members) for site, members in sites)

    def features(self, gene: Gene) -> frozenset[Feature]:
        return frozenset({self.feature})

    def apply(self, gene: Gene, level: int, block: Block, state: BlockState) -> BlockState:
        value = gene.levels[level]
        assert not isinstance(value, int)
        linears = [block.matrices[linear].name for index, linear in gene.members if index == block.index]
        return state.with_treated(dict.fromkeys(linears, value))

    def places(self, gene: Gene, anatomy: Anatomy) -> frozenset[Place]:
        # Nothing silences what is outside the blocks.
        return frozenset(
            (index, block.where[block.linears[linear].name].name)
            for index, linear in gene.members
            for block in [anatomy.blocks[index]]
            if linear < len(block.linears)
        )

    def silences(self, gene: Gene, level: int, anatomy: Anatomy) -> frozenset[Place]:
        return frozenset()

    def removed(self, gene: Gene, level: int) -> float:
        value = gene.levels[level]
        assert not isinstance(value, int)
        return value.share

    def nearest(self, gene: Gene, states: Sequence[BlockState], anatomy: Anatomy) -> int:
        wanted = [states[block].level(anatomy.blocks[block].matrices[linear].name) for block, linear in gene.members]
        sizes = {block: states[block].sizes(anatomy.blocks[block]) for block in gene.blocks}
        inputs = [anatomy.blocks[block].matrices[linear].shape(sizes[block])[1] for block, linear in gene.members]
        exact = making(gene, inputs, wanted)
        if exact is not None:
            return exact
        # What another treatment removes says nothing of this one.
        own = {level.name for level in gene.treatments if level}
        return nearest_level(gene, sum(one.share for one in wanted if one.name in own) / len(wanted))


def making(gene: Gene, inputs: Sequence[int], wanted: Sequence[Treatment]) -> int | None:
    """The level that makes of a gene's linears, with rows of so many inputs, what is wanted of each; None: none."""
    made = ([one.at(count) for count in inputs] for one in gene.treatments)
    return next((level for level, some in enumerate(made) if some == list(wanted)), None)


def _in_order(
    anatomy: Anatomy, levels: Sequence[Treatment], members: Sequence[tuple[int, int]]
) -> tuple[Treatment, ...]:
    """The levels of a gene, from dense to small; of those that its linears make the same of the first."""
    linears = [anatomy.blocks[index].matrices[place] for index, place in members]
    distinct: dict[tuple[Treatment, ...], Treatment] = {}
    for level in (DENSE, *levels):
        distinct.setdefault(tuple(level.at(linear.inputs) for linear in linears), level)

    def size(level: Treatment) -> int:
        return sum(level.bytes(one.outputs, one.inputs, anatomy.bytes_per_parameter) for one in linears)

    return tuple(sorted(distinct.values(), key=lambda level: (-size(level), level.share, level.multiple, str(level))))


def sites_of(anatomy: Anatomy, layers: Sequence[int], per: str, group: int) -> tuple[Site, ...]:
    """The linears of layers, as they have a level together; raises SecateurError where `per` is unknown."""
    return tuple(_sites(anatomy, tuple(layers), per, group))


def _sites(anatomy: Anatomy, layers: Sequence[int], per: str, group: int) -> Iterator[Site]:
    if per not in GRANULARITIES:
        raise SecateurError(f"per '{per}'; {suggest(per, GRANULARITIES)}")
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
            first = 0
            for sublayer in block.sublayers:
                stop = first + len(sublayer.linears)
                yield f"{index}.{sublayer.name}", tuple((index, j) for j in range(first, stop))
                first = stop

"""What a genome makes of a block."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from .anatomy import HIDDEN, Block, Sublayer
from .treatments import DENSE, Treatment


@dataclass(frozen=True, slots=True)
class BlockState:
    """What a genome makes of one block: the part of it that models, costs and plans read.

    Attributes:
        kept: units of each of the block's dimensions; none of a sublayer's: it is dropped, and has none of any other.
            The residual width is the same in every block.
        treated: what is done to linears, by their name inside the block, and to matrices outside that the block tells
            of, by their full name; those of which nothing is are not in it.
    """

    kept: Mapping[str, int]
    treated: Mapping[str, Treatment] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((tuple(sorted(self.kept.items())), frozenset(self.treated.items())))

    @property
    def hidden(self) -> int:
        """The residual width."""
        return self.kept[HIDDEN]

    @property
    def removed(self) -> bool:
        """Whether nothing is left but the residual stream."""
        return not any(count for dimension, count in self.kept.items() if dimension != HIDDEN)

    def has(self, sublayer: Sublayer) -> bool:
        """Whether a sublayer is kept, however narrow."""
        return all(self.kept[dimension] for dimension in sublayer.dimensions)

    def widths(self, sublayer: Sublayer) -> tuple[int, ...]:
        """What is kept of each of a sublayer's dimensions."""
        return tuple(self.kept[dimension] for dimension in sublayer.dimensions)

    def narrowed(self, block: Block, sublayer: Sublayer) -> bool:
        """Whether a sublayer is kept, but not at full width."""
        return self.has(sublayer) and any(
            self.kept[dimension] < block.dimensions[dimension] for dimension in sublayer.dimensions
        )

    def level(self, linear: str) -> Treatment:
        """What is done to a linear of the block."""
        return self.treated.get(linear, DENSE)

    def levels(self, block: Block) -> tuple[Treatment, ...]:
        """What is done to each linear, in module order."""
        return tuple(self.level(linear.name) for linear in block.linears)

    def sort_key(self, block: Block) -> tuple[object, ...]:
        """Orders states so that those with the most in common stand together."""
        widths = [-self.kept[dimension] for dimension in block.dimensions if dimension != HIDDEN]
        outside = (self.level(matrix.name) for matrix in block.outside)
        levels = [(level.share, str(level)) for level in (*outside, *self.levels(block))]
        # What the embedding is, nothing is shared across.
        return (-self.hidden, *levels[: len(block.outside)], *widths, *levels[len(block.outside) :])

    def sizes(self, block: Block) -> dict[str, int]:
        """Lengths of the segments along the block's dimensions."""
        return block.sizes(self.kept)

    def with_kept(self, **counts: int) -> "BlockState":
        """The same with other counts of some dimensions."""
        return replace(self, kept={**self.kept, **counts})

    def with_treated(self, levels: Mapping[str, Treatment]) -> "BlockState":
        """The same with levels of some linears; dense ones undo what is done to them."""
        both = {**self.treated, **levels}
        return replace(self, treated={name: level for name, level in both.items() if level})

    def without(self, sublayer: Sublayer) -> "BlockState":
        """The same with a sublayer dropped."""
        return self.with_kept(**dict.fromkeys(sublayer.dimensions, 0))


def dense_state(block: Block) -> BlockState:
    """A block of which everything is kept."""
    return BlockState(block.dimensions)


def treated_of(blocks: Sequence[Block], states: Sequence[BlockState]) -> Iterator[tuple[int, int, Treatment]]:
    """Every matrix that has a level: its block, its position there, and the level."""
    for block, state in zip(blocks, states, strict=True):
        for position, matrix in enumerate(block.matrices):
            if matrix.name in state.treated:
                yield block.index, position, state.treated[matrix.name]


@dataclass(frozen=True, slots=True)
class Outside:
    """What a genome makes of what lies outside the blocks.

    Attributes:
        hidden: the residual width.
        treated: what is done to embedding and head, by their full names.
    """

    hidden: int
    treated: tuple[tuple[str, Treatment], ...] = ()


def outside_of(blocks: Sequence[Block], states: Sequence[BlockState]) -> Outside:
    """As far as the states of some blocks tell."""
    levels = {
        matrix.name: state.level(matrix.name)
        for block, state in zip(blocks, states, strict=True)
        for matrix in block.outside
    }
    return Outside(states[0].hidden, tuple((name, level) for name, level in levels.items() if level))


def settled(block: Block, state: BlockState) -> BlockState:
    """A state in which what is dropped has no units of any dimension, and no treatments, and in which treatments are
    what rows of their length make of them."""
    for sublayer in block.sublayers:
        if not state.has(sublayer):
            dense = {linear.name: DENSE for linear in sublayer.linears}
            state = state.without(sublayer).with_treated(dense)
    if not state.treated:
        return state
    sizes, found = state.sizes(block), {}
    for linear in block.matrices:
        level = state.treated.get(linear.name)
        if level is not None and (other := level.at(linear.shape(sizes)[1])) != level:
            found[linear.name] = other
    return state.with_treated(found) if found else state

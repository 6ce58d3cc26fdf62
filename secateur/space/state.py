"""What a genome makes of a block."""

from dataclasses import dataclass, replace

from .anatomy import Block
from .treatments import DENSE, Sparsity


@dataclass(frozen=True, slots=True)
class BlockState:
    """What a genome makes of one block: the part of it that models, costs and plans read.

    Attributes:
        attention: KV groups kept; 0: the sublayer is dropped.
        queries: query heads kept in each of them; 0 where attention is dropped.
        mlp: channels kept; 0: the sublayer is dropped. Both dropped: the block is removed.
        hidden: residual width, the same in every block.
        sparsity: one entry for each linear of the block in module order, dense for those dropped.
    """

    attention: int
    queries: int
    mlp: int
    hidden: int
    sparsity: tuple[Sparsity, ...]

    @property
    def removed(self) -> bool:
        return not self.attention and not self.mlp

    @property
    def kept(self) -> tuple[int, int]:
        """Of the attention and of the MLP; 0 is dropped."""
        return self.attention, self.mlp

    def sort_key(self) -> tuple[object, ...]:
        """Orders states so that those with the most in common stand together."""
        sparsity = tuple((s.share, s.of, s.keep) for s in self.sparsity)
        return (-self.hidden, -self.attention, -self.queries, -self.mlp, sparsity)

    def sizes(self, block: Block) -> dict[str, int]:
        """Lengths of the segments along the block's dimensions."""
        return block.sizes(self.attention, self.queries, self.mlp, self.hidden)

    def narrowed(self, block: Block) -> tuple[bool, bool]:
        """Whether attention and MLP are kept, but not at full width."""
        attention = 0 < self.attention * self.queries < block.heads
        return attention, 0 < self.mlp < block.channels


def dense_state(block: Block) -> BlockState:
    """A block of which everything is kept."""
    return BlockState(block.kv_heads, block.queries, block.channels, block.hidden, (DENSE,) * len(block.linears))


def settled(block: Block, state: BlockState) -> BlockState:
    """A state in which what is dropped has neither query heads nor treatments."""
    first = len(block.attention.linears)
    sparsity = tuple(
        level if (state.mlp if position >= first else state.attention) else DENSE
        for position, level in enumerate(state.sparsity)
    )
    return replace(state, queries=state.queries if state.attention else 0, sparsity=sparsity)

"""Genes of the kinds that the package has, and states of blocks, as tests ask for them."""

from collections.abc import Sequence

from secateur.space.anatomy import Anatomy, Block
from secateur.space.gene import Gene
from secateur.space.kinds.attention import ATTENTION
from secateur.space.kinds.block import BLOCK
from secateur.space.kinds.hidden import HIDDEN
from secateur.space.kinds.levels import WidthLevels
from secateur.space.kinds.mlp import MLP
from secateur.space.kinds.queries import QUERIES
from secateur.space.kinds.sparsity import SPARSITY
from secateur.space.state import BlockState, dense_state, settled
from secateur.space.treatments import Treatment

hidden_gene, sparsity_genes = HIDDEN.made, SPARSITY.made


def structured_genes(
    anatomy: Anatomy,
    kind: str,
    layers: Sequence[int],
    keep_first_attention: bool = True,
    levels: WidthLevels = (),
    multiple_of: int | None = 1,
    together: bool = False,
) -> tuple[Gene, ...]:
    if kind == "block":
        return BLOCK.made(anatomy, layers, keep_first_attention)
    own = {one.name: one for one in (ATTENTION, QUERIES, MLP)}[kind]
    return own.made(anatomy, layers, keep_first_attention, levels, multiple_of, together)


def state_of(block: Block, levels: Sequence[Treatment] = (), **kept: int) -> BlockState:
    """The dense block with other counts of dimensions, and levels of its linears in module order."""
    named = {linear.name: level for linear, level in zip(block.linears, levels, strict=False)}
    return settled(block, dense_state(block).with_kept(**kept).with_treated(named))


def without(block: Block, *names: str, **kept: int) -> BlockState:
    """The block with sublayers dropped."""
    gone = {one: 0 for name in names for one in block.sublayer(name).dimensions}
    return state_of(block, (), **{**kept, **gone})

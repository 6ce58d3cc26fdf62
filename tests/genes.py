"""Genes of the kinds that the package has, as tests ask for them."""

from collections.abc import Sequence

from secateur.space.anatomy import Anatomy
from secateur.space.gene import Gene
from secateur.space.kinds.attention import ATTENTION
from secateur.space.kinds.block import BLOCK
from secateur.space.kinds.hidden import HIDDEN
from secateur.space.kinds.levels import WidthLevels
from secateur.space.kinds.mlp import MLP
from secateur.space.kinds.queries import QUERIES
from secateur.space.kinds.sparsity import SPARSITY

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

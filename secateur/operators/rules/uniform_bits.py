"""Every linear in one type."""

import numpy as np

from ...space.anatomy import Linear
from ...space.errors import SecateurError
from ...space.gene import Gene
from ...space.genome import Genome
from ...space.kinds.linears import making
from ...space.space import Space
from ...space.treatments import Treatment
from .rule import Rule, Statistics
from .uniform_width import uniform_width


def uniform_bits(space: Space) -> Genome:
    """The largest type of the genes' levels that keeps the budgets, in every linear that may have it.

    Where a gene has not that type it takes its next smaller one. Where not even the smallest keeps the budgets, all
    layers become narrower besides, by one share (`uniform_width`), as far as there are genes of widths.

    Raises:
        SecateurError: that is not small enough either.
    """
    genes = [gene for gene in space.genes if "bits" in gene.features]
    types = {level for gene in genes for level in gene.treatments}
    levels: list[int] = []
    sizes = {level: sum(_bytes(space, gene, level) for gene in genes) for level in types}
    # Of two that take as much, the one without zeros.
    for wanted in sorted(types, key=lambda level: (-sizes[level], level.share, str(level))):
        levels = [_level(space, gene, wanted) if "bits" in gene.features else 0 for gene in space.genes]
        genome = space.canonical(Genome(tuple(levels)))
        if space.feasible(genome):
            return genome
    if any(gene.narrows for gene in space.genes):
        return uniform_width(space, levels)
    raise SecateurError("no type in every linear keeps the budgets")


def _bytes(space: Space, gene: Gene, level: Treatment) -> int:
    blocks, width = space.anatomy.blocks, space.anatomy.bytes_per_parameter
    linears = [blocks[block].matrices[place] for block, place in gene.members]
    return sum(level.at(one.inputs).bytes(one.outputs, one.inputs, width) for one in linears if _fits(level, one))


def _fits(level: Treatment, linear: Linear) -> bool:
    return linear.inputs % level.at(linear.inputs).multiple == 0


def _level(space: Space, gene: Gene, wanted: Treatment) -> int:
    """The level that makes of a gene's linears what a type does; else the next smaller one."""
    blocks, own = space.anatomy.blocks, gene.treatments
    inputs = [blocks[block].matrices[place].inputs for block, place in gene.members]
    same = making(gene, inputs, [wanted.at(count) for count in inputs])
    if same is not None:
        return same
    size = _bytes(space, gene, wanted)
    return next((index for index, level in enumerate(own) if _bytes(space, gene, level) <= size), len(own) - 1)


def _genome(space: Space, _statistics: Statistics, _rng: np.random.Generator) -> Genome:
    return uniform_bits(space)


RULE = Rule(_genome, "bits", good=True, line=True, uniform=True)

"""Erdos-Renyi: density by the sizes of a linear alone (Evci et al. 2020, arXiv 1911.11134)."""

import numpy as np

from ...space.gene import Gene
from ...space.genome import Genome
from ...space.space import Space
from .profiles import scaled, sparse
from .rule import Rule, Statistics


def erdos_renyi(space: Space, rng: np.random.Generator) -> Genome:
    """Density proportional to (inputs + outputs) / (inputs * outputs) of each linear."""

    def share(gene: Gene, base: float) -> float:
        linears = [space.anatomy.blocks[block].linears[linear] for block, linear in gene.members]
        ratio = np.average([(x.inputs + x.outputs) / x.weights for x in linears], weights=[x.weights for x in linears])
        return 1 - (1 - base) * float(ratio) / mean

    every = [b.linears[j] for gene in sparse(space) for i, j in gene.members for b in [space.anatomy.blocks[i]]]
    mean = float(np.average([(x.inputs + x.outputs) / x.weights for x in every], weights=[x.weights for x in every]))
    return scaled(space, share, rng)


def _genome(space: Space, _statistics: Statistics, rng: np.random.Generator) -> Genome:
    return erdos_renyi(space, rng)


RULE = Rule(_genome, "zeros")

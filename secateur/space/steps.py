"""What the budgets leave beside a genome, and what single levels would take of that; exact where a space `adds_up`."""

import numpy as np
from numpy.typing import NDArray

from .genome import Genome
from .space import Space

Numbers = NDArray[np.int64]


def is_free(space: Space, index: int) -> bool:
    """Whether what a gene's levels add can be told from tables alone, whatever the other genes are."""
    return space.adds_up and bool(space.pricing.free[index])


def room(space: Space, genome: Genome) -> Numbers:
    """(budgets,), what each leaves; negative where it is not kept."""
    costs = space.costs(genome)
    return np.array([budget.limit - budget.of(costs) for budget in space.budgets], dtype=np.int64)


def steps(space: Space, genome: Genome, by: int) -> Numbers:
    """(genes, budgets), what a level more (`by` 1) or less (-1) of each free gene adds to the cost of each budget.

    Of genes that are not free (`Pricing`) nothing is said here.
    """
    found: Numbers = space.pricing.moved(genome.levels, by) @ space.in_budgets
    return found


def step(space: Space, genome: Genome, index: int, level: int) -> Numbers:
    """(budgets,), what another level of one gene adds; not of one that decides everywhere."""
    found: Numbers = space.pricing.changed(genome.levels, index, level) @ space.in_budgets
    return found


def by_level(space: Space, genome: Genome, index: int) -> Numbers:
    """(levels, budgets), what each level of a free gene adds to the cost of each budget; its own adds nothing."""
    found: Numbers = space.pricing.by_level(genome.levels, index) @ space.in_budgets
    return found

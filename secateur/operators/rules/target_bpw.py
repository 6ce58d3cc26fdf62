"""Types by the errors of single matrices, under one budget of bytes: llama.cpp's open `--target-bpw`."""

from collections.abc import Sequence

import numpy as np

from ...space.errors import SecateurError
from ...space.genome import Genome
from ...space.space import Space
from ...space.steps import by_level
from .rule import Rule, Statistics

BYTES = ("file_bytes", "weight_bytes")
"""Costs that types lower."""
HALVINGS = 40
"""Of the multiplier's range."""


def hull(sizes: Sequence[float], errors: Sequence[float]) -> list[int]:
    """The levels on the lower convex hull of (size, error), from the smallest size up."""
    found: list[int] = []
    for level in sorted(range(len(sizes)), key=lambda one: (sizes[one], errors[one])):
        if found and errors[level] >= errors[found[-1]]:
            continue
        while len(found) > 1 and _slope(sizes, errors, found[-2], found[-1]) >= _slope(sizes, errors, found[-1], level):
            found.pop()
        found.append(level)
    return found


def _slope(sizes: Sequence[float], errors: Sequence[float], one: int, other: int) -> float:
    return (errors[other] - errors[one]) / (sizes[other] - sizes[one])


def allotted(
    sizes: Sequence[Sequence[float]], errors: Sequence[Sequence[float]], room: float, heads: Sequence[bool]
) -> list[int] | None:
    """Of each gene the level, so that all sizes together are at most `room`; None: there are none.

    Errors plus a multiplier times bits are minimised by each gene alone, on its convex hull; the multiplier is halved
    upon until the room is filled, and what is left of that goes to whoever gains most for a byte. A head counts its
    bytes half.
    """
    hulls = [hull(*pair) for pair in zip(sizes, errors, strict=True)]

    def chosen(multiplier: float) -> list[int]:
        return [
            min(levels, key=lambda one: (error[one] + multiplier * 8 * size[one] / (2 if head else 1), size[one]))
            for levels, size, error, head in zip(hulls, sizes, errors, heads, strict=True)
        ]

    def total(levels: Sequence[int]) -> float:
        return sum(size[level] for size, level in zip(sizes, levels, strict=True))

    low, high = 0.0, 1.0
    while total(chosen(high)) > room and high < 1e30:
        high *= 4
    best = chosen(high)
    if total(best) > room:
        return None
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        levels = chosen(middle)
        low, high, best = (low, middle, levels) if total(levels) <= room else (middle, high, best)
    return _filled(best, hulls, sizes, errors, room - total(best))


def _filled(
    levels: list[int],
    hulls: Sequence[Sequence[int]],
    sizes: Sequence[Sequence[float]],
    errors: Sequence[Sequence[float]],
    room: float,
) -> list[int]:
    """With the room that is left given to whoever gains most for a byte, one step on a hull at a time."""
    levels = list(levels)
    while True:
        steps = []
        for gene, level in enumerate(levels):
            place = hulls[gene].index(level) + 1
            if place < len(hulls[gene]):
                finer = hulls[gene][place]
                more = sizes[gene][finer] - sizes[gene][level]
                if more <= room:
                    steps.append(((errors[gene][level] - errors[gene][finer]) / more, -gene, finer, more))
        if not steps:
            return levels
        _, gene, finer, more = max(steps)
        levels[-gene] = finer
        room -= more


def target_bpw(space: Space, errors: Sequence[Sequence[float]]) -> Genome:
    """The genome that allots types by `errors` (genes, levels) under the space's budget of bytes.

    Raises:
        SecateurError: there is no such budget, or no types keep it and the others.
    """
    budget = next((n for n, one in enumerate(space.budgets) if one.cost in BYTES), None)
    if budget is None:
        raise SecateurError(f"allots a budget of bytes; the recipe has none of {' or '.join(BYTES)}")
    bits = [index for index, gene in enumerate(space.genes) if "bits" in gene.features]
    smallest = {index: len(space.genes[index].levels) - 1 for index in bits}
    least = space.dense
    for index, level in smallest.items():
        least = least.with_level(index, level)
    sizes = [[float(row[budget]) for row in by_level(space, least, index).tolist()] for index in bits]
    used = space.budgets[budget].of(space.costs(least))
    room = space.budgets[budget].limit - used
    tied = space.anatomy.tied
    heads = [space.genes[index].site == ("embedding" if tied else "head") for index in bits]
    levels = allotted(sizes, [errors[index] for index in bits], room, heads)
    genome = space.dense
    for index, level in zip(bits, levels or (), strict=bool(levels)):
        genome = genome.with_level(index, level)
    genome = space.canonical(genome)
    if levels is None or not space.feasible(genome):
        raise SecateurError("no types of these genes keep the budgets")
    return genome


def _genome(space: Space, statistics: Statistics, _rng: np.random.Generator) -> Genome:
    return target_bpw(space, statistics.stored_errors(space))


RULE = Rule(_genome, "bits", good=True)

"""One genome from one other: level switches that keep the budgets."""

from collections.abc import Callable, Sequence

import numpy as np

from ..space.gene import Kind
from ..space.genome import Genome
from ..space.kinds.block import BLOCK
from ..space.space import Space
from .repair import compress, repair, tighten
from .sampling import ends, limited

TRIES = 20


def switch_count(rng: np.random.Generator, most: int = 3) -> int:
    """min(U{1..most}, U{1..most}): EvoPress (arXiv 2410.14649), 5/9, 3/9 and 1/9 for one, two and three switches."""
    return int(min(rng.integers(1, most + 1), rng.integers(1, most + 1)))


def switch_levels(genome: Genome, space: Space, rng: np.random.Generator) -> Genome:
    """Moves one gene a level denser and another a level smaller, `switch_count` times: EvoPress's mutation.

    Draw by draw what the published scripts do (commit 50888a0188; `tests/search/test_evopress_trace.py`): the kind of
    the pair first, each as likely, then its genes, until one can move; of sublayers the one to be dropped before the
    one that comes back, of levels the one to be denser first, and both may be the same, which changes nothing. Of whole
    blocks the scripts switch attention and MLP, and attention decides: a switch in two is lost. As published, a pair
    leaves the sum of levels unchanged; where genes differ in size that does not keep a budget, so a switch that breaks
    one is drawn again, and after `TRIES` draws `switch_costs` takes over. Keeps every budget that `genome` keeps;
    returns a canonical genome, which may be `genome`.
    """
    count = switch_count(rng)
    if {gene.kind for gene in space.genes} == {BLOCK}:
        sides = [genome, genome]
        for _ in range(count):
            side = int(rng.integers(2))
            sides[side] = switch_once(sides[side], space, rng, stays=True)
        return sides[0]
    for _ in range(count):
        genome = switch_once(genome, space, rng, stays=True)
    return genome


def switch_once(genome: Genome, space: Space, rng: np.random.Generator, stays: bool = False) -> Genome:
    """One switch of two levels within a kind; `stays`: none, where the first draw pairs a gene with itself."""
    kinds = tuple(dict.fromkeys(gene.kind for gene in space.genes))
    for attempt in range(TRIES):
        kind = kinds[int(rng.integers(len(kinds)))] if len(kinds) > 1 else kinds[0]
        pair = _pair(genome, space, kind, rng)
        if pair is None:
            continue
        up, down = pair
        if up == down:
            if stays and not attempt:
                return genome
            continue
        child = genome.with_level(up, genome.levels[up] - 1).with_level(down, genome.levels[down] + 1)
        child = space.canonical(child)
        if child != genome and space.feasible(child):
            return child
    return _exchange(genome, space, rng)


def _pair(genome: Genome, space: Space, kind: Kind, rng: np.random.Generator) -> tuple[int, int] | None:
    """Who of a kind goes a level denser, and who a level smaller; None where nobody can."""
    active, last = space.active(genome), [len(gene.levels) - 1 for gene in space.genes]
    genes = [index for index, gene in enumerate(space.genes) if gene.kind == kind]

    def denser(index: int) -> bool:
        return active[index] and genome.levels[index] > 0

    def smaller(index: int) -> bool:
        return active[index] and genome.levels[index] < last[index]

    if not any(map(denser, genes)) or not any(map(smaller, genes)) or len(genes) < 2:
        return None
    if all(space.genes[index].drops for index in genes):
        down = _drawn(genes, smaller, rng)
        return _drawn(genes, denser, rng), down
    return _drawn(genes, denser, rng), _drawn(genes, smaller, rng)


def _drawn(genes: Sequence[int], able: Callable[[int], bool], rng: np.random.Generator) -> int:
    while not able(index := genes[int(rng.integers(len(genes)))]):
        pass
    return index


def switch_costs(genome: Genome, space: Space, rng: np.random.Generator, most: int = 3) -> Genome:
    """The same in exact cost units: makes genes denser and pays for them with others, whatever their sizes.

    `switch_count` times, a gene goes a level denser (a dropped sublayer comes back), other random genes, of any kind,
    are deepened until every budget holds, and what is left over goes to genes chosen at random. So attention is traded
    for MLP and a wide linear for several narrow ones. Keeps every budget; returns a canonical genome.
    """
    for _ in range(switch_count(rng, most)):
        genome = _exchange(genome, space, rng)
    return genome


def _exchange(genome: Genome, space: Space, rng: np.random.Generator) -> Genome:
    for _ in range(TRIES):
        active = space.active(genome)
        denser = [index for index, on in enumerate(active) if on and genome.levels[index] > 0]
        if not denser:
            return compress(_deepen_one(genome, space, rng), space, rng)
        up = int(denser[int(rng.integers(len(denser)))])
        child = space.canonical(genome.with_level(up, genome.levels[up] - 1))
        if space.feasible(child):
            child = _deepen_one(child, space, rng, not_gene=up)
        child = compress(child, space, rng, keep=frozenset({up}))
        child = tighten(child, space, rng, keep=frozenset(genome.changed(child)))
        if child != genome:
            return child
    return genome


def _deepen_one(genome: Genome, space: Space, rng: np.random.Generator, not_gene: int = -1) -> Genome:
    """One random active gene a level smaller; the genome itself where there is none."""
    active = space.active(genome)
    genes = [
        index
        for index, gene in enumerate(space.genes)
        if active[index] and index != not_gene and genome.levels[index] < len(gene.levels) - 1
    ]
    if not genes:
        return genome
    index = int(genes[int(rng.integers(len(genes)))])
    return space.canonical(genome.with_level(index, genome.levels[index] + 1))


def step_level(genome: Genome, space: Space, rng: np.random.Generator) -> Genome:
    """Moves one random gene a level up or down, now and then all the way; so the size changes.

    For fronts, where a mutation that keeps the cost would never leave it. Compressed onto the budgets where it breaks
    them; returns a canonical genome.
    """
    active = [index for index, on in enumerate(space.active(genome)) if on]
    index = int(active[int(rng.integers(len(active)))])
    last, level = len(space.genes[index].levels) - 1, genome.levels[index]
    deeper = bool(rng.integers(2)) if 0 < level < last else level == 0
    far = rng.random() < 1 / 4
    target = (last if far else level + 1) if deeper else (0 if far else level - 1)
    return compress(space.canonical(genome.with_level(index, target)), space, rng)


def resize(genome: Genome, space: Space, cost: str, rng: np.random.Generator, spread: float = 0.1) -> Genome:
    """Brings the genome onto a nearby limit of `cost`, using it up: normal steps of `spread` of the whole range."""
    least, most = ends(space, cost)
    now: int = getattr(space.costs(genome), cost)
    limit = int(np.clip(now + rng.normal(0.0, spread) * (most - least), least, most))
    return repair(genome, limited(space, cost, limit), rng)


def vary(genome: Genome, space: Space, costs: Sequence[str], rng: np.random.Generator) -> Genome:
    """The mutation for fronts: to another size in one of `costs`, one step of one gene, or one switch of two."""
    genome = compress(genome, space, rng)
    draw = rng.random()
    if draw < 0.3 and costs:
        return resize(genome, space, costs[int(rng.integers(len(costs)))], rng)
    if draw < 0.65:
        return step_level(genome, space, rng)
    return switch_once(genome, space, rng)


def swap_drops(genome: Genome, space: Space, rng: np.random.Generator) -> Genome:
    """Brings one dropped sublayer or block back and drops others, of any type, in its place.

    Keeps every budget; returns `genome` (canonical) where nothing is dropped.
    """
    genome = space.canonical(genome)
    structured = [index for index, gene in enumerate(space.genes) if gene.drops]
    dropped = [index for index in structured if genome.levels[index] == len(space.genes[index].levels) - 1]
    if not dropped:
        return genome
    up = int(dropped[int(rng.integers(len(dropped)))])
    child = space.canonical(genome.with_level(up, 0))
    order = [index for index in rng.permutation(structured).tolist() if index != up]
    for index in order:
        if space.feasible(child) and child != space.canonical(genome.with_level(up, 0)):
            break
        active = space.active(child)
        if active[index] and child.levels[index] == 0:
            child = space.canonical(child.with_level(index, len(space.genes[index].levels) - 1))
    child = compress(child, space, rng, keep=frozenset({up}))
    return tighten(child, space, rng, keep=frozenset(genome.changed(child)))

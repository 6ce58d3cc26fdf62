"""Published rules that make a genome from statistics of the dense model, without search.

Each returns a canonical genome that keeps the budgets of the space, or raises when its kind of gene alone cannot.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ..space.errors import SecateurError
from ..space.gene import Gene, Sparsity
from ..space.genome import Genome
from ..space.space import Space
from .sampling import from_shares, nearest_level

OWL_RANGE = 0.08
"""Half the width of OWL's band of layer sparsities (its `Lamda`)."""

ShareRule = Callable[[Gene, float], float]
"""(gene, base sparsity) -> share of zeros of that gene."""


def last_blocks(space: Space) -> Genome:
    """Drops blocks from the end backwards."""
    return drop_blocks(space, reversed(range(len(space.anatomy.blocks))))


def shortgpt(space: Space, influence: Sequence[float]) -> Genome:
    """Drops the blocks of least influence (Men et al. 2024, arXiv 2403.03853)."""
    return drop_blocks(space, np.argsort(influence, kind="stable").tolist())


def angular_window(space: Space, angular: Sequence[Sequence[float]]) -> Genome:
    """Drops the consecutive blocks whose input and output differ least in angle (Gromov et al. 2024, 2403.17887).

    The window is as long as the budgets need; of the last block of the window only what is needed.
    """
    for length in range(1, len(space.anatomy.blocks) + 1):
        for start in np.argsort(angular[length], kind="stable").tolist():
            try:
                return drop_blocks(space, reversed(range(start, start + length)))
            except SecateurError:
                continue
    raise SecateurError("no window of blocks keeps the budgets")


def drop_blocks(space: Space, order: Iterable[int]) -> Genome:
    """Drops blocks in `order` until the budgets hold, and of the last one only the sublayers that are needed.

    Raises:
        SecateurError: dropping them all is not enough, or the space has no genes that drop.
    """
    genome = space.dense
    for block in order:
        if space.feasible(genome):
            break
        whole = [i for i, g in enumerate(space.genes) if g.drops and g.members[0][0] == block]
        # The cheapest sufficient part of the last block, so that the rule removes no more than a search has to.
        parts = [_dropped(space, genome, [index]) for index in whole]
        sufficient = [part for part in parts if space.feasible(part)]
        if sufficient:
            return max(sufficient, key=lambda part: space.costs(part).parameters)
        genome = _dropped(space, genome, whole)
    if not space.feasible(genome):
        raise SecateurError("dropping these blocks does not keep the budgets")
    return genome


def _dropped(space: Space, genome: Genome, indices: Iterable[int]) -> Genome:
    for index in indices:
        genome = genome.with_level(index, len(space.genes[index].levels) - 1)
    return space.canonical(genome)


def uniform_sparsity(space: Space) -> Genome:
    """Every sparsity gene at the same share: the densest level that keeps the budgets.

    Uniform means uniform: where no level lies on the budget, what is left over is not given back.
    """
    shares = sorted({level.share for _, gene in _sparse(space) for level in gene.levels if isinstance(level, Sparsity)})
    for share in shares:
        levels = [nearest_level(g, share) if g.kind == "sparsity" else 0 for g in space.genes]
        genome = space.canonical(Genome(tuple(levels)))
        if space.feasible(genome):
            return genome
    raise SecateurError("no uniform sparsity level keeps the budgets")


def uniform_width(space: Space) -> Genome:
    """Every layer as narrow as every other: the largest share of heads, channels and residual width on the budgets.

    Levels nearest to the share, never dropped; nothing is given back.
    """
    for share in np.arange(1.0, 0.0, -0.005).tolist():
        genome = space.canonical(Genome(tuple(_width_level(gene, share) for gene in space.genes)))
        if space.feasible(genome):
            return genome
    raise SecateurError("no uniform width keeps the budgets")


def _width_level(gene: Gene, share: float) -> int:
    """The level that keeps nearest to `share`, dropped not among them; dense for genes that do not narrow."""
    if not gene.narrows:
        return 0
    kept = [level for level in gene.levels if isinstance(level, int) and level]
    return min(range(len(kept)), key=lambda level: (abs(kept[level] / kept[0] - share), level))


FlapScores = Sequence[tuple[Sequence[float], Sequence[float]]]


def flap(space: Space, scores: FlapScores) -> Genome:
    """FLAP's allocation (An et al. 2024, arXiv 2312.11983, sec. 4.2): one threshold for all heads and channels.

    `scores`: for each block the standardised scores of its KV groups and of its channels. Every unit under the
    threshold goes, and the lowest threshold at which the budgets hold is taken; counts are rounded up to levels. A
    sublayer keeps its smallest level above nothing at least, as in the authors' code.
    """
    thresholds = sorted({one for row in scores for part in row for one in part})
    low, high = 0, len(thresholds) - 1
    found: Genome | None = None
    while low <= high:
        middle = (low + high) // 2
        genome = _over_threshold(space, scores, thresholds[middle])
        if space.feasible(genome):
            found, high = genome, middle - 1
        else:
            low = middle + 1
    if found is None:
        raise SecateurError("no threshold of FLAP's scores keeps the budgets")
    return found


def _over_threshold(space: Space, scores: FlapScores, threshold: float) -> Genome:
    levels = []
    for gene in space.genes:
        if gene.kind not in ("attention", "mlp") or not gene.narrows:
            levels.append(0)
            continue
        # One width for several layers: as many as they want on average.
        rows = [scores[block][gene.kind == "mlp"] for block, _ in gene.members]
        wanted = sum(one >= threshold for row in rows for one in row) / len(rows)
        kept = [int(level) for level in gene.levels if isinstance(level, int) and level]
        enough = [index for index, level in enumerate(kept) if level >= wanted]
        levels.append(enough[-1])
    return space.canonical(Genome(tuple(levels)))


def owl(space: Space, outliers: Sequence[float], rng: np.random.Generator) -> Genome:
    """Outlier-weighed sparsity: blocks with more outliers stay denser (Yin et al. 2023, arXiv 2310.05175, sec. 3.3)."""
    ratio = np.array(outliers)
    spread = ratio.max() - ratio.min()
    shift = (ratio - ratio.min()) / (spread if spread > 0 else 1.0) * 2 * OWL_RANGE
    shift -= shift.mean()
    return _scaled(space, lambda gene, base: base - float(np.mean([shift[b] for b, _ in gene.members])), rng)


def erdos_renyi(space: Space, rng: np.random.Generator) -> Genome:
    """Density proportional to (inputs + outputs) / (inputs * outputs) of each linear (Evci et al. 2020, 1911.11134)."""

    def share(gene: Gene, base: float) -> float:
        linears = [space.anatomy.blocks[block].linears[linear] for block, linear in gene.members]
        ratio = np.average([(x.inputs + x.outputs) / x.weights for x in linears], weights=[x.weights for x in linears])
        return 1 - (1 - base) * float(ratio) / mean

    every = [b.linears[j] for _, gene in _sparse(space) for i, j in gene.members for b in [space.anatomy.blocks[i]]]
    mean = float(np.average([(x.inputs + x.outputs) / x.weights for x in every], weights=[x.weights for x in every]))
    return _scaled(space, share, rng)


def _sparse(space: Space) -> list[tuple[int, Gene]]:
    return [(index, gene) for index, gene in enumerate(space.genes) if gene.kind == "sparsity"]


def _scaled(space: Space, share: ShareRule, rng: np.random.Generator) -> Genome:
    """The least base sparsity at which the rule's profile keeps the budgets before rounding is repaired."""
    for base in np.arange(0.0, 1.0, 0.005).tolist():
        shares = [min(1.0, max(0.0, share(g, base))) if g.kind == "sparsity" else 0.0 for g in space.genes]
        levels = tuple(nearest_level(g, s) for g, s in zip(space.genes, shares, strict=True))
        if space.feasible(space.canonical(Genome(levels))):
            return from_shares(space, shares, rng)
    raise SecateurError("no profile of this rule keeps the budgets")

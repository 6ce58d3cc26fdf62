"""Pareto fronts: which points nothing dominates, how much they dominate together, and which to take.

Points are rows of objective values, all minimised.
"""

from collections.abc import Sequence

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray

Points = NDArray[np.float64]


def nondominated(points: ArrayLike) -> list[int]:
    """Indices of the points that no other dominates, in order; of equal points the first.

    A point dominates another when it is nowhere worse and somewhere better.
    """
    values = np.asarray(points, dtype=np.float64)
    if not len(values):
        return []
    return np.flatnonzero(moocore.is_nondominated(values, keep_weakly=False)).tolist()


def hypervolume(points: ArrayLike, reference: ArrayLike, ideal: ArrayLike) -> float:
    """Share of the box between `ideal` and `reference` that the points dominate, in [0, 1]; exact.

    The hypervolume of Zitzler and Thiele (1999) by the algorithm of Fonseca et al. (2006) as in moocore. Points outside
    the box count for nothing.
    """
    low, high = np.asarray(ideal, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    values = (np.asarray(points, dtype=np.float64).reshape(-1, len(low)) - low) / (high - low)
    values = np.maximum(values[(values < 1.0).all(axis=1)], 0.0)
    return float(moocore.hypervolume(values, ref=np.ones(len(low)))) if len(values) else 0.0


def knee(points: ArrayLike) -> int:
    """The index of the point that gives up least of everything: the least sum after scaling each objective to [0, 1].

    With two objectives that is the point farthest below the line through the ends of the front (Das 1999, on normal
    boundary intersection); the first of equals.
    """
    values = np.asarray(points, dtype=np.float64)
    low, high = values.min(axis=0), values.max(axis=0)
    return int(np.argmin(((values - low) / np.where(high > low, high - low, 1.0)).sum(axis=1)))


def thinned(points: ArrayLike, most: int) -> list[int]:
    """At most `most` points of a front that stand for all: epsilon-dominance (Laumanns et al. 2002, sec. 3.3).

    The space is cut into boxes of equal size after scaling to [0, 1]; of each box that no other box dominates, the
    point nearest to its lower corner stays. Boxes are made as small as `most` allows. The best point in each objective
    always stays, unless `most` is smaller than their number.
    """
    values = np.asarray(points, dtype=np.float64)
    if len(values) <= most:
        return list(range(len(values)))
    low, high = values.min(axis=0), values.max(axis=0)
    scaled = (values - low) / np.where(high > low, high - low, 1.0)
    ends = list(dict.fromkeys(int(index) for index in np.argmin(values, axis=0)))[:most]
    chosen = ends
    narrow, wide = 0.0, 1.0
    for _ in range(40):
        epsilon = (narrow + wide) / 2
        kept = sorted({*ends, *_one_a_box(scaled, epsilon)})
        if len(kept) <= most:
            chosen, wide = (kept if len(kept) >= len(chosen) else chosen), epsilon
        else:
            narrow = epsilon
    return chosen


def _one_a_box(scaled: Points, epsilon: float) -> list[int]:
    boxes = np.floor(scaled / epsilon)
    distance = ((scaled - boxes * epsilon) ** 2).sum(axis=1)
    best: dict[tuple[float, ...], int] = {}
    for index in np.argsort(distance, kind="stable").tolist():
        best.setdefault(tuple(boxes[index].tolist()), index)
    corners = list(best)
    return [best[corners[index]] for index in nondominated(corners)]


def ideal_point(columns: Sequence[bool], dense: Sequence[float]) -> list[float]:
    """The lower corner of the box: nothing for costs, the dense model's own value for scores.

    `columns` says which objectives are costs.
    """
    return [0.0 if is_cost else value for is_cost, value in zip(columns, dense, strict=True)]

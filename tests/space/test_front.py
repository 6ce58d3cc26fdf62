"""Fronts against their obvious twins, and objectives that are refused."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.space.costs import Costs
from secateur.space.errors import SecateurError
from secateur.space.evaluation import Evaluation
from secateur.space.front import hypervolume, knee, nondominated, thinned
from secateur.space.genome import Genome
from secateur.space.objective import Objective, parse_objectives

COORDINATE = st.integers(0, 12).map(float)


def rows(width: int) -> st.SearchStrategy[list[list[float]]]:
    return st.lists(st.lists(COORDINATE, min_size=width, max_size=width), min_size=1, max_size=14)


POINTS = st.integers(2, 3).flatmap(rows)


def dominates(first: list[float], second: list[float]) -> bool:
    return all(a <= b for a, b in zip(first, second, strict=True)) and first != second


@given(POINTS)
def test_the_front_is_what_no_pair_dominates(points: list[list[float]]) -> None:
    kept = nondominated(points)
    wanted = [
        index
        for index, point in enumerate(points)
        if not any(dominates(other, point) for other in points) and point not in points[:index]
    ]
    assert kept == wanted


@given(POINTS)
def test_hypervolume_counts_the_cells_that_are_dominated(points: list[list[float]]) -> None:
    width, size = len(points[0]), 10
    cells = sum(
        any(all(p <= c for p, c in zip(point, cell, strict=True)) for point in points)
        for cell in itertools.product(range(size), repeat=width)
    )
    assert hypervolume(points, [float(size)] * width, [0.0] * width) == pytest.approx(cells / size**width)


def test_points_outside_the_box_count_for_nothing_and_better_than_ideal_is_ideal() -> None:
    assert hypervolume([[2.0, 0.5]], [1.0, 1.0], [0.0, 0.0]) == 0.0
    assert hypervolume([[-3.0, 0.5]], [1.0, 1.0], [0.0, 0.0]) == pytest.approx(0.5)
    assert hypervolume(np.zeros((0, 2)), [1.0, 1.0], [0.0, 0.0]) == 0.0


@given(POINTS, st.integers(2, 6))
def test_a_thinned_front_is_a_part_with_its_ends(points: list[list[float]], most: int) -> None:
    front = [points[index] for index in nondominated(points)]
    kept = thinned(front, most)
    assert len(kept) == len(set(kept)) <= most
    assert len(kept) == len(front) if len(front) <= most else kept
    if len(front) > most >= len(front[0]):
        for column in range(len(front[0])):
            assert min(row[column] for row in front) == min(front[index][column] for index in kept)


def test_thinning_spreads_over_a_long_front() -> None:
    t = np.linspace(0, 1, 400)
    kept = thinned(np.stack([t, (1 - t) ** 2], axis=1), 12)
    assert 8 <= len(kept) <= 12
    assert max(np.diff(sorted(t[kept]))) < 0.3


def test_the_knee_is_farthest_below_the_line_through_the_ends() -> None:
    assert knee([[0.0, 1.0], [0.1, 0.2], [0.5, 0.15], [1.0, 0.0]]) == 1
    assert knee([[3.0, 3.0]]) == 0


def costs(**changes: int) -> Costs:
    return Costs(10, 8, 10, 8, 100, 40, 4, **changes)


def evaluation(**losses: tuple[float, ...]) -> Evaluation:
    return Evaluation(Genome((0,)), "k", range(2), losses, costs(prefill=5, decode=1, latency=8))


def test_objectives_read_scores_and_costs() -> None:
    one = evaluation(kl=(1.0, 3.0), cross_entropy=(0.0, 2.0))
    assert Objective("kl").of(one) == 2.0
    assert Objective("kl").error(one) == pytest.approx(1.0)
    assert Objective("perplexity").of(one) == pytest.approx(np.e)
    assert Objective("perplexity").error(one) == pytest.approx(np.e)
    assert Objective("latency").of(one) == 8.0
    assert Objective("latency").error(one) == 0.0
    assert Objective("kl").worst(one) == 5.0
    assert Objective("parameters").worst(one) == 10.0
    assert Objective("kl").of(evaluation()) == np.inf


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("kl", "latencyy"), "did you mean 'latency'"),
        (("kl", "kl"), "twice"),
        (("parameters", "latency"), "add a score"),
        (("kl", "os.path:"), "module:function"),
        (("cross_entropy", "perplexity", "macs"), "same order"),
    ],
)
def test_nonsense_objectives_are_refused(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(SecateurError, match=message):
        parse_objectives(names)

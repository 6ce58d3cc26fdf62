"""Bringing genomes onto budgets from tables is what it was step by step."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.operators.repair import compress, tighten
from secateur.space.budget import Budget
from secateur.space.genome import Genome
from secateur.space.space import Space
from tests.space.test_pricing import SPACES


def tightened(genome: Genome, space: Space, rng: np.random.Generator, keep: frozenset[int]) -> Genome:
    """As it is said: one gene after the other, each as often as it fits."""
    genome = space.canonical(genome)
    for index in rng.permutation(len(space.genes)).tolist():
        while index not in keep and space.active(genome)[index] and genome.levels[index] > 0:
            denser = space.canonical(genome.with_level(index, genome.levels[index] - 1))
            if not space.feasible(denser):
                break
            genome = denser
    return genome


def limited(space: Space, share: float, costs: list[str]) -> Space:
    budgets = []
    for cost in costs:
        least, most = (getattr(space.costs(one), cost) for one in (space.smallest, space.dense))
        budgets.append(Budget(cost, int(least + share * (most - least)), ""))
    return space.with_budgets(tuple(budgets))


drawn = st.tuples(
    st.floats(0.05, 0.95),
    st.lists(st.sampled_from(["parameters", "linear_weights", "macs", "weight_bytes"]), min_size=1, unique=True),
    st.integers(0, 2**32 - 1),
)


@pytest.mark.parametrize("name", SPACES)
@given(of=drawn)
def test_what_is_left_over_goes_to_the_same_genes(name: str, of: tuple[float, list[str], int]) -> None:
    share, costs, seed = of
    space = limited(SPACES[name], share, costs)
    rng = np.random.default_rng(seed)
    genome = compress(space.dense, space, rng)
    keep = frozenset(rng.integers(len(space.genes), size=2).tolist())
    own, other = np.random.default_rng(seed), np.random.default_rng(seed)
    assert tighten(genome, space, own, keep) == tightened(genome, space, other, keep)


@pytest.mark.parametrize("name", SPACES)
@given(of=drawn)
def test_one_step_less_would_not_have_been_enough(name: str, of: tuple[float, list[str], int]) -> None:
    """The way down ends at the first genome that keeps the budgets: taking back its last step breaks them."""
    share, costs, seed = of
    space = limited(SPACES[name], share, costs)
    genome = compress(space.dense, space, np.random.default_rng(seed))
    assert space.feasible(genome)
    assert genome == space.canonical(genome)
    if genome != space.dense:
        before = (space.canonical(genome.with_level(i, level - 1)) for i, level in enumerate(genome.levels) if level)
        assert any(not space.feasible(one) for one in before)


def test_steps_are_drawn_evenly() -> None:
    """Each of two genes of equal size goes first as often as the other, whatever their room."""
    space = limited(SPACES["zeros"], 0.9, ["linear_weights"])
    rng = np.random.default_rng(0)
    depth = np.mean([compress(space.dense, space, rng).levels for _ in range(400)], axis=0)
    sizes = [gene.site.rpartition(".")[2] for gene in space.genes]
    for size in set(sizes):
        own = depth[[index for index, one in enumerate(sizes) if one == size]]
        assert own.max() - own.min() < 0.35


def test_those_to_keep_go_last() -> None:
    seen = set()
    for share in (0.7, 0.3):
        space = limited(SPACES["zeros"], share, ["linear_weights"])
        keep = frozenset(range(0, len(space.genes), 2))
        others = set(range(len(space.genes))) - keep
        for seed in range(50):
            levels = compress(space.dense, space, np.random.default_rng(seed), keep).levels
            touched = any(levels[index] for index in keep)
            seen.add(touched)
            assert not touched or all(levels[i] == len(space.genes[i].levels) - 1 for i in others)
    assert seen == {True, False}

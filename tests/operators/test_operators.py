"""Every operator: legal in, legal out; the budgets that held still hold."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.operators import crossover
from secateur.operators.mutation import swap_drops, switch_costs, switch_count, switch_levels
from secateur.operators.repair import compress, repair, tighten
from secateur.operators.rules.flap import flap
from secateur.operators.rules.uniform_width import uniform_width
from secateur.operators.sampling import from_shares, near_profile, on_budget, uniform
from secateur.space.budget import parse_budgets
from secateur.space.errors import SecateurError
from secateur.space.genome import Genome
from secateur.space.space import Space
from tests.genes import sparsity_genes, structured_genes
from tests.tiny import LEVELS, all_genes, anatomy_for, drop_space, mixed_genes

SHAPE = anatomy_for()
FREE = {
    "drops": drop_space(),
    "sparsity": Space(SHAPE, sparsity_genes(SHAPE, LEVELS, range(4), "linear")),
    "groups": Space(SHAPE, sparsity_genes(SHAPE, LEVELS, range(4), "group", 2)),
    "mixed": Space(SHAPE, mixed_genes(SHAPE)),
    "widths": Space(SHAPE, all_genes(SHAPE, "magnitude")),
}
COST = {
    "drops": "block_parameters",
    "sparsity": "linear_weights",
    "groups": "linear_weights",
    "mixed": "linear_weights",
    "widths": "block_parameters",
}

Rng = np.random.Generator
MUTATIONS: list[Callable[[Genome, Space, Rng], Genome]] = [
    switch_levels,
    switch_costs,
    swap_drops,
    compress,
    repair,
    tighten,
]
CROSSOVERS: list[Callable[[Genome, Genome, Space, Rng], Genome]] = [
    crossover.uniform,
    crossover.one_point,
    crossover.by_block,
]

cases = st.tuples(st.sampled_from(sorted(FREE)), st.floats(0.4, 0.95), st.integers(0, 10_000))


def budgeted(case: tuple[str, float, int]) -> tuple[Space, Rng]:
    name, ratio, seed = case
    space = FREE[name]
    texts = {COST[name]: f"{ratio:.3f}x", "macs": "0.99x" if name in ("drops", "mixed") else "1x"}
    return space.with_budgets(parse_budgets(texts, space.dense_costs)), np.random.default_rng(seed)


def check(genome: Genome, space: Space) -> None:
    space.check(genome)
    assert space.canonical(genome) == genome
    assert space.feasible(genome)


@given(cases)
def test_samples_are_legal_and_leave_no_room(case: tuple[str, float, int]) -> None:
    space, rng = budgeted(case)
    assert space.contains(uniform(space, rng))
    genome = on_budget(space, rng)
    check(genome, space)
    for index, level in enumerate(genome.levels):
        if level and space.active(genome)[index]:
            assert not space.feasible(space.canonical(genome.with_level(index, level - 1)))


@given(cases, st.floats(0, 3))
def test_samples_near_a_profile(case: tuple[str, float, int], noise: float) -> None:
    space, rng = budgeted(case)
    profile = on_budget(space, rng)
    check(near_profile(space, profile, noise, rng), space)
    check(from_shares(space, rng.random(len(space.genes)).tolist(), rng), space)


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda f: f.__name__)
@given(case=cases)
def test_mutations_keep_the_budgets(
    mutate: Callable[[Genome, Space, Rng], Genome], case: tuple[str, float, int]
) -> None:
    space, rng = budgeted(case)
    check(mutate(on_budget(space, rng), space, rng), space)


@pytest.mark.parametrize("cross", CROSSOVERS, ids=lambda f: f.__name__)
@given(case=cases)
def test_crossovers_keep_the_budgets(
    cross: Callable[[Genome, Genome, Space, Rng], Genome], case: tuple[str, float, int]
) -> None:
    space, rng = budgeted(case)
    first, second = on_budget(space, rng), on_budget(space, rng)
    check(cross(first, second, space, rng), space)
    assert cross(first, first, space, rng) == first


@given(cases)
def test_repair_brings_any_genome_onto_the_budgets(case: tuple[str, float, int]) -> None:
    space, rng = budgeted(case)
    check(repair(uniform(space, rng), space, rng), space)
    check(repair(space.dense, space, rng), space)


@given(st.integers(0, 10_000))
def test_level_switches_leave_the_sum_of_levels(seed: int) -> None:
    space = Space(SHAPE, sparsity_genes(SHAPE, LEVELS[:2], range(4), "block"))
    space = space.with_budgets(parse_budgets({"linear_weights": "0.75x"}, space.dense_costs))
    rng = np.random.default_rng(seed)
    parent = Genome((1, 1, 1, 1))
    child = switch_levels(parent, space, rng)
    assert child != parent or sum(child.levels) == 4
    assert sum(child.levels) == sum(parent.levels)


def test_cost_switches_trade_attention_for_mlp() -> None:
    space = FREE["drops"].with_budgets(parse_budgets({"block_parameters": "0.7x"}, FREE["drops"].dense_costs))
    rng = np.random.default_rng(0)
    mixes = set()
    genome = on_budget(space, rng)
    for _ in range(60):
        genome = switch_costs(genome, space, rng)
        kinds = [gene.kind.name for gene, level in zip(space.genes, genome.levels, strict=True) if level]
        mixes.add((kinds.count("attention"), kinds.count("mlp")))
    assert len(mixes) > 1


def test_switch_counts_are_the_published_ones() -> None:
    rng = np.random.default_rng(0)
    counts = np.bincount([switch_count(rng) for _ in range(9000)], minlength=4)[1:] / 9000
    assert counts == pytest.approx([5 / 9, 3 / 9, 1 / 9], abs=0.02)


def test_no_way_onto_the_budgets_is_an_error() -> None:
    space = FREE["drops"].with_budgets(parse_budgets({"parameters": "0.05x"}, FREE["drops"].dense_costs))
    with pytest.raises(SecateurError, match="least this space can reach"):
        compress(space.dense, space, np.random.default_rng(0))


def width_space(ratio: str) -> Space:
    genes = structured_genes(SHAPE, "attention", range(4), levels=(2, 1, 0)) + structured_genes(
        SHAPE, "mlp", range(4), levels="step 4"
    )
    space = Space(SHAPE, genes)
    return space.with_budgets(parse_budgets({"block_parameters": ratio}, space.dense_costs))


@pytest.mark.parametrize("ratio", ["0.9x", "0.7x", "0.5x", "0.4x"])
def test_a_uniform_width_is_the_widest_that_fits(ratio: str) -> None:
    space = width_space(ratio)
    genome = uniform_width(space)
    assert space.feasible(genome)
    states = space.states(genome)
    assert len({(state.kept["groups"], state.kept["channels"]) for state in states}) == 1
    assert all(state.kept["groups"] and state.kept["channels"] for state in states)
    wider = Genome(tuple(max(0, level - 1) for level in genome.levels))
    assert not space.feasible(wider)


@given(st.integers(0, 10_000), st.floats(0.4, 0.95))
def test_flap_removes_the_lowest_scores_of_all(seed: int, ratio: float) -> None:
    space = width_space(f"{ratio:.3f}x")
    rng = np.random.default_rng(seed)
    scores = [(rng.normal(size=2).tolist(), rng.normal(size=48).tolist()) for _ in range(4)]
    try:
        genome = flap(space, {"groups": [one for one, _ in scores], "channels": [one for _, one in scores]})
    except SecateurError:
        return
    assert space.feasible(genome)
    kept: list[float] = []
    for state, (groups, channels) in zip(space.states(genome), scores, strict=True):
        assert state.kept["groups"]
        assert state.kept["channels"]
        # Of each sublayer the best stay; rounding up to a level of four channels keeps at most three more.
        kept += sorted(groups, reverse=True)[: state.kept["groups"]][:-1]
        kept += sorted(channels, reverse=True)[: state.kept["channels"]][:-4]
    gone = [
        score
        for state, (groups, channels) in zip(space.states(genome), scores, strict=True)
        for part, count in ((groups, state.kept["groups"]), (channels, state.kept["channels"]))
        for score in sorted(part, reverse=True)[count:]
    ]
    assert not kept or not gone or min(kept) >= max(gone)


def test_rules_without_widths_say_so() -> None:
    with pytest.raises(SecateurError, match="no width that all layers share"):
        uniform_width(FREE["drops"].with_budgets(parse_budgets({"parameters": "0.5x"}, FREE["drops"].dense_costs)))

"""Latency as a cost: composed from a table, kept within budgets, monotone, and estimated from peaks."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.operators.sampling import sized, uniform
from secateur.search.model.knapsack import solve
from secateur.search.sweep import Table
from secateur.space.budget import parse_budgets
from secateur.space.errors import SecateurError
from secateur.space.genome import Genome
from secateur.space.latency import (
    Entry,
    LatencyTable,
    Peak,
    Times,
    Workload,
    kinds,
    monotone,
    roofline,
    table_from_json,
)
from secateur.space.space import Space
from tests.genes import hidden_gene, structured_genes
from tests.tiny import all_genes, anatomy_for

WORKLOAD = Workload(1, 64, 10)


def plain(family: str = "llama") -> Space:
    shape = anatomy_for(family, num_hidden_layers=3)
    return Space(shape, all_genes(shape, "magnitude" if family == "llama" else None))


def table(space: Space, seed: int = 0) -> LatencyTable:
    """Made-up entries that grow with size."""
    rng = np.random.default_rng(seed)
    entries = [
        Entry(part, kind, size, hidden, Times(*(rng.integers(1, 1000, 2) * (1 + sum(size)) * hidden).tolist()))
        for part, kind, size, hidden in space.shapes()
    ]
    return LatencyTable("cpu", False, WORKLOAD, kinds(space.anatomy), monotone(entries), {"threads": 2})


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_latency_is_the_sum_of_what_is_kept(family: str) -> None:
    space = plain(family)
    known = table(space)
    entries = {(e.part, e.kind, e.size, e.hidden): e.times for e in known.entries}
    space = space.with_latency(known)
    for seed in range(30):
        genome = uniform(space, np.random.default_rng(seed))
        states = space.states(genome)
        prefill = entries["base", 0, (), states[0].hidden].prefill
        for kind, state in zip(known.kinds, states, strict=True):
            if state.kept["groups"] or state.kept["channels"]:
                prefill += entries["block", kind, (), state.hidden].prefill
            if state.kept["groups"]:
                prefill += entries[
                    "attention", kind, (state.kept["groups"], state.kept["queries"]), state.hidden
                ].prefill
            if state.kept["channels"]:
                prefill += entries["mlp", kind, (state.kept["channels"],), state.hidden].prefill
        costs = space.costs(genome)
        assert costs.prefill == prefill
        assert costs.latency == prefill + WORKLOAD.decode * (costs.decode or 0)


def test_blocks_of_another_window_are_of_another_kind() -> None:
    assert kinds(plain("gemma2").anatomy) == (0, 1, 0)
    assert kinds(plain().anatomy) == (0, 0, 0)


@given(st.integers(0, 10_000))
def test_no_level_raises_latency(seed: int) -> None:
    space = plain()
    space = space.with_latency(table(space, seed % 7))
    rng = np.random.default_rng(seed)
    genome = uniform(space, rng)
    index = int(rng.integers(len(space.genes)))
    if genome.levels[index] + 1 < len(space.genes[index].levels):
        deeper = space.canonical(genome.with_level(index, genome.levels[index] + 1))
        for name in ("prefill", "decode", "latency"):
            assert getattr(space.costs(deeper), name) <= getattr(space.costs(space.canonical(genome)), name)


def test_a_table_survives_json() -> None:
    known = table(plain())
    assert table_from_json(known.to_json()) == known


def test_a_budget_on_latency_is_kept_and_an_impossible_one_refused() -> None:
    space = plain()
    dense = space.dense_costs
    assert parse_budgets({"latency": "<= 0.5x", "decode": "40ms"}, dense) == ()  # no table yet
    space = space.with_latency(table(space))
    space = space.with_budgets(parse_budgets({"latency": "<= 0.5x"}, space.dense_costs))
    whole, found = space.dense_costs.latency, space.costs(sized(space, ("latency",), np.random.default_rng(3))).latency
    assert whole is not None
    assert found is not None
    assert found <= 0.5 * whole
    least = space.costs(space.smallest).latency
    assert least is not None
    low = space.with_budgets(parse_budgets({"latency": f"{least - 1}ns"}, space.dense_costs))
    with pytest.raises(SecateurError, match="ms"):
        low.check_budgets()


@pytest.mark.parametrize("text", ["40", "fast", "40MB", ">= 0.5x"])
def test_a_latency_without_a_unit_is_refused(text: str) -> None:
    with pytest.raises(SecateurError, match="40ms"):
        parse_budgets({"latency": text}, plain().dense_costs)


def test_the_knapsack_solves_for_latency_exactly() -> None:
    shape = anatomy_for(num_hidden_layers=3)
    genes = structured_genes(shape, "attention", range(3)) + structured_genes(shape, "mlp", range(3), levels="step 16")
    space = Space(shape, genes)
    space = space.with_latency(table(space))
    space = space.with_budgets(parse_budgets({"latency": "0.6x"}, space.dense_costs))
    rng = np.random.default_rng(0)
    losses = Table(0.0, tuple((0.0, *np.sort(rng.random(len(g.levels) - 1)).tolist()) for g in genes))
    best = min((g for g in space.all() if space.feasible(g)), key=losses.sum)
    assert losses.sum(solve(space, losses, cells=10**6)) == pytest.approx(losses.sum(best), rel=0.02)


def test_the_roofline_takes_the_slower_of_arithmetic_and_memory() -> None:
    peak = Peak(flops=1e9, bandwidth=1e9)
    assert peak.nanoseconds(macs=500, traffic=10) == 1000
    assert peak.nanoseconds(macs=5, traffic=10) == 10
    shape = anatomy_for(num_hidden_layers=3)
    hidden = hidden_gene(shape, (32, 24), 1, "magnitude")
    space = Space(shape, (*structured_genes(shape, "mlp", range(3), levels="step 16"), hidden))
    estimate = roofline(shape, space.shapes(), Workload(2, 64, 10), peak, "phone")
    assert estimate.estimate
    block = shape.blocks[0]
    [entry] = [
        e for e in estimate.entries if e.part == "mlp" and e.size == (block.dimensions["channels"],) and e.hidden == 32
    ]
    weights = block.sublayer("mlp").weights
    assert entry.times == Times(2 * 2 * 64 * weights, max(2 * 2 * weights, 4 * weights))
    space = space.with_latency(estimate)
    narrow = Genome((*(0 for _ in range(3)), 1))
    assert (space.costs(narrow).decode or 0) < (space.dense_costs.decode or 0)


def test_noise_never_makes_the_smaller_one_slower() -> None:
    noisy = [Entry("mlp", 0, (size,), 8, Times(time, -1)) for size, time in ((16, 50), (32, 40), (48, 70))]
    assert [entry.times for entry in monotone(noisy)] == [Times(50, 0), Times(50, 0), Times(70, 0)]
    wide = [*noisy, replace(noisy[0], hidden=16, times=Times(10, 3))]
    assert {e.hidden: e.times for e in monotone(wide) if e.size == (16,)} == {8: Times(50, 0), 16: Times(50, 3)}

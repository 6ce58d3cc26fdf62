"""Importance orders and repairs against slow obvious twins, on the inputs themselves instead of their Gram matrix."""

from itertools import pairwise
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.fitness.model.checkpoint import anatomy_of
from secateur.fitness.model.examined import model_digest
from secateur.fitness.widths.axes import unit_sums
from secateur.fitness.widths.orders import ACTIVATION_ORDERS, NEEDS_GRAM, ORDERS, damped, flap_scores, obs, output_error
from secateur.fitness.widths.preparation import WidthSettings
from secateur.fitness.widths.repairs import REPAIRS
from secateur.fitness.workplace import Loaded
from secateur.fitness.zeros.nested import Statistics
from secateur.fitness.zeros.preparation import block_statistics
from secateur.runs.asked.settings import WidthsSettings
from secateur.space.space import Space
from tests.fitness.prepared import IDS, prepared, random_text, through_blocks
from tests.tiny import all_genes, model_of

seeds = st.integers(0, 10_000)


def case(inputs: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, Statistics]:
    """A weight, correlated inputs (tokens, inputs) with means, and their statistics."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(5, inputs, generator=generator, dtype=torch.float64)
    mix = torch.randn(inputs, inputs, generator=generator, dtype=torch.float64)
    rows = torch.randn(40 + 3 * inputs, inputs, generator=generator, dtype=torch.float64) @ mix + mix[0]
    return weight, rows, Statistics(rows.square().sum(0), len(rows), rows.T @ rows, rows.sum(0))


def output_of(weight: torch.Tensor, rows: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    return rows[:, kept] @ weight.T


@given(st.integers(2, 9), st.sampled_from([1, 2, 3]), seeds)
def test_every_order_is_a_permutation(units: int, size: int, seed: int) -> None:
    weight, _, statistics = case(units * size, seed)
    for rank in ACTIVATION_ORDERS.values():
        assert sorted(rank(weight, statistics, size).tolist()) == list(range(units))


def test_scores_follow_their_papers() -> None:
    weight, rows, statistics = case(6, 0)
    wanda = (weight.abs() * rows.norm(dim=0)).sum(0).reshape(3, 2).sum(1)
    assert ACTIVATION_ORDERS["wanda-sp"](weight, statistics, 2).tolist() == wanda.argsort(descending=True).tolist()
    fluctuation = (rows.var(dim=0, correction=0) * weight.square().sum(0)).reshape(3, 2).sum(1)
    assert torch.allclose(flap_scores(weight, statistics, 2), fluctuation)


@given(st.integers(2, 7), st.sampled_from([1, 2]), seeds)
def test_output_error_removes_what_adds_least(units: int, size: int, seed: int) -> None:
    weight, rows, statistics = case(units * size, seed)
    removed = output_error(weight, statistics, size).tolist()[::-1]

    def error(gone: list[int]) -> float:
        columns = [unit * size + place for unit in gone for place in range(size)]
        return float((rows[:, columns] @ weight[:, columns].T).square().sum())

    for step in range(units):
        others = [unit for unit in range(units) if unit not in removed[:step]]
        least = min(error([*removed[:step], unit]) for unit in others)
        assert error(removed[: step + 1]) == pytest.approx(least, rel=1e-6)


@given(st.integers(2, 7), st.sampled_from([1, 2]), seeds)
def test_surgery_removes_what_least_squares_misses_least(units: int, size: int, seed: int) -> None:
    weight, _, statistics = case(units * size, seed)
    removed = obs(weight, statistics, size).tolist()[::-1]
    assert statistics.gram is not None
    hessian = damped(statistics.gram, statistics.count)

    def error(gone: list[int]) -> float:
        columns = [unit * size + place for unit in gone for place in range(size)]
        kept = [column for column in range(units * size) if column not in columns]
        best = weight.clone()
        best[:, columns] = 0
        if kept:
            moved = torch.linalg.solve(hessian[kept][:, kept], hessian[kept][:, columns] @ weight[:, columns].T)
            best[:, kept] += moved.T
        change = best - weight
        return float(torch.einsum("oi,ij,oj->", change, hessian, change))

    for step in range(units):
        others = [unit for unit in range(units) if unit not in removed[:step]]
        least = min(error([*removed[:step], unit]) for unit in others)
        assert error(removed[: step + 1]) == pytest.approx(least, rel=1e-5)


@given(st.integers(3, 9), seeds, st.data())
def test_repairs_are_the_best_of_their_kind(inputs: int, seed: int, data: st.DataObject) -> None:
    weight, rows, statistics = case(inputs, seed)
    kept = torch.tensor(sorted(data.draw(st.sets(st.integers(0, inputs - 1), min_size=1, max_size=inputs - 1))))
    dense = rows @ weight.T
    errors = {"none": float((output_of(weight[:, kept], rows, kept) - dense).square().sum())}
    for name, repair in REPAIRS.items():
        repaired, bias = repair(weight, statistics, kept)
        assert repaired.shape == (5, len(kept))
        output = output_of(repaired, rows, kept) + (bias if bias is not None else 0.0)
        errors[name] = float((output - dense).square().sum())
        if name == "bias":
            assert torch.allclose(output.mean(0), dense.mean(0)), "nothing is missing on average"
    assert errors["bias"] <= errors["none"] * (1 + 1e-9)
    assert errors["mask"] <= errors["none"] * (1 + 1e-9)
    assert errors["least-squares"] <= errors["mask"] * 1.05
    exact = torch.linalg.lstsq(rows[:, kept], dense).solution
    best = float((rows[:, kept] @ exact - dense).square().sum())
    assert best <= errors["least-squares"] * (1 + 1e-9)


@settings(max_examples=15)
@given(st.integers(4, 12), seeds)
def test_reformation_converges_to_least_squares(inputs: int, seed: int) -> None:
    """On inputs that are not nearly dependent; on others it is still on its way after its iterations."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(5, inputs, generator=generator, dtype=torch.float64)
    rows = torch.randn(200, inputs, generator=generator, dtype=torch.float64)
    statistics = Statistics(rows.square().sum(0), len(rows), rows.T @ rows, rows.sum(0))
    kept = torch.arange(inputs // 2)
    exact = torch.linalg.lstsq(rows[:, kept], rows @ weight.T).solution.T
    assert torch.allclose(REPAIRS["admm"](weight, statistics, kept)[0], exact, atol=1e-3)


def test_unit_sums_find_every_weight_of_a_unit() -> None:
    shape = anatomy_of(model_of("llama"))
    block = shape.blocks[0]
    ones = {t.name: torch.ones(t.shape) for sub in block.sublayers for t in sub.parameters()}
    groups = unit_sums(block, block.sublayer("attention"), ones, ("groups",))
    assert groups.tolist() == [(2 * 12 + 2 * 12) * 32 + 2 * 12 * 32] * 2
    assert unit_sums(block, block.sublayer("attention"), ones, ("groups", "queries")).tolist() == [2 * 12 * 32] * 4
    assert unit_sums(block, block.sublayer("mlp"), ones, ("channels",)).tolist() == [3 * 32] * 48


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gpt2", "phi3", "bert"])
def test_an_order_changes_nothing_but_places(family: str, order: str) -> None:
    """The permuted model computes what it did, and units come by falling score."""
    model = model_of(family)
    bench, space = prepared(family, WidthSettings(order))
    assert torch.allclose(through_blocks(bench, space.states(space.dense)), model(IDS).logits[0].float(), atol=1e-5)
    for block, found in zip(bench.anatomy.blocks, bench.orders, strict=True):
        for dimension in ("groups", "channels"):
            assert sorted(found[dimension].tolist()) == list(range(block.dimensions[dimension]))
        rows = [list(range(block.dimensions["queries"]))] * block.dimensions["groups"]
        assert [sorted(row) for row in found["queries"].tolist()] == rows
        if order == "wanda-sp":
            last = block.sublayer("mlp").linears[-1]
            hidden = [bench.blocks.embed(row[None]) for row in bench.calibration.ids]
            for before in range(block.index):
                hidden = [bench.blocks.run(before, states) for states in hidden]
            statistics = block_statistics(bench.blocks, block, hidden, gram=False)[last.name]
            weight = bench.blocks.modules[block.index].get_parameter(f"{last.name}.weight").data
            weight = weight.T if last.transposed else weight
            scores = (weight.abs().sum(0) * statistics.square_sum.sqrt()).tolist()
            assert all(a >= b * (1 - 1e-4) for a, b in pairwise(scores))


@pytest.mark.parametrize("repair", sorted(REPAIRS))
def test_repairs_of_a_model_bring_its_outputs_closer(repair: str) -> None:
    """On the calibration text itself, at every sublayer: the widths of one MLP at a time against none repaired."""
    plain, space = prepared("opt", WidthSettings("wanda-sp"), pruner="magnitude")
    repaired, _ = prepared("opt", WidthSettings("wanda-sp", repair), pruner="magnitude")
    text = random_text().ids
    closer = 0
    for index in range(4):
        states = space.states(space.from_json({f"mlp@{index}": 16}))
        dense = space.states(space.dense)
        for row in text:
            expected = through_blocks(plain, dense, row[None])
            errors = [
                (through_blocks(bench, states, row[None]) - expected).square().sum() for bench in (plain, repaired)
            ]
            closer += int(errors[1] < errors[0])
    assert closer >= 18


def test_recipes_know_every_order_and_repair() -> None:
    fields = WidthsSettings.model_fields
    assert set(get_args(fields["order"].annotation)) == set(ORDERS)
    assert set(get_args(get_args(fields["repair"].annotation)[0])) == set(REPAIRS)
    assert set(NEEDS_GRAM) < set(ACTIVATION_ORDERS) < set(ORDERS)


def test_preparation_goes_on_where_it_stopped() -> None:
    """A second preparation finds every file of the first; a missing one is made again, the same."""
    bench, _ = prepared("llama", WidthSettings("obs", "least-squares", "pca"))
    files = sorted(bench.width_folder.iterdir())
    before = {path.name: path.read_bytes() for path in files}
    for path in files[::5]:
        path.unlink()
    told: list[str] = []
    again = Loaded(
        model_of("llama"),
        None,
        bench.anatomy,
        model_digest(model_of("llama")),
        {"calibration": random_text()},
        "wanda",
        WidthSettings("obs", "least-squares", "pca"),
    )
    again.prepared(Space(bench.anatomy, all_genes(bench.anatomy, "pca")), lambda what, done, total: told.append(what))
    assert {path.name: path.read_bytes() for path in sorted(bench.width_folder.iterdir())} == before
    assert any("importance" in what for what in told)
    assert any("repairs" in what for what in told)

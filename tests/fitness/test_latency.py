"""Latency measured on tiny models: shapes really run, tables compose, and noise is told from a result."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from secateur.fitness.cache import cache_folder
from secateur.fitness.model.blocks import Blocks
from secateur.fitness.model.checkpoint import anatomy_of
from secateur.fitness.subnets.weights import Weights
from secateur.fitness.timing import latency, turns
from secateur.fitness.timing.latency import compared, measure_table, request, threads, time_model, until_settled
from secateur.fitness.widths.preparation import WidthSettings
from secateur.space.latency import Times, Workload
from secateur.space.space import Space
from secateur.space.state import dense_state
from tests.fitness.prepared import prepared
from tests.tiny import CAUSAL_NAMES, FAMILY_NAMES, all_genes, model_of

WORKLOAD = Workload(2, 16, 3)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_every_shape_of_every_family_is_timed_and_the_model_left_dense(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(family)
    shape = anatomy_of(model)
    space = Space(shape, all_genes(shape))
    blocks = Blocks(model, shape)
    ids = torch.randint(3, 90, (1, 8), generator=torch.Generator().manual_seed(0))
    before = model(input_ids=ids).logits
    monkeypatch.setattr(latency, "ROUNDS", (2, 2))
    workload = WORKLOAD if family in CAUSAL_NAMES else Workload(2, 16, 0)
    table = measure_table(blocks, Weights(blocks), space.shapes(), workload, "float32", 1, 0.01, 0.0)
    assert {(e.part, e.kind, e.size, e.hidden) for e in table.entries} == set(space.shapes())
    assert torch.equal(model(input_ids=ids).logits, before)
    costs = space.with_latency(table).dense_costs
    assert costs.prefill is not None
    assert costs.prefill > 0
    assert costs.latency == costs.prefill + workload.decode * (costs.decode or 0)


def test_narrower_residual_streams_are_timed_at_their_width(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, space = prepared("llama", WidthSettings("magnitude", None, "pca"), tie_word_embeddings=True)
    monkeypatch.setattr(latency, "ROUNDS", (2, 2))
    table = bench.latency_table(space, WORKLOAD, 1, 0.01, 0.0)
    assert {entry.hidden for entry in table.entries} == {32, 24, 20}
    assert all((state.hidden, state.kept["channels"]) == (32, 48) for state in bench.subnet.states)
    for genome in (space.dense, space.smallest):
        costs = space.with_latency(table).costs(genome)
        assert (costs.latency or 0) > 0


def test_a_table_is_measured_once_on_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("llama")
    shape = anatomy_of(model)
    blocks = Blocks(model, shape)
    space = Space(shape, all_genes(shape))
    monkeypatch.setattr(latency, "ROUNDS", (2, 2))
    first = measure_table(blocks, Weights(blocks), space.shapes(), WORKLOAD, "float32", 1, 0.01, 0.0)
    assert {"processor", "threads", "torch", "repeats", "dense"} <= set(first.machine)
    assert first.machine["threads"] == 1
    calls: list[None] = []
    monkeypatch.setattr(latency, "request", lambda *arguments: calls.append(None))
    assert measure_table(blocks, Weights(blocks), space.shapes(), WORKLOAD, "float32", 1, 0.01, 0.0) == first
    assert not calls
    with pytest.raises(TypeError):  # another workload is measured anew
        measure_table(blocks, Weights(blocks), space.shapes(), Workload(1, 16, 3), "float32", 1, 0.01, 0.0)
    assert calls


def test_a_clock_that_counts_work_gives_back_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that counts executed weights instead of seconds, the composed table is exact for any genome."""
    model = model_of("llama")
    shape = anatomy_of(model)
    blocks = Blocks(model, shape)
    space = Space(shape, all_genes(shape))

    def counted(live: torch.nn.Module, ids: torch.Tensor, _: int) -> tuple[float, float]:
        work = [0]

        def hook(module: torch.nn.Module, *_: object) -> None:
            work[0] += sum(p.numel() for p in module.parameters(recurse=False))

        handles = [m.register_forward_hook(hook) for m in live.modules() if not list(m.children())]
        live(input_ids=ids)
        for handle in handles:
            handle.remove()
        return work[0] * 1e-6, 2 * work[0] * 1e-6

    monkeypatch.setattr(latency, "request", counted)
    table = measure_table(blocks, Weights(blocks), space.shapes(), WORKLOAD, "float32", 1, 0.01, 0.0)
    space = space.with_latency(table)
    rng = np.random.default_rng(0)
    from secateur.operators.sampling import uniform

    for _ in range(20):
        genome = uniform(space, rng)
        # Zeros are multiplied like any number.
        states = [replace(state, treated={}) for state in space.states(genome)]
        if not any(not state.removed for state in states):
            continue
        measured = time_model(model, shape, Weights(blocks), states, WORKLOAD, 1, 3)
        costs = space.costs(genome)
        assert costs.prefill == pytest.approx(measured.times.prefill, rel=1e-9)
        assert costs.decode == pytest.approx(measured.times.decode, rel=1e-9)


def test_ratios_are_of_turns_so_that_drift_cancels() -> None:
    drifting = [[(0.5 * drift, 0.2 * drift), (1.0 * drift, 0.5 * drift)] for drift in (1.0, 1.5, 3.0, 2.0, 1.2)]
    measured = compared("cpu", drifting, Workload(1, 8, 10))
    assert measured.ratios["prefill"].median == pytest.approx(0.5)
    assert measured.ratios["decode"].median == pytest.approx(0.4)
    assert measured.ratios["latency"].median == pytest.approx(2.5 / 6.0)
    assert all(ratio.spread == pytest.approx(0.0, abs=1e-12) for ratio in measured.ratios.values())
    assert measured.times == Times(750_000_000, 300_000_000)


def test_what_spreads_is_timed_longer_and_called_unreliable() -> None:
    rng = np.random.default_rng(0)
    turns = iter([[(rng.uniform(0.1, 3.0), 0.1), (1.0, 0.2)] for _ in range(1000)])
    measured = until_settled("cpu", lambda: next(turns), Workload(1, 8, 1), 5)
    assert measured.repeats == latency.PATIENCE * 5
    assert not measured.ratios["prefill"].reliable
    assert measured.ratios["decode"].reliable
    calm = until_settled("cpu", lambda: [(0.5, 0.1), (1.0, 0.2)], Workload(1, 8, 1), 5)
    assert calm.repeats == 5


def test_a_request_without_decoding_needs_no_cache() -> None:
    seconds, step = request(model_of("bert"), torch.ones((1, 8), dtype=torch.int64), 0)
    assert seconds > 0
    assert step == 0.0
    before = torch.get_num_threads()
    with threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_dense_is_itself() -> None:
    model = model_of("qwen2")
    shape = anatomy_of(model)
    dense = [dense_state(block) for block in shape.blocks]
    measured = time_model(model, shape, Weights(Blocks(model, shape)), dense, Workload(1, 16, 2), 1, 15)
    assert 0.5 < measured.ratios["prefill"].median < 2.0


def test_a_measurement_that_was_stopped_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("llama")
    shape = anatomy_of(model)
    blocks, space = Blocks(model, shape), Space(shape, all_genes(shape))
    monkeypatch.setattr(latency, "ROUNDS", (8, 8))
    monkeypatch.setattr(turns, "SECONDS", 0.0)
    done: list[int] = []
    calls: list[None] = []

    def timed(*arguments: Any) -> tuple[float, float]:
        calls.append(None)
        return request(*arguments)

    def watch(count: int, _: int) -> None:
        done.append(count)
        if done.count(count) == 1 and count == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(latency, "request", timed)
    how = space.shapes(), WORKLOAD, "float32", 1, 0.0, 60.0, watch
    with pytest.raises(KeyboardInterrupt):
        measure_table(blocks, Weights(blocks), *how)
    before = len(calls)
    table = measure_table(blocks, Weights(blocks), *how)
    assert done == [0, 1, 2, 3, 4, 5, 5, 6, 7, 8]
    assert len(calls) - before == 4 * (1 + len(space.shapes())), "a turn to warm up, and the three that were left"
    assert table.machine["repeats"] == 8
    assert [file.name for file in (cache_folder() / "latency").iterdir() if "turns" in file.name] == []

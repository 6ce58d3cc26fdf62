"""Shared prefixes change nothing but the number of layer passes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from secateur.fitness.evaluator import SubnetEvaluator, aligned
from secateur.fitness.model.blocks import Blocks
from secateur.fitness.model.checkpoint import anatomy_of
from secateur.fitness.model.examined import model_digest
from secateur.fitness.scores.built_in import score
from secateur.fitness.scores.teacher import Teacher
from secateur.fitness.subnets.subnet import Subnet
from secateur.fitness.subnets.weights import Weights
from secateur.fitness.text import Sequences, thinned
from secateur.fitness.treatments import Ground
from secateur.fitness.zeros.treatment import Zeros
from secateur.operators.sampling import uniform
from secateur.space.errors import DeviceError, SecateurError
from secateur.space.evaluation import Evaluation
from secateur.space.genome import Genome
from secateur.space.scores import SCORES
from secateur.space.space import Space
from tests.tiny import LEVELS, VOCABULARY, mixed_genes, model_of

MODEL = model_of("llama")
SHAPE = anatomy_of(MODEL)
SPACE = Space(SHAPE, mixed_genes(SHAPE))
TEXT = Sequences(
    "random", torch.randint(3, VOCABULARY, (6, 16), generator=torch.Generator().manual_seed(0)), frozenset()
)


def make(folder: Path, scores: tuple[str, ...] = ("kl",), model: Any = MODEL) -> SubnetEvaluator:
    blocks = Blocks(model, SHAPE)
    zeros = Zeros(Ground(blocks, str(folder), TEXT, "magnitude"))
    zeros.prepare({(block, 0): LEVELS for block in range(4)}, lambda _done, _total: None)
    weights = Weights(blocks, {"zeros": zeros})
    return SubnetEvaluator(SPACE, Subnet(blocks, weights), Teacher(blocks, TEXT, model_digest(model)), scores)


@pytest.fixture(scope="module")
def evaluate(tmp_path_factory: pytest.TempPathFactory) -> SubnetEvaluator:
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("trie")
    patch.setenv("SECATEUR_CACHE", str(folder))
    made = make(folder, tuple(SCORES))
    made.teacher.prepare(range(6))
    patch.undo()
    return made


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.integers(1, 7), st.integers(0, 4))
def test_equal_to_one_at_a_time_with_one_pass_per_prefix(
    evaluate: SubnetEvaluator, seed: int, count: int, start: int
) -> None:
    rng = np.random.default_rng(seed)
    population = [uniform(SPACE, rng) for _ in range(count)] + [SPACE.dense]
    sequences = range(start, 6)
    evaluate.layer_passes = 0
    together = {e.key: e for e in evaluate(population, sequences)}
    prefixes = {
        states[: depth + 1]
        for states in map(SPACE.states, population)
        for depth in range(4)
        if not states[depth].removed
    }
    assert evaluate.layer_passes == len(prefixes) * len(sequences)
    assert sum(e.layer_passes for e in evaluate(population, sequences)) == len(prefixes) * len(sequences)
    for genome in population:
        alone = next(evaluate([genome], sequences))
        assert alone.losses == together[alone.key].losses
        assert alone.status == "ok"


def test_dense_costs_nothing_and_cross_entropy_is_the_models_own(evaluate: SubnetEvaluator) -> None:
    dense = next(evaluate([SPACE.dense], range(6)))
    for name in ("kl", "kl_full", "hidden_error"):
        assert max(map(abs, dense.losses[name])) < 1e-5
    with torch.no_grad():
        expected = [float(MODEL(row[None], labels=row[None]).loss) for row in TEXT.ids]
    assert dense.losses["cross_entropy"] == pytest.approx(expected, rel=1e-5)


def test_top_and_tail_is_a_lower_bound_of_the_full_kl(evaluate: SubnetEvaluator) -> None:
    rng = np.random.default_rng(0)
    for one in evaluate([uniform(SPACE, rng) for _ in range(6)], range(6)):
        pairs = zip(one.losses["kl"], one.losses["kl_full"], strict=True)
        assert all(0 <= low <= full + 1e-5 for low, full in pairs)


def test_more_sequences_than_fit_are_evaluated_in_turns(
    evaluate: SubnetEvaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    genomes = [SPACE.dense, SPACE.smallest]
    whole = list(evaluate(genomes, range(6)))
    monkeypatch.setattr(evaluate, "_at_once", 4)
    parts = list(evaluate(genomes, range(1, 6)))
    assert [part.sequences for part in parts] == [range(1, 4)] * 2 + [range(4, 6)] * 2
    joined = {p.key: p.losses["kl"] + q.losses["kl"] for p, q in zip(parts[:2], parts[2:], strict=True)}
    assert joined == {e.key: e.losses["kl"][1:] for e in whole}


def test_batches_change_nothing_but_the_speed(evaluate: SubnetEvaluator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sequences go through the blocks together; each gets its losses of one at a time, whatever is asked."""
    rng = np.random.default_rng(3)
    genomes = [SPACE.dense, *(uniform(SPACE, rng) for _ in range(4))]
    monkeypatch.setattr(evaluate._batches, "size", 1)
    evaluate.layer_passes = 0
    alone = {one.key: one.losses for one in evaluate(genomes, range(6))}
    each, evaluate.layer_passes = evaluate.layer_passes // 6, 0
    for size in (2, 4, 6):
        monkeypatch.setattr(evaluate._batches, "size", size)
        for asked in (range(6), range(1, 5), range(3, 4)):
            for one in evaluate(genomes, asked):
                for name, values in one.losses.items():
                    expected = alone[one.key][name][asked.start : asked.stop]
                    assert values == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert evaluate.layer_passes == 3 * (6 + 4 + 1) * each


def test_batches_are_aligned() -> None:
    assert aligned(range(3, 10), 4) == [range(3, 4), range(4, 8), range(8, 10)]
    assert aligned(range(4, 6), 4) == [range(4, 6)]
    assert aligned(range(8), 4) == [range(4), range(4, 8)]


def test_fewer_positions_are_unbiased_and_all_that_the_head_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = Teacher(Blocks(MODEL, SPACE.anatomy), TEXT, model_digest(MODEL))
    teacher.prepare(range(2))
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, TEXT.length, SPACE.anatomy.hidden_size, generator=generator)
    names = ("kl", "kl_full", "cross_entropy")
    everywhere = torch.arange(TEXT.length - 1).expand(len(TEXT), -1)
    teacher.text = replace(TEXT, positions=everywhere)
    whole = score(names, hidden, range(2), teacher)
    rows, logits = [], Blocks.logits

    def counted(blocks: Blocks, states: torch.Tensor) -> torch.Tensor:
        rows.append(states.shape[1])
        return logits(blocks, states)

    monkeypatch.setattr(Blocks, "logits", counted)
    means: list[dict[str, float]] = []
    for seed in range(300):
        teacher.text = thinned(TEXT, 5, seed)
        teacher.forget(range(2))
        teacher.prepare(range(2))
        assert teacher.text.positions is not None
        assert teacher.text.positions.shape == (len(TEXT), 5)
        assert bool((teacher.text.positions.diff(dim=1) >= 0).all())
        means += score(names, hidden, range(2), teacher)
    assert sum(rows) == 300 * 2 * 5 * 2, "ten positions a time, and the dense model's for kl_full"
    for name in names:
        values = [one[name] for one in means]
        error = float(np.std(values)) / len(values) ** 0.5
        expected = (whole[0][name] + whole[1][name]) / 2
        assert abs(float(np.mean(values)) - expected) < 4 * error + 1e-4, name
    assert thinned(TEXT, 5, 0).digest != thinned(TEXT, 5, 1).digest != TEXT.digest
    with pytest.raises(SecateurError, match="positions are more than the"):
        thinned(TEXT, TEXT.length, 0)


class Fault(nn.Module):
    """An MLP that goes wrong."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        if self.what == "nan":
            return hidden * float("nan")
        if self.what == "late":
            late = torch.arange(hidden.shape[1]) >= hidden.shape[1] // 2
            return hidden.masked_fill(late[:, None], float("nan"))
        if self.what == "inf":
            return hidden * float("inf")
        if self.what == "division":
            raise ZeroDivisionError("division by zero")
        if self.what == "device":
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        raise KeyError("a fault of ours")


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("nan", "kl is not finite"),
        ("inf", "kl is not finite"),
        ("division", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_failing_candidate_is_an_outcome(what: str, reason: str, tmp_path: Path) -> None:
    model = model_of("llama")
    made = make(tmp_path, model=model)
    made.teacher.prepare(range(2))
    model.model.layers[2].mlp = Fault(what)
    bad = SPACE.dense
    good = [SPACE.from_json({"mlp@2": 0}), SPACE.from_json({"mlp@2": 0, "mlp@3": 0})]
    told = {e.genome: e for e in made([good[0], bad, good[1]], range(2))}
    assert told[bad].status == "failed"
    assert told[bad].reason == reason
    assert told[bad].losses == {}
    assert all(told[genome].status == "ok" for genome in good)
    assert made.subnet.states == list(SPACE.states(SPACE.dense)), "the model is dense again"


class Crowded(nn.Module):
    """An MLP that has room for so many sequences at once."""

    def __init__(self, inner: nn.Module, room: int) -> None:
        super().__init__()
        self.inner, self.room, self.seen = inner, room, list[int]()

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(hidden))
        if len(hidden) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        result: torch.Tensor = self.inner(hidden)
        return result


def test_a_batch_that_does_not_fit_is_halved_and_nobody_is_blamed(tmp_path: Path) -> None:
    genomes = [SPACE.dense, SPACE.from_json({"mlp@3": 0}), SPACE.from_json({"mlp@1": 0})]
    expected = {one.genome: one.losses for one in make(tmp_path)(genomes, range(6))}
    for room, halved in ((6, 0), (4, 1), (1, 2)):
        model = model_of("llama")
        made = make(tmp_path, model=model)
        made.teacher.prepare(range(6))
        made._batches.size = 6
        crowded = Crowded(model.model.layers[2].mlp, room)
        model.model.layers[2].mlp = crowded
        told = list(made(genomes, range(6)))
        assert [one.status for one in told] == ["ok"] * 3
        assert {one.genome: one.losses for one in told} == expected, "to the bit"
        assert made._batches._halved == halved
        assert sum(size > room for size in crowded.seen) == halved, "not tried again and again"


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ("memory", DeviceError, "out of memory on cpu with 1 sequences at once: CUDA out of memory"),
        ("device", DeviceError, "the device cpu has failed: CUDA error: an illegal memory access"),
        ("bug", KeyError, "a fault of ours"),
    ],
)
def test_what_no_candidate_is_to_blame_for_ends_the_run(
    what: str, error: type[Exception], message: str, tmp_path: Path
) -> None:
    model = model_of("llama")
    made = make(tmp_path, model=model)
    made.teacher.prepare(range(4))
    layer = model.model.layers[2]
    layer.mlp = Crowded(layer.mlp, 0) if what == "memory" else Fault(what)
    told: list[Evaluation] = []
    with pytest.raises(error, match=message):
        told += made([SPACE.dense, SPACE.smallest], range(4))
    assert not told, "nothing of the batch is noted"
    assert made.subnet.states == list(SPACE.states(SPACE.dense)), "the model is dense again"


@pytest.mark.parametrize("name", SCORES)
def test_who_overflows_at_some_positions_has_failed(name: str, tmp_path: Path) -> None:
    """Not scored on the positions that went well."""
    model = model_of("llama")
    made = make(tmp_path, (name,), model)
    made.teacher.prepare(range(2))
    model.model.layers[3].mlp = Fault("late")
    [told] = made([SPACE.dense], range(2))
    assert (told.status, told.reason) == ("failed", f"{name} is not finite")


def test_an_interrupted_population_leaves_the_model_dense(evaluate: SubnetEvaluator) -> None:
    started = evaluate([SPACE.smallest, SPACE.dense, SPACE.from_json({"mlp@1": 0})], range(2))
    next(started)
    started.close()  # type: ignore[attr-defined]
    assert evaluate.subnet.states == list(SPACE.states(SPACE.dense))
    assert torch.equal(evaluate.teacher.blocks.model(TEXT.ids[:1]).logits, model_of("llama")(TEXT.ids[:1]).logits)


def test_a_store_that_fails_half_way_leaves_the_block_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = make(tmp_path)
    genome = SPACE.from_json({"sparsity@1.attention": 0.5, "sparsity@1.mlp": 0.75, "mlp@2": 0})
    zeros = evaluate.subnet.weights.compressors["zeros"]
    assert isinstance(zeros, Zeros)
    store = zeros.store
    passed, calls = store.weight, iter(range(100))

    def failing(*arguments: Any) -> torch.Tensor:
        if next(calls) == 3:
            raise ArithmeticError("no numbers")
        return passed(*arguments)

    monkeypatch.setattr(store, "weight", failing)
    one = next(evaluate([genome], range(2)))
    assert (one.status, one.reason) == ("failed", "ArithmeticError: no numbers")
    monkeypatch.undo()
    dense = next(evaluate([SPACE.dense], range(2)))
    assert max(map(abs, dense.losses["kl"])) < 1e-5
    assert next(evaluate([genome], range(2))).status == "ok"


def test_a_candidate_that_failed_is_left_out_of_later_turns(
    evaluate: SubnetEvaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "_at_once", 2)
    passed = evaluate._losses

    def failing(states: Any, path: Any, sequences: range, apart: bool) -> Any:
        return ({}, "on purpose") if states == SPACE.states(SPACE.smallest) else passed(states, path, sequences, apart)

    monkeypatch.setattr(evaluate, "_losses", failing)
    told = list(evaluate([SPACE.smallest, SPACE.dense], range(6)))
    assert [e.sequences for e in told if e.status == "failed"] == [range(2)]
    assert [e.sequences for e in told if e.status == "ok"] == [range(2), range(2, 4), range(4, 6)]


def test_the_digest_names_the_whole_model() -> None:
    other = model_of("llama")
    assert model_digest(other) == model_digest(MODEL)
    other.config.rms_norm_eps *= 2
    assert model_digest(other) != model_digest(MODEL)


def test_genome_order_does_not_matter(evaluate: SubnetEvaluator) -> None:
    rng = np.random.default_rng(3)
    population: list[Genome] = [uniform(SPACE, rng) for _ in range(5)]
    forward = {e.key: e.losses for e in evaluate(population, range(3))}
    backward = {e.key: e.losses for e in evaluate(population[::-1], range(3))}
    assert forward == backward

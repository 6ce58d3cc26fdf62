"""Short training: what was removed stays removed, what is dense stays as it is, and states go on where they ended."""

import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.fitness import training as training_module
from secateur.fitness.bench import Bench
from secateur.fitness.scores.teacher import Teacher
from secateur.fitness.text import Sequences
from secateur.fitness.training import Trainer, Training
from secateur.fitness.widths.preparation import WidthSettings
from secateur.operators.sampling import uniform
from secateur.space.genome import Genome
from secateur.space.space import Space
from tests.fitness.prepared import prepared, random_text
from tests.tiny import VOCABULARY

WHAT = ("lora", "norms", "full")


def training_text(masked: bool = False) -> Sequences:
    base = random_text(masked)
    ids = torch.randint(3, VOCABULARY, (12, 16), generator=torch.Generator().manual_seed(5))
    targets = None if base.targets is None else torch.where(torch.arange(16) % 4 == 0, ids, base.targets[0][1])
    return Sequences("training", ids, frozenset(), targets)


def trainer_of(bench: Bench, space: Space, folder: Path, **changes: Any) -> Trainer:
    text = training_text(masked=not space.anatomy.causal)
    teacher = Teacher(bench.blocks, text, bench.prepared_digest, keep_hidden=False)
    return Trainer(space, bench.subnet, teacher, Training(**{"rank": 4, **changes}), folder, "tiny")


@pytest.fixture(scope="module")
def benches(tmp_path_factory: pytest.TempPathFactory) -> Any:
    patch = pytest.MonkeyPatch()
    patch.setenv("SECATEUR_CACHE", str(tmp_path_factory.mktemp("training")))
    made = {
        name: prepared(name, WidthSettings("magnitude", None, None), zeroed=share)
        for name, share in (("llama", 0.0), ("gpt2", 0.3), ("roberta", 0.0))
    }
    yield made
    patch.undo()


def zeros(bench: Bench, space: Space, genome: Genome, parameters: dict[str, torch.Tensor]) -> tuple[int, int]:
    """(weights that are zero in the linears of a subnet, those of them that training made something else)."""
    total = grown = 0
    with bench.subnet as subnet:
        subnet.apply(space.states(genome))
        live = dict(bench.model.named_parameters())
        for block in space.anatomy.blocks:
            for linear in block.linears:
                name = f"{space.anatomy.blocks_path}.{block.index}.{linear.name}.weight"
                if name in live:
                    gone = live[name] == 0
                    total += int(gone.sum())
                    assert parameters.get(name, live[name]).shape == live[name].shape
                    grown += int((parameters.get(name, live[name])[gone] != 0).sum())
    return total, grown


@settings(max_examples=12)
@given(st.integers(0, 10_000), st.sampled_from(WHAT), st.sampled_from(["llama", "gpt2", "roberta"]))
def test_zeros_stay_and_the_dense_model_is_bitwise_what_it_was(benches: Any, seed: int, what: str, family: str) -> None:
    """After every single step: stages of one batch each."""
    import numpy as np

    bench, space = benches[family]
    genome = uniform(space, np.random.default_rng(seed))
    before = {name: tensor.clone() for name, tensor in bench.model.state_dict().items()}
    storage = {name: parameter.data_ptr() for name, parameter in bench.model.named_parameters()}
    folder = Path(training_module.__file__).parent / "nowhere"
    trainer = trainer_of(bench, space, folder, what=what, learning_rate=0.05, batch=2, seed=seed)
    state: dict[str, torch.Tensor] = {}
    for step in range(3):
        state = trainer._train(genome, state, (32,) * (step + 1))
        with bench.subnet as subnet, torch.no_grad():
            subnet.apply(space.states(genome))
            parameters = trainer._effective(genome, state, trainer._began(genome))
            live = dict(bench.model.named_parameters())
            changed = sum(int((tensor != live[name]).any()) for name, tensor in parameters.items())
        assert changed > len(parameters) // 2 or not parameters
        _, grown = zeros(bench, space, genome, parameters)
        assert grown == 0
    after = bench.model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert storage == {name: parameter.data_ptr() for name, parameter in bench.model.named_parameters()}
    assert all(parameter.grad is None for parameter in bench.model.parameters())
    assert not folder.exists()


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("loss", ["distillation", "cross_entropy", "both"])
def test_training_lowers_the_loss_it_is_trained_on(benches: Any, tmp_path: Path, what: str, loss: str) -> None:
    bench, space = benches["llama"]
    genome = space.dense.with_level(1, 1).with_level(5, 2)
    genome = space.canonical(genome)
    trainer = trainer_of(bench, space, tmp_path, what=what, loss=loss, learning_rate=0.01)
    text = trainer.teacher.text
    scores = {"distillation": ("kl",), "cross_entropy": ("cross_entropy",), "both": ("kl", "cross_entropy")}[loss]
    evaluator = bench.evaluator(space, "calibration", scores)
    evaluator.teacher = trainer.teacher
    [untrained] = list(evaluator([genome], range(len(text))))
    trained = evaluator.changed(genome, range(len(text)), lambda one: trainer(one, (10 * 12 * 16,)))
    assert trained.status == untrained.status
    before, after = (sum(sum(one.losses[name]) for name in scores) for one in (untrained, trained))
    assert after < 0.97 * before


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_two_stages_are_one_of_their_length(benches: Any, tmp_path: Path, what: str, optimiser: str) -> None:
    """The optimiser's state goes on too; a stage ends with a batch, so that nothing else differs."""
    bench, space = benches["llama"]
    genome = space.canonical(space.dense.with_level(0, 1))
    changes = {"what": what, "optimiser": optimiser, "batch": 2, "learning_rate": 0.01}
    whole = trainer_of(bench, space, tmp_path / "whole", **changes)(genome, (6 * 16,))
    parts = trainer_of(bench, space, tmp_path / "parts", **changes)
    first = parts(genome, (4 * 16,))
    second = parts(genome, (4 * 16, 2 * 16))
    assert parts.trained_tokens == 6 * 16
    assert any(not torch.equal(first[name], second[name]) for name in first)
    for name, tensor in whole.items():
        assert torch.allclose(tensor, second[name], atol=1e-6), name


def test_each_stage_may_have_its_own_optimiser_and_rate(benches: Any, tmp_path: Path) -> None:
    bench, space = benches["llama"]
    genome = space.canonical(space.dense.with_level(0, 1))

    def trained(name: str, **changes: Any) -> list[dict[str, torch.Tensor]]:
        trainer = trainer_of(bench, space, tmp_path / name, what="norms", batch=2, **changes)
        return [trainer(genome, chain) for chain in ((64,), (64, 64), (64, 64, 64))]

    def distance(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> float:
        return max(float((one[name] - two[name]).abs().max()) for name in one)

    plain = trained("plain", learning_rate=0.01)
    still = trained("still", learning_rate=(0.01, 1e-12))
    assert distance(plain[0], still[0]) == 0
    assert distance(plain[0], plain[1]) > 1e-3
    # The last rate is that of all later stages.
    assert distance(still[0], still[2]) < 1e-6
    # Another optimiser begins without the moments of the one before: a step of SGD is as long as its rate makes it.
    mixed = trained("mixed", learning_rate=(0.01, 1e-3), optimiser=("adamw", "sgd"))
    alone = trained("alone", learning_rate=(0.01, 1e-3), optimiser="adamw")
    assert distance(mixed[0], plain[0]) == 0
    assert distance(mixed[0], mixed[1]) > 0
    assert distance(mixed[1], alone[1]) > 1e-4


def test_what_was_trained_is_not_trained_again(benches: Any, tmp_path: Path) -> None:
    """Killed in the second stage: the next one begins with the first stage's state; forgotten ones are made again."""
    bench, space = benches["llama"]
    genome = space.canonical(space.dense.with_level(0, 1))
    trainer = trainer_of(bench, space, tmp_path)
    wanted = trainer(genome, (32, 64))
    assert trainer.trained_tokens == 96
    again = trainer_of(bench, space, tmp_path)
    same = again(genome, (32, 64))
    assert again.trained_tokens == 0
    trainer._path(genome, (32, 64)).unlink()
    resumed = trainer_of(bench, space, tmp_path)
    third = resumed(genome, (32, 64))
    assert resumed.trained_tokens == 64
    for path in tmp_path.glob("*.safetensors"):
        path.unlink()
    fresh = trainer_of(bench, space, tmp_path)
    fourth = fresh(genome, (32, 64))
    assert fresh.trained_tokens == 96
    for name, tensor in wanted.items():
        assert all(torch.equal(tensor, other[name]) for other in (same, third, fourth))


def test_what_has_nothing_left_to_train_is_as_it_was(benches: Any, tmp_path: Path) -> None:
    bench, space = benches["roberta"]
    dropped = [0 if gene.kind.name == "sparsity" else len(gene.levels) - 1 for gene in space.genes]
    genome = space.canonical(Genome(tuple(dropped)))
    assert all(state.removed for state in space.states(genome))
    trainer = trainer_of(bench, space, tmp_path)
    assert trainer(genome, (32, 32)) == {}
    evaluator = bench.evaluator(space, "calibration", ("kl",))
    [untrained] = list(evaluator([genome], range(4)))
    told = evaluator.changed(genome, range(4), lambda one: trainer(one, (32,)))
    assert told.primary == pytest.approx(untrained.primary)


def test_the_oldest_states_make_room(benches: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, space = benches["llama"]
    genomes = [space.canonical(space.dense.with_level(index, 1)) for index in range(4)]
    trainer = trainer_of(bench, space, tmp_path, what="norms")
    trainer(genomes[0], (16,))
    size = trainer._path(genomes[0], (16,)).stat().st_size
    monkeypatch.setattr(training_module, "KEPT_BYTES", int(2.5 * size))
    monkeypatch.setattr(training_module, "KEPT_STATES", 0)
    trainer(genomes[1], (16,))
    time.sleep(0.02)  # the clock of files is a coarse one
    trainer(genomes[0], (16,))  # used again: younger than the second
    trainer(genomes[2], (16,))
    assert [trainer._path(genome, (16,)).exists() for genome in genomes] == [True, False, True, False]


def test_a_candidate_whose_training_overflows_has_failed(benches: Any, tmp_path: Path) -> None:
    bench, space = benches["llama"]
    genome = space.canonical(space.dense.with_level(0, 1))
    trainer = trainer_of(bench, space, tmp_path, learning_rate=1e38, optimiser="sgd")
    evaluator = bench.evaluator(space, "calibration", ("kl",))
    told = evaluator.changed(genome, range(4), lambda one: trainer(one, (320,)))
    assert told.status == "failed"
    assert "not finite" in told.reason
    assert told.loss == math.inf
    assert not list(tmp_path.glob("*.safetensors"))
    [good] = list(evaluator([genome], range(4)))
    assert good.status == "ok"

"""Training a plan further: what a kill leaves, what the checkpoint is, and what is predicted."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

import secateur
from secateur.cli.main import app
from secateur.fitness.training import Trainer
from secateur.runs.problem import space_of
from secateur.runs.record.folder import RunFolder
from secateur.runs.report.prediction import predicted_loss
from secateur.runs.stages.tuning import Tuned, tune
from secateur.runs.workplace import workplace_of
from secateur.space.errors import SecateurError
from tests.tiny import model_of, tiny_recipe

HOW = ["training.learning_rate=0.01", "training.batch=2", "training.rank=2"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """A finished run with drops, widths and sparsity, and a front without training."""
    folder = tmp_path_factory.mktemp("tune")
    patch = pytest.MonkeyPatch()
    patch.setenv("SECATEUR_CACHE", str(folder / "cache"))
    genes = [
        {"kind": "attention"},
        {"kind": "mlp", "levels": [1.0, 0.5, 0]},
        {"kind": "sparsity", "per": "block", "levels": [0.25, 0.5]},
    ]
    recipe = tiny_recipe(
        tiny / "model",
        tiny / "calibration.txt",
        tiny / "held.txt",
        genes=genes,
        budgets={"nonzero_parameters": "0.8x"},
        strategy={"name": "random", "sequences": 2},
        effort={"evaluations": 12},
        seed=1,
    )
    path = secateur.run(recipe, folder / "run").path
    patch.undo()
    return path


def tuned(run: Path, tokens: int, out: Path, *changes: str, every: int = 64) -> Tuned:
    with RunFolder.open(run, writing=False) as folder:
        return tune(folder, "found", tokens, every, out, changes or HOW)


def test_training_lowers_the_loss_and_the_checkpoint_is_what_was_scored(run: Path, tmp_path: Path) -> None:
    result = tuned(run, 320, tmp_path / "out", "training.what=full", "training.learning_rate=0.0005")
    assert [point.tokens for point in result.points] == [0, 64, 128, 192, 256, 320]
    first, last = (point.losses["held"]["kl"] for point in (result.points[0], result.points[-1]))
    assert last < first
    with RunFolder.open(run, writing=False) as folder:
        space, recipe = space_of(folder), folder.recipe
        genome = folder.journal.choices()["found"].genome
        ids = workplace_of(recipe, space).load().texts["held"].ids
    model = AutoModelForCausalLM.from_pretrained(result.checkpoint)
    with torch.no_grad():
        logits = model(input_ids=ids).logits
    losses = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    assert float(losses) == pytest.approx(result.points[-1].losses["held"]["cross_entropy"], rel=1e-4)
    # What was pruned is zero in what was written.
    pruned = 0
    kept = [index for index, state in enumerate(space.states(genome)) if not state.removed]
    for new, old in enumerate(kept):
        state, block = space.states(genome)[old], space.anatomy.blocks[old]
        for linear, level in zip(block.linears, state.levels(block), strict=True):
            name = f"model.layers.{new}.{linear.name}.weight"
            if level and name in dict(model.named_parameters()):
                weight = model.get_parameter(name)
                assert int((weight == 0).sum()) >= int(level.share * weight.numel()) - weight.shape[0]
                pruned += 1
    assert pruned


def test_killed_in_the_middle_it_goes_on_from_the_last_state(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tuned(run, 256, tmp_path / "whole")
    train, left = Trainer._train, [2]

    def interrupted(self: Trainer, *arguments: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return train(self, *arguments)

    monkeypatch.setattr(Trainer, "_train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tuned(run, 256, tmp_path / "cut")
    assert len(json.loads((tmp_path / "cut" / "tune.json").read_text())["points"]) == 3
    assert not list((tmp_path / "cut").glob("checkpoint-*"))
    left[0] = 2
    resumed = tuned(run, 256, tmp_path / "cut")
    assert left[0] == 0
    assert resumed.points == whole.points
    assert resumed.prediction == whole.prediction
    for name in ("model.safetensors", "config.json"):
        one, other = ((path / "checkpoint-256" / name).read_bytes() for path in (tmp_path / "whole", tmp_path / "cut"))
        assert one == other
    # More tokens go on from there; fewer are an answer that is known.
    left[0] = 1
    more = tuned(run, 320, tmp_path / "cut")
    assert more.points[:5] == whole.points
    left[0] = 0
    assert tuned(run, 256, tmp_path / "cut").points == whole.points


def test_what_cannot_be_tuned_is_refused(run: Path, tmp_path: Path) -> None:
    tuned(run, 64, tmp_path / "out")
    with pytest.raises(SecateurError, match="was tuned with training"):
        tuned(run, 64, tmp_path / "out", "training.what=norms")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(SecateurError, match="no folder of a tuned plan"):
        tuned(run, 64, tmp_path / "other")
    with pytest.raises(SecateurError, match=r"training\.wat: unknown key; did you mean 'what'"):
        tuned(run, 64, tmp_path / "new", "training.wat=norms")
    with pytest.raises(SecateurError, match="only training is set here"):
        tuned(run, 64, tmp_path / "new", "seed=3")
    with pytest.raises(SecateurError, match="training failed after"):
        tuned(run, 64, tmp_path / "nan", "training.learning_rate=1e38", "training.optimiser=sgd", "training.what=full")
    with pytest.raises(SecateurError, match=r"lower training\.learning_rate"):
        changes = ["training.learning_rate=1e38", "training.optimiser=sgd", "training.what=full", "training.batch=2"]
        tuned(run, 64, tmp_path / "nan2", *changes)
    with (
        pytest.raises(SecateurError, match="one plan is tuned at a time"),
        RunFolder.open(run, writing=False) as folder,
    ):
        tune(folder, "all", 64, 64, tmp_path / "new")
    (tmp_path / "out" / "tune.json").write_text("[]")
    with pytest.raises(SecateurError, match="no folder of a tuned plan"):
        tuned(run, 64, tmp_path / "out")
    assert not (tmp_path / "new").exists()


def test_the_command_line_tunes(run: Path, tmp_path: Path) -> None:
    arguments = ["tune", str(run), "--tokens", "256", "--every", "64", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*arguments, "--set", "training.what=norms", "--set", "training.learning_rate=0.01"])
    assert done.exit_code == 0, done.output
    assert "checkpoint-256" in done.output.replace("\n", "")
    assert "perplexity" in done.output


@given(st.floats(0.1, 2), st.floats(0.05, 2), st.floats(0.2, 1.5))
def test_the_law_is_found_where_it_holds(least: float, height: float, power: float) -> None:
    def loss(tokens: int) -> float:
        return float(least + height * (tokens / 1000) ** -power)

    points = [(tokens, loss(tokens)) for tokens in (1000, 2000, 3000, 5000, 8000)]
    found = predicted_loss([(0, 9.0), *points], 16_000)
    assert found == pytest.approx(loss(16_000), rel=0.02)


def test_few_points_predict_nothing() -> None:
    assert predicted_loss([(0, 3.0), (10, 2.0), (20, 1.5), (30, 1.4)], 60) is None
    flat = predicted_loss([(10, 1.0), (20, 1.0), (30, 1.0), (40, 1.0)], 80)
    assert flat is None or math.isclose(flat, 1.0, abs_tol=1e-3)


def test_tokens_are_what_was_trained_on(run: Path, tmp_path: Path) -> None:
    """Whole sequences of 16, no more than was asked for because of long stages, and a last stage of what is left."""
    result = tuned(run, 40, tmp_path / "short", every=500)
    assert [point.tokens for point in result.points] == [0, 48]
    result = tuned(run, 72, tmp_path / "rest", every=30)
    assert [point.tokens for point in result.points] == [0, 32, 64, 80]
    card = (result.checkpoint / "README.md").read_text()
    assert "Trained afterwards: lora, distillation, 80 tokens" in card
    scores = json.loads((result.checkpoint / "plan.json").read_text())["scores"]["held"]["kl"]
    assert scores["mean"] == pytest.approx(result.points[-1].losses["held"]["kl"])


def test_more_tokens_go_on_whatever_the_first_ones_were(run: Path, tmp_path: Path) -> None:
    """A first call shorter than its stages, then others: one chain, on all the text there is."""
    first = tuned(run, 32, tmp_path / "out", every=500)
    sequences = json.loads((tmp_path / "out" / "tune.json").read_text())["text"]["sequences"]
    assert sequences > 8
    second = tuned(run, 96, tmp_path / "out", every=48)
    assert second.points[:2] == first.points
    assert [point.tokens for point in second.points] == [0, 32, 80, 96]
    assert tuned(run, 96, tmp_path / "out", every=500).points == second.points
    with pytest.raises(SecateurError, match="has points at 32, 80, 96 tokens"):
        tuned(run, 64, tmp_path / "out")


def test_another_text_in_the_same_place_is_refused(run: Path, tiny: Path, tmp_path: Path) -> None:
    text = tmp_path / "mine.txt"
    text.write_text((tiny / "calibration.txt").read_text())
    settings = [f"training.text.source={text}", "training.text.sequences=4", "training.text.length=16"]
    tuned(run, 32, tmp_path / "out", *HOW, *settings)
    text.write_text("\n\n".join(reversed(text.read_text().split("\n\n"))))
    with pytest.raises(SecateurError, match="not the text it was tuned on"):
        tuned(run, 64, tmp_path / "out", *HOW, *settings)


def test_of_rates_for_stages_the_last_is_tuned_with(run: Path, tmp_path: Path) -> None:
    one = tuned(run, 64, tmp_path / "one", *HOW[1:], "training.learning_rate=[0.1, 0.01]")
    two = tuned(run, 64, tmp_path / "two", *HOW)
    assert one.points == two.points
    for change in ("training.candidates=3", "training.stages=[]"):
        with pytest.raises(SecateurError, match="stages of a search"):
            tuned(run, 64, tmp_path / "three", change)


def test_another_model_in_the_same_place_is_not_tuned(run: Path, tiny: Path, tmp_path: Path) -> None:
    weights = tiny / "model" / "model.safetensors"
    kept = weights.read_bytes()
    try:
        model_of("llama", seed=5).save_pretrained(tiny / "model")
        with pytest.raises(SecateurError, match="not the one the run was made with"):
            tuned(run, 64, tmp_path / "out")
    finally:
        weights.write_bytes(kept)

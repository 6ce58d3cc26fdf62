"""Downstream tasks on runs and checkpoints, against lm-eval's own loading of exported models."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import secateur
from secateur.cli.main import app
from secateur.fitness import answers
from secateur.fitness.model.checkpoint import load_model, load_tokenizer
from secateur.fitness.scores.tasks import TaskRequest, TaskRun, TaskScore, run_task
from secateur.runs.problem import space_of
from secateur.runs.record.folder import RunFolder
from secateur.runs.report.tasks import task_grid
from secateur.runs.stages.tasks import evaluate_run
from secateur.space.errors import SecateurError
from secateur.space.objective import task_weights
from secateur.space.tasks import TASKS, TaskAnswer
from tests.tasks import task_folder
from tests.test_training_run import TRAINING
from tests.tiny import save_tiny, tiny_recipe


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> tuple[Path, Path]:
    """A finished run that trained its candidates, and a folder of tasks."""
    folder = tmp_path_factory.mktemp("eval")
    patch = pytest.MonkeyPatch()
    patch.setenv("SECATEUR_CACHE", str(folder / "cache"))
    recipe = tiny_recipe(
        tiny / "model",
        tiny / "calibration.txt",
        tiny / "held.txt",
        strategy={"name": "random", "sequences": 2},
        effort={"tokens": 4000},
        training=TRAINING,
        baselines=["last-k"],
    )
    run = secateur.run(recipe, folder / "run")
    patch.undo()
    return run.path, task_folder(folder / "tasks")


def noted(path: Path) -> list[TaskAnswer]:
    with RunFolder.open(path, writing=False) as folder:
        return [answer for _, answer in folder.journal.answers(TASKS)]


def evaluated(path: Path, picks: list[str], tasks: Path, how: TaskRun, trained: bool = False) -> None:
    with RunFolder.open(path) as folder:
        evaluate_run(folder, picks, ["guess"], str(tasks), how, trained)


def test_a_plan_scores_as_its_exported_checkpoint_does(
    ready: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lm_eval
    from lm_eval.tasks import TaskManager

    run, tasks = ready
    evaluated(run, ["found", "dense"], tasks, TaskRun(limit=20, batch=4))
    rows = noted(run)
    assert len(rows) == 2
    out = secateur.Run(run).export("hf", tmp_path / "smaller")
    result = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(out), "dtype": "float32"},
        tasks=["guess"],
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        limit=20,
        device="cpu",
    )
    assert result is not None
    wanted = result["results"]["guess"]
    assert rows[0].result.documents == 20
    assert rows[0].result.metrics["acc"] == pytest.approx([wanted["acc,none"], wanted["acc_stderr,none"]])

    def never(*_: Any) -> None:
        raise AssertionError("evaluated again")

    monkeypatch.setattr(answers, "run_task", never)
    evaluated(run, ["found", "dense"], tasks, TaskRun(limit=20, batch=8))
    assert len(noted(run)) == 2


def test_the_live_model_is_dense_after(ready: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """What one plan was evaluated with is gone before the next; trained plans are evaluated as trained."""
    run, tasks = ready
    seen: list[tuple[str, dict[str, Any]]] = []
    plain = run_task

    def watched(model: Any, *arguments: Any) -> Any:
        seen.append((type(model.model.layers[1].mlp).__name__, dict(model.named_parameters())))
        values = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
        seen[-1] = (seen[-1][0], values)
        return plain(model, *arguments)

    monkeypatch.setattr(answers, "run_task", watched)
    evaluated(run, ["found", "dense"], tasks, TaskRun(limit=6))
    evaluated(run, ["found"], tasks, TaskRun(limit=6), trained=True)
    assert len(seen) == 3
    found, dense, trained = (values for _, values in seen)
    assert len(dense) > len(found)
    assert found.keys() == trained.keys()
    assert any(not bool((found[name] == trained[name]).all()) for name in found)
    page = CliRunner().invoke(app, ["report", str(run)])
    assert page.exit_code == 0
    assert "trained on 96 tokens" in page.output.replace("\n", " ")
    assert "Downstream tasks" in (run / "report" / "index.html").read_text()


def test_the_command_line_evaluates_runs_and_checkpoints(ready: tuple[Path, Path], tiny: Path) -> None:
    run, tasks = ready
    options = ["--tasks", "guess", "--include", str(tasks), "--limit", "8"]
    done = CliRunner().invoke(app, ["eval", str(run), *options, "--pick", "all"])
    assert done.exit_code == 0, done.output
    for word in ("Downstream tasks", "last-k", "dense", "guess acc", "8 documents"):
        assert word in done.output
    done = CliRunner().invoke(app, ["eval", str(tiny / "model"), *options])
    assert done.exit_code == 0, done.output
    dense = next(answer for answer in noted(run) if answer.limit == 8 and not answer.trained)
    assert "guess" in done.output
    assert dense.result.documents == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "gess"], "did you mean 'guess'"),
        (["--tasks", "guess", "--pick", "nobody"], "no such plan"),
        (["--tasks", "guess", "--include", "nowhere"], "no folder"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_the_model_is_loaded(
    ready: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    run, tasks = ready

    def never(*_: Any) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr("secateur.runs.workplace.workplace_of", never)
    include = [] if "--include" in arguments else ["--include", str(tasks)]
    done = CliRunner().invoke(app, ["eval", str(run), *arguments, *include])
    assert isinstance(done.exception, SecateurError)
    assert message in str(done.exception)


def test_runs_without_training_and_encoders_are_refused(tiny: Path, tmp_path: Path) -> None:
    tasks = task_folder(tmp_path / "tasks")
    run = secateur.run(tiny_recipe(tiny / "model", tiny / "calibration.txt", tiny / "held.txt"), tmp_path / "run")
    with pytest.raises(SecateurError, match="trained no candidates"):
        evaluated(run.path, ["found"], tasks, TaskRun(), trained=True)
    encoder = save_tiny(tmp_path / "encoder", "roberta")
    done = CliRunner().invoke(app, ["eval", str(encoder), "--tasks", "guess", "--include", str(tasks)])
    assert "is an encoder" in str(done.exception)
    done = CliRunner().invoke(
        app, ["eval", str(tiny / "model"), "--tasks", "guess", "--include", str(tasks), "--trained"]
    )
    assert "is no run" in str(done.exception)


def test_a_mixture_is_the_weighted_mean_of_its_tasks(tiny: Path, tmp_path: Path) -> None:
    folder = task_folder(task_folder(tmp_path / "tasks"), "other-one")
    recipe = tiny_recipe(
        tiny / "model",
        tiny / "calibration.txt",
        objectives=["kl", "lm-eval:3*guess + other-one", "lm-eval:guess", "lm-eval:other-one", "parameters"],
        budgets={},
        strategy={"name": "random", "sequences": 2},
        effort={"evaluations": 6},
        tasks={"include": str(folder), "documents": 5},
    )
    run = secateur.run(recipe, tmp_path / "run")
    with RunFolder.open(run.path, writing=False) as journal:
        evaluations = [one for _, one in journal.journal.evaluations("calibration")]
    assert evaluations
    for one in evaluations:
        rows = (one.losses[f"lm-eval:{name}"] for name in ("3*guess + other-one", "guess", "other-one"))
        for mixed, guess, other in zip(*rows, strict=True):
            assert mixed == pytest.approx(0.75 * guess + 0.25 * other)
    assert {value for one in evaluations for value in one.losses["lm-eval:guess"]} - {0.0, 1.0}


def test_examples_before_a_question_are_the_same_for_every_candidate(tiny: Path, tmp_path: Path) -> None:
    """Asked twice, and for other sequences beside: no draw depends on what was scored before."""
    folder = task_folder(tmp_path / "tasks", shots=3)
    model, tokenizer = load_model(str(tiny / "model"), "float32"), load_tokenizer(str(tiny / "model"))
    score = TaskScore("guess", TaskRequest(str(folder), 5), model, tokenizer)
    whole = score(range(6))
    assert len(set(whole)) > 1
    assert whole == score(range(6)) == [*score(range(2)), *score(range(2, 6))]
    none = task_folder(tmp_path / "none")
    assert whole != TaskScore("guess", TaskRequest(str(none), 5), model, tokenizer)(range(6))


def test_what_was_asked_otherwise_stands_in_a_column_of_its_own(ready: tuple[Path, Path], tmp_path: Path) -> None:
    """Other numbers of examples, and other seeds of them; what a changed definition replaced is not shown."""
    run = tmp_path / "run"
    shutil.copytree(ready[0], run)
    tasks = task_folder(tmp_path / "tasks", shots=3)
    for fewshot, seed in ((None, 0), (0, 0), (None, 7)):
        evaluated(run, ["found"], tasks, TaskRun(limit=6, fewshot=fewshot, seed=seed))

    def columns() -> set[str]:
        with RunFolder.open(run, writing=False) as folder:
            space = space_of(folder)
            return set(task_grid(folder, space, {"found": folder.journal.choices()["found"].genome})[0][1:])

    name = "guess acc, 6 documents"
    assert columns() == {name, f"{name}, 3 shots (seed 0)", f"{name}, 3 shots (seed 7)"}
    file = tasks / "guess.yaml"
    file.write_text(file.read_text().replace("num_fewshot: 3", "num_fewshot: 2"))
    evaluated(run, ["found"], tasks, TaskRun(limit=6))
    assert columns() == {f"{name}, 2 shots (seed 0)"}


def test_trained_plans_want_the_text_they_were_trained_on(tiny: Path, tmp_path: Path) -> None:
    text = tmp_path / "mine.txt"
    text.write_text((tiny / "calibration.txt").read_text())
    training = {**TRAINING, "text": {"source": str(text), "sequences": 6, "length": 16}}
    recipe = tiny_recipe(tiny / "model", tiny / "calibration.txt", tiny / "held.txt", training=training)
    recipe |= {"strategy": {"name": "random", "sequences": 2}, "effort": {"tokens": 4000}, "baselines": []}
    run = secateur.run(recipe, tmp_path / "run")
    tasks = task_folder(tmp_path / "tasks")
    text.write_text("\n\n".join(reversed(text.read_text().split("\n\n"))))
    evaluated(run.path, ["found"], tasks, TaskRun(limit=4))
    with pytest.raises(SecateurError, match="text 'training' is not the one"):
        evaluated(run.path, ["found"], tasks, TaskRun(limit=4), trained=True)


@pytest.mark.parametrize("text", ["", "a+a", "0*a", "2*", "-1*a", "a b", "../a"])
def test_what_is_no_mixture_is_refused(text: str) -> None:
    with pytest.raises(SecateurError, match="each task once"):
        task_weights(text)


def test_a_tag_is_refused_with_its_tasks(tiny: Path, tmp_path: Path) -> None:
    folder = task_folder(tmp_path / "tasks")
    file = folder / "guess.yaml"
    file.write_text(file.read_text() + "tag: puzzles\n")
    done = CliRunner().invoke(app, ["eval", str(tiny / "model"), "--tasks", "puzzles", "--include", str(folder)])
    assert isinstance(done.exception, SecateurError)
    assert "is a group" in str(done.exception)
    assert "guess" in str(done.exception)
    for arguments, message in (
        (["--tasks", ","], "names no task"),
        (["--tasks", "guess", "--dtype", "f16"], "--dtype"),
    ):
        done = CliRunner().invoke(app, ["eval", str(tiny / "model"), "--include", str(folder), *arguments])
        assert message in str(done.exception)

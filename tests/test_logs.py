"""Runs in trackers: each through its own real package, offline; stopped runs go on where they were."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from secateur import api
from secateur.runs.loggers.mlflow import flat
from secateur.runs.record.folder import RunFolder
from secateur.runs.report.summary import Summary
from secateur.runs.watcher import Progress
from tests.test_cli import command, refused, write
from tests.tiny import tiny_recipe


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """MLflow puts artifacts where a program was started."""
    monkeypatch.chdir(tmp_path)


def recipe_of(tiny: Path, **changes: Any) -> dict[str, Any]:
    changes = {"strategy": "surrogate", "effort": "12k tokens", "baselines": ["random"], **changes}
    return tiny_recipe(tiny / "model", tiny / "calibration.txt", tiny / "held.txt") | changes


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """What TensorBoard itself reads: by name and tokens."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    return {
        name: {one.step: one.tensor_proto.float_val[0] for one in events.Tensors(name)}
        for name in events.Tags()["tensors"]
    }


def measured(run: Path) -> dict[int, float]:
    """The loss of the incumbent after so many tokens, from the journal."""
    with RunFolder.open(run, writing=False) as folder:
        return {turn.tokens: 0.0 for turn in folder.journal.turns("found") if turn.incumbent is not None}


def test_a_run_is_logged_to_all_trackers(tiny: Path, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'mlflow.db'}"
    recipe = recipe_of(
        tiny, log=["tensorboard", {"to": "mlflow", "address": database, "project": "pruning"}, {"to": "wandb"}]
    )
    plain = write(tmp_path / "plain.yaml", recipe_of(tiny))
    run, other = tmp_path / "run", tmp_path / "plain"
    environment = {"WANDB_MODE": "offline", "MLFLOW_ARTIFACT_ROOT": str(tmp_path)}
    done = command("search", write(tmp_path / "r.yaml", recipe), "--out", run, cwd=tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    found = scalars(run / "tensorboard")
    assert found["found/loss"].keys() == measured(run).keys()
    assert {"found/rank_correlation", "random/loss", "found/held kl", "dense/parameters"} <= found.keys()
    with RunFolder.open(run, writing=False) as folder:
        summary = api.summary_of(folder)[1]
    assert isinstance(summary, Summary)
    row = summary.rows[0]
    assert found["found/held kl"].popitem()[1] == pytest.approx(row.scores["held"]["kl"].mean, rel=1e-6)

    import mlflow

    client = mlflow.MlflowClient(tracking_uri=database)
    experiment = client.get_experiment_by_name("pruning")
    assert experiment is not None
    [there] = client.search_runs([experiment.experiment_id])
    assert (there.info.status, there.info.run_name) == ("FINISHED", "run")
    assert there.data.params["strategy.name"] == "surrogate"
    history = {one.step: one.value for one in client.get_metric_history(there.info.run_id, "found/loss")}
    assert history == pytest.approx(found["found/loss"])
    assert {file.path for file in client.list_artifacts(there.info.run_id)} == {"report", "plans"}

    [kept] = run.glob("wandb/offline-run-*/run-*.wandb")
    content = kept.read_bytes()
    assert b"found/loss" in content
    assert b"found/held kl" in content

    # The trackers are no part of what the run is: it goes on without them, and is the same run as one without.
    assert command("search", plain, "--out", other).returncode == 0
    with RunFolder.open(run, writing=False) as one, RunFolder.open(other, writing=False) as two:
        assert one.recipe.digest() == two.recipe.digest()
        assert one.journal.choices()["found"].genome == two.journal.choices()["found"].genome
    again = command("resume", run, "--set", "log=tensorboard", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert len(scalars(run / "tensorboard")["found/loss"]) == len(found["found/loss"])


def test_a_run_that_was_stopped_is_one_run_in_its_trackers(tiny: Path, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'mlflow.db'}"
    recipe = recipe_of(tiny, log=["tensorboard", {"to": "mlflow", "address": database}])
    seen: list[Progress] = []

    def stop(progress: Progress) -> None:
        seen.append(progress)
        if sum("loss" in one.values for one in seen) == 3:
            raise KeyboardInterrupt

    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        api.run(recipe, run, watch=stop)
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=database)
    experiment = client.get_experiment_by_name("secateur")
    assert experiment is not None
    [stopped] = client.search_runs([experiment.experiment_id])
    assert stopped.info.status == "KILLED"
    before = scalars(run / "tensorboard")["found/loss"]
    first = [one.step for one in client.get_metric_history(stopped.info.run_id, "found/loss")]
    api.resume(run, watch=seen.append)
    [there] = client.search_runs([experiment.experiment_id])
    assert (there.info.run_id, there.info.status) == (stopped.info.run_id, "FINISHED")
    after = scalars(run / "tensorboard")["found/loss"]
    assert before.items() <= after.items()
    assert after.keys() == measured(run).keys()
    steps = [one.step for one in client.get_metric_history(there.info.run_id, "found/loss")]
    assert steps[: len(first)] == first
    # A batch that costs nothing new is at the step of the one before it.
    assert all(step >= first[-1] for step in steps[len(first) :]), "what was measured before is not measured again"
    told = [one for one in seen if one.search == "found"]
    assert all(one.values["loss"] >= 0 for one in told if "loss" in one.values)
    assert [one.tokens for one in told] == sorted(one.tokens for one in told)


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (["tensorbord"], "log.0.to: unknown 'tensorbord'; did you mean 'tensorboard'?"),
        ([{"to": "tensorboard", "address": "x"}], "address: tensorboard has none"),
        ([{"to": "mlflow", "address": "nosuch://x"}], "log: mlflow"),
        (["mlflow", {"to": "mlflow", "address": "sqlite:///b.db"}], "log: a tracker stands there twice"),
        ("wandb", "log: wandb: nobody is logged in: wandb login, or set WANDB_MODE=offline"),
        ("tensorboard", "log: tensorboard is not installed; pip install 'secateur[tensorboard]'"),
    ],
)
def test_a_tracker_that_is_not_there_is_refused(
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    log: object,
    message: str,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    if log == "tensorboard":
        monkeypatch.setitem(sys.modules, "tensorboard.summary", None)
    recipe = write(tmp_path / "r.yaml", recipe_of(tiny, log=log))
    found = refused(monkeypatch, capsys, "search", recipe, "--out", tmp_path / "run")
    assert found.returncode == 2
    assert message in found.stderr
    assert "Traceback" not in found.stderr


def test_a_tracker_that_fails_does_not_end_a_run(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from secateur.runs.loggers import tensorboard

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(tensorboard._Logger, "measure", full)
    said: list[str] = []
    run = api.run(
        recipe_of(tiny, log="tensorboard"),
        tmp_path / "run",
        watch=lambda progress: said.append(progress.phase) if progress.said else None,
    )
    assert [line for line in said if "nothing more is written there" in line] == [
        "log: tensorboard: no space left; nothing more is written there"
    ]
    assert run.summary.finished


def test_settings_by_their_path() -> None:
    values: Mapping[str, Any] = {"a": {"b": 1}, "c": [{"d": 2}, {"d": 3}], "e": [1, 2]}
    assert flat(values) == {"a.b": 1, "c.0.d": 2, "c.1.d": 3, "e": [1, 2]}

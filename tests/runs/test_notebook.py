"""Runs and plans in a notebook: how they show themselves, as a table of pandas, and who is told of progress."""

from pathlib import Path

import pytest

import secateur
from secateur.runs.watcher import Progress
from tests.tiny import tiny_recipe


@pytest.fixture(scope="module")
def told(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[secateur.Run, list[Progress]]:
    progress: list[Progress] = []
    recipe = tiny_recipe(tiny / "model", tiny / "calibration.txt", tiny / "held.txt", baselines=["random"])
    return secateur.run(recipe, tmp_path_factory.mktemp("shown") / "run", watch=progress.append), progress


def test_a_run_and_a_plan_show_themselves(told: tuple[secateur.Run, list[Progress]]) -> None:
    run, _ = told
    shown = run._repr_html_()
    assert "<table>" in shown
    assert run.summary.verdict.split(":")[0] in shown
    plan = run.plan()._repr_html_()
    assert plan.count("<tr>") == 1 + len(run.plan().layers)
    assert "<script" not in plan + shown


def test_a_frame_has_a_row_for_each_plan(told: tuple[secateur.Run, list[Progress]]) -> None:
    run, _ = told
    frame = run.frame()
    assert list(frame.index) == ["found", "random", "dense"]
    assert frame.loc["dense", "parameters"] == run.summary.dense_costs["parameters"]
    assert abs(frame.loc["dense", "held kl"]) < 1e-6
    assert frame.loc["found", "held kl"] == run.summary.rows[0].scores["held"]["kl"].mean


def test_a_function_is_told_of_progress(told: tuple[secateur.Run, list[Progress]], tiny: Path, tmp_path: Path) -> None:
    run, progress = told
    phases = list(dict.fromkeys(one.phase for one in progress if not one.said))
    assert any(phase.startswith("searching with greedy") for phase in phases)
    assert any(one.note.startswith("best ") for one in progress)

    def stop(now: Progress) -> None:
        if now.phase.startswith("searching") and now.completed:
            raise KeyboardInterrupt

    recipe = tiny_recipe(tiny / "model", tiny / "calibration.txt", tiny / "held.txt", baselines=["random"])
    with pytest.raises(KeyboardInterrupt):
        secateur.run(recipe, tmp_path / "run", watch=stop)
    again: list[Progress] = []
    assert secateur.resume(tmp_path / "run", watch=again.append).summary.rows[0].costs == run.summary.rows[0].costs
    assert again

"""A run in the dashboard while another process carries it out."""

import time
from pathlib import Path

import pytest
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from secateur.runs.following import followed
from secateur.runs.problem import space_of
from secateur.runs.record.folder import RunFolder, worked_on
from secateur.runs.report.study import _value
from secateur.space.errors import SecateurError
from secateur.space.evaluation import Evaluation
from secateur.space.space import Space
from tests.test_cli import write
from tests.test_kill_and_resume import recipe_of, start


def kept(space: Space, evaluation: Evaluation) -> dict[str, float | int]:
    """What each gene keeps, as a study has it."""
    pairs = zip(space.genes, evaluation.genome.levels, strict=True)
    return {gene.key: _value(gene, level) for gene, level in pairs}


def trials(storage: BaseStorage) -> list[FrozenTrial]:
    [study] = storage.get_all_studies()
    return storage.get_all_trials(study._study_id)


def test_a_study_grows_with_its_run(tiny: Path, tmp_path: Path) -> None:
    recipe, run = write(tmp_path / "r.yaml", recipe_of(tiny)), tmp_path / "run"
    process = start(["search", str(recipe), "--out", str(run)], tmp_path / "cache")
    said: list[str] = []
    while not worked_on(run):
        assert process.is_alive()
        time.sleep(0.05)
    counts: list[int] = []
    states: set[TrialState] = set()
    with followed(run, said.append, seconds=0.2) as storage:
        while process.is_alive():
            there = trials(storage)
            counts.append(len(there))
            states.update(trial.state for trial in there)
            time.sleep(0.2)
        process.join()
        assert process.exitcode == 0
        with RunFolder.open(run, writing=False) as folder:
            evaluations = list(folder.journal.evaluations("calibration"))
            space = space_of(folder)
        keys = {evaluation.key for _, evaluation in evaluations}
        deadline = time.monotonic() + 20
        there = trials(storage)
        while len(there) < len(keys) or any(trial.state == TrialState.RUNNING for trial in there):
            assert time.monotonic() < deadline
            time.sleep(0.2)
            there = trials(storage)
    assert counts == sorted(counts)
    assert counts[0] < counts[-1], "it was there before the run was over, and grew"
    assert TrialState.RUNNING in states
    assert len(there) == len(keys)
    assert all(trial.state == TrialState.COMPLETE for trial in there)
    # A trial that was finished keeps what its genome was scored on then; no value is another than the journal's.
    for trial in there:
        same = [one for _, one in evaluations if kept(space, one) == trial.params]
        assert same
        assert trial.user_attrs["sequences"] <= sum(len(one.sequences) for one in same)
    assert not [line for line in said if "no longer" in line]
    with followed(run, said.append) as storage:
        assert any("found" in trial.user_attrs["plans"] for trial in trials(storage))


def test_what_nobody_is_at_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(SecateurError, match="is no run"), followed(tmp_path / "run", print):
        pass

"""Journals that earlier versions have written are read and gone on with."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import secateur
from secateur.fitness.evaluator import SubnetEvaluator
from secateur.fitness.scores.tasks import TaskRun
from secateur.runs.record.folder import RunFolder
from secateur.runs.record.journal import Journal
from secateur.runs.stages import tasks as evaluating
from secateur.runs.stages.tasks import evaluate_run
from secateur.space.errors import SecateurError
from secateur.space.losses import LOSSES
from secateur.space.slopes import SLOPES
from secateur.space.tasks import TASKS
from tests.earlier import make_earlier
from tests.runs.test_journal import some
from tests.tasks import task_folder
from tests.tiny import tiny_recipe


def recipe_of(tiny: Path) -> Any:
    """A search that asks for slopes."""
    return tiny_recipe(
        tiny / "model",
        tiny / "calibration.txt",
        tiny / "held.txt",
        genes=[{"kind": "sparsity", "levels": [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]}],
        budgets={"linear_weights": "0.5x"},
        strategy={"name": "surrogate", "sequences": 2},
        effort={"tokens": 5000},
    )


def content(run: Path) -> list[Any]:
    """All that a journal says, but for times and for who paid for a shared prefix."""
    with RunFolder.open(run, writing=False) as folder:
        journal = folder.journal
        losses = sorted(
            (text, one.key, sequence, one.status, one.primary[place], str(one.costs))
            for text, one in journal.evaluations()
            for place, sequence in enumerate(one.sequences)
        )
        slopes = [
            (text, one.key, str(one.sequences), str(one.first), one.tokens) for text, one in journal.answers(SLOPES)
        ]
        tasks = [(text, one.key, one.genome, one.result, one.trained) for text, one in journal.answers(TASKS)]
        choices = {name: (one.genome, one.tokens, one.evaluations) for name, one in journal.choices().items()}
        return [losses, slopes, tasks, choices, {name: journal.turns(name) for name in choices}]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """A finished run with slopes and tasks."""
    folder = tmp_path_factory.mktemp("earlier")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECATEUR_CACHE", str(folder / "cache"))
        run = secateur.run(recipe_of(tiny), folder / "run").path
        tasks = task_folder(folder / "tasks")
        with RunFolder.open(run) as opened:
            evaluate_run(opened, ["found", "dense"], ["guess"], str(tasks), TaskRun(limit=6))
    assert all(content(run))
    return folder


@pytest.mark.parametrize("version", [1, 2])
def test_nothing_is_lost_and_nothing_asked_again(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    monkeypatch.setenv("SECATEUR_CACHE", str(whole / "cache"))
    run = shutil.copytree(whole / "run", tmp_path / "run")
    make_earlier(run / "journal.sqlite", version)
    before = (run / "journal.sqlite").read_bytes()
    assert content(run) == content(whole / "run")
    assert (run / "journal.sqlite").read_bytes() == before, "who reads does not write"

    def never(*_: Any) -> None:
        raise AssertionError("evaluated again")

    monkeypatch.setattr(evaluating, "run_task", never)
    monkeypatch.setattr(SubnetEvaluator, "_on", never)
    secateur.resume(run)
    with RunFolder.open(run) as opened:
        evaluate_run(opened, ["found", "dense"], ["guess"], str(whole / "tasks"), TaskRun(limit=6))
    assert content(run) == content(whole / "run")
    with sqlite3.connect(run / "journal.sqlite") as database:
        assert database.execute("SELECT value FROM facts WHERE name = 'schema_version'").fetchall() == [("3",)]


def test_a_run_cut_under_an_earlier_version_goes_on_to_the_same_answer(
    whole: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECATEUR_CACHE", str(whole / "cache"))
    made, left = SubnetEvaluator._evaluation, [60]

    def cut(self: Any, *arguments: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return made(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(SubnetEvaluator, "_evaluation", cut)
        with pytest.raises(KeyboardInterrupt):
            secateur.run(recipe_of(tiny), tmp_path / "run")
    make_earlier(tmp_path / "run" / "journal.sqlite", 2)
    assert len(content(tmp_path / "run")[0]) >= 60
    secateur.resume(tmp_path / "run")
    now, then = content(tmp_path / "run"), content(whole / "run")
    assert [*now[:2], *now[3:]] == [*then[:2], *then[3:]]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("losses", '{"kl": [0.0, 0.0, 0.0]}', "row 5 of 'evaluations' is not what was written"),
        ("first", 99, "row 5 of 'evaluations' is not what was written"),
    ],
)
def test_damage_of_before_is_told(tmp_path: Path, column: str, value: Any, message: str) -> None:
    path = filled(tmp_path, 1)
    make_earlier(path, 2)
    changed(path, f"UPDATE evaluations SET {column} = ? WHERE id = 5", value)
    with pytest.raises(SecateurError, match=message):
        Journal(path)


@pytest.mark.parametrize("value", ["", "[", "3", "{}", '{"kl": 3}', "[" * 100_000])
def test_what_has_no_checksum_is_read_with_care(tmp_path: Path, value: str) -> None:
    path = filled(tmp_path, 1)
    make_earlier(path, 1)
    changed(path, "UPDATE evaluations SET losses = ? WHERE id = 2", value)
    with pytest.raises(SecateurError, match="cannot be read"):
        list(Journal(path).evaluations())
    changed(path, "UPDATE evaluations SET losses = '{}', status = 'failed' WHERE id = 2", None)
    changed(path, "INSERT INTO facts (name, value) VALUES ('slopes text', ?)", value)
    with pytest.raises(SecateurError, match="cannot be read"):
        list(Journal(path).answers(SLOPES))


def test_a_table_that_is_missing_is_told(tmp_path: Path) -> None:
    path = filled(tmp_path, 1)
    make_earlier(path, 2)
    changed(path, "DROP TABLE evaluations", None)
    with pytest.raises(SecateurError, match="is another database"):
        Journal(path)


FULL_DISK = """
import json, resource, sys
from pathlib import Path
from tests.runs.test_journal import some
from secateur.runs.record.journal import Journal
from secateur.space.errors import SecateurError
from secateur.space.losses import LOSSES
journal = Journal(Path(sys.argv[1]))
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    journal.append("calibration", LOSSES, "digest", some()[0])
except SecateurError as error:
    print(json.dumps(str(error)))
"""


def test_where_the_disk_is_full_the_file_of_before_stays(tmp_path: Path) -> None:
    """A real limit on the file's size, beyond which the file of today's would go; in a process of its own."""
    path = filled(tmp_path, 200)
    size = path.stat().st_size
    make_earlier(path, 1)
    before = path.stat().st_size
    assert before < size - 4096
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path), str(size - 4096)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ},
    )
    assert "make room and resume" in json.loads(result.stdout)
    assert path.stat().st_size == before
    journal = Journal(path)
    assert len(list(journal.evaluations())) == 1000
    journal.append("calibration", LOSSES, "digest", some()[0])
    journal.close()
    assert len(list(Journal(path).evaluations())) == 1001


def filled(folder: Path, times: int) -> Path:
    """A journal with evaluations."""
    journal = Journal(folder / "j.sqlite")
    for _ in range(times):
        for row in some():
            journal.append("calibration", LOSSES, "digest", row)
    journal.close()
    return folder / "j.sqlite"


def changed(path: Path, statement: str, value: Any) -> None:
    database = sqlite3.connect(path, isolation_level=None)
    for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        database.execute(f"DROP TRIGGER {name}")
    database.execute(statement, () if value is None else (value,))
    database.close()

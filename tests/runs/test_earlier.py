"""Journals that earlier versions have written are read and gone on with."""

import json
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import secateur
from secateur.api import summary_of
from secateur.fitness.evaluator import SubnetEvaluator
from secateur.fitness.scores.tasks import TaskRun
from secateur.fitness.workplace import Workplace
from secateur.runs.record import database
from secateur.runs.record.facts import MODEL, SEARCHED, SKIPPED
from secateur.runs.record.folder import RunFolder
from secateur.runs.record.journal import Choice, Journal
from secateur.runs.report.summary import Summary
from secateur.runs.stages import tasks as evaluating
from secateur.runs.stages.tasks import evaluate_run
from secateur.search.strategies.random import Random
from secateur.search.strategies.surrogate import Surrogate
from secateur.space.errors import SecateurError
from secateur.space.genome import Genome
from secateur.space.losses import LOSSES, Losses
from secateur.space.slopes import SLOPES
from secateur.space.tasks import TASKS, TaskQuestion, TaskResult
from tests.earlier import make_earlier
from tests.program import FORKS
from tests.runs.test_journal import some
from tests.tasks import task_folder
from tests.tiny import drop_space, tiny_recipe

SPACE = drop_space(3)


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
        baselines=["random"],
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
    with sqlite3.connect(tmp_path / "run" / "journal.sqlite") as database:
        assert database.execute("SELECT value FROM facts WHERE name = 'schema_version'").fetchall() == [("3",)]


class LoadingError(Exception):
    """A model is loaded."""


def resumed(run: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What resuming a run says before it loads a model; that it loads one."""

    def load(*_: Any) -> None:
        raise LoadingError

    with monkeypatch.context() as patch:
        patch.setattr(Workplace, "load", load)
        before = content(run)
        try:
            secateur.resume(run)
        except SecateurError as error:
            assert content(run) == before
            return str(error)
        except LoadingError:
            return "loads"
    raise AssertionError("neither")


def test_a_search_that_was_begun_by_other_decisions_is_refused_at_once(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECATEUR_CACHE", str(whole / "cache"))
    run, journal = shutil.copytree(whole / "run", tmp_path / "run"), tmp_path / "run" / "journal.sqlite"
    monkeypatch.setattr(Surrogate, "revision", Surrogate.revision + 1)
    assert resumed(run, monkeypatch) == "loads", "what it has found is not looked for again"
    # The search itself was not at its end.
    changed(journal, "DELETE FROM facts WHERE name = 'searched'", None)
    assert f"by surrogate was begun by a secateur that decides otherwise (revision {Surrogate.revision - 1}" in resumed(
        run, monkeypatch
    )
    # A run of before did not note how it decides; this one has come further than its search.
    for _ in range(2):
        changed(journal, "DELETE FROM facts WHERE name IN ('revisions', 'searched')", None)
        before = content(run)
        secateur.resume(run)
        secateur.resume(run)
        assert content(run) == before
    changed(journal, "DELETE FROM facts WHERE name = 'searched'", None)
    changed(journal, "DELETE FROM facts WHERE name = 'revisions'", None)
    changed(journal, "DELETE FROM answers WHERE text NOT LIKE 'calibration%'", None)
    assert "(revision 1, this is" in resumed(run, monkeypatch)
    # A baseline that was not at its end decides otherwise, too.
    changed(journal, "DELETE FROM choices WHERE name = 'random'", None)
    monkeypatch.setattr(Random, "revision", 2)
    with RunFolder.open(run) as folder:
        folder.journal.note(SEARCHED, 1)
    assert "by random was begun" in resumed(run, monkeypatch)
    with RunFolder.open(run, writing=False) as folder:
        summary = summary_of(folder)[1]
    assert isinstance(summary, Summary)
    assert summary.rows, "it can be reported"


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


@pytest.mark.parametrize("version", [1, 2])
def test_what_earlier_versions_have_written(tmp_path: Path, version: int) -> None:
    """`journals/` has what they wrote of a few rows of every sort, as SQL."""
    path = written(tmp_path, version)
    journal = Journal(path)
    rows = list(journal.evaluations())
    assert [(text, one.genome.levels, one.sequences.start, one.status) for text, one in rows] == [
        ("calibration", (0, 0, 0, 0, 0), 0, "ok"),
        ("calibration", (0, 1, 0, 0, 0), 0, "ok"),
        ("calibration", (1, 1, 1, 1, 1), 0, "failed"),
        ("calibration", (0, 0, 0, 0, 0), 2, "ok"),
        ("calibration", (0, 1, 0, 0, 0), 2, "ok"),
        ("calibration, trained on 32 + 64 tokens", (0, 1, 0, 0, 0), 0, "ok"),
        ("held", (0, 0, 0, 0, 0), 0, "ok"),
        ("held", (0, 1, 0, 0, 0), 0, "ok"),
    ]
    assert rows[0][1].costs.parameters == SPACE.dense_costs.parameters
    assert rows[0][1].seconds == 0.5
    assert {one.score for _, one in rows} == {"kl", ""}
    assert [answer.tokens for _, answer in journal.answers(Losses((32, 64)), "calibration")] == [32]
    (text, slopes), (_, failed) = journal.answers(SLOPES, "calibration")
    assert (text, slopes.sequences, slopes.tokens, slopes.status) == ("calibration", range(2), 128, "ok")
    assert slopes.first[0] == (0.0, 0.125)
    assert math.isnan(slopes.second[1][1])
    assert (failed.reason, failed.status, failed.sequences) == ("slopes are not finite", "failed", range(2, 4))
    first, second = (answer for _, answer in journal.answers(TASKS))
    assert first.result == TaskResult("guess", 6, 2, {"acc": (0.5, 0.25), "f1": (0.25, None)})
    assert (first.genome.levels, first.trained, first.limit, first.definitions) == ((0, 1, 0, 0, 0), (32, 64), 6, "")
    assert (second.trained, second.limit, second.definitions) == ((), None, "fedcba9876543210")
    [(text, _)] = journal.answers(TaskQuestion("2222222222222222"), "guess")
    assert text == "guess 2222222222222222"
    assert journal.of(MODEL) == "a digest"
    assert journal.all(SKIPPED) == {"owl": "there are no zeros"}
    assert journal.choices() == {"found": Choice("found", Genome((0, 1, 0, 0, 0)), 640, 3, 1.5)}
    assert [turn.tokens for turn in journal.turns("found")] == [32, 64, 96]
    journal.append("calibration", LOSSES, "digest", some()[0])
    journal.close()
    journal = Journal(path)
    assert len(list(journal.evaluations())) == len(rows) + 1
    assert len(list(journal.answers(SLOPES))) == len(list(journal.answers(TASKS))) == 2
    assert len(journal.turns("found")) == 3
    journal.close()


def test_whoever_reads_a_file_of_before_keeps_it_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "PATIENCE", 200)
    path = written(tmp_path, 2)
    journal, reader = Journal(path), sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    count = len(reader.execute("SELECT * FROM evaluations").fetchall())
    with pytest.raises(SecateurError, match="locked"):
        journal.append("calibration", LOSSES, "digest", some()[0])
    assert len(list(journal.evaluations())) == count == 8
    reader.execute("COMMIT")
    journal.append("calibration", LOSSES, "digest", some()[0])
    assert len(list(journal.evaluations())) == 9
    # Who had it open before reads on what was there.
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        reader.execute("SELECT * FROM evaluations")


def test_what_another_process_has_added_is_not_lost(tmp_path: Path) -> None:
    path = written(tmp_path, 2)
    first, second = Journal(path), Journal(path)
    first.append("calibration", LOSSES, "digest", some()[0])
    with pytest.raises(SecateurError, match="another process has written to it"):
        second.append("calibration", LOSSES, "digest", some()[1])
    assert len(list(Journal(path).evaluations())) == 9


def added_until_killed(path: Path, steps: int) -> None:
    """Adds an answer, in a process that is killed after so many steps of SQLite's."""
    journal, left = Journal(path), [steps]

    def step() -> None:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    file = journal._database._earlier
    assert file is not None
    file.set_progress_handler(step, 5)
    journal.append("calibration", LOSSES, "digest", some()[0])


def test_a_kill_while_it_becomes_one_of_todays_leaves_one_or_the_other(tmp_path: Path) -> None:
    """Killed after more and more steps, until it is through."""
    code, after, found = -signal.SIGKILL, 1, set[int]()
    while code == -signal.SIGKILL:
        path = written(tmp_path, 2)
        process = FORKS.Process(target=added_until_killed, args=(path, after))
        process.start()
        process.join()
        assert process.exitcode is not None
        code, after = process.exitcode, after * 2
        journal = Journal(path)
        rows = len(list(journal.evaluations()))
        assert len(list(journal.answers(SLOPES))) == len(list(journal.answers(TASKS))) == 2
        assert rows in (8, 9)
        found.add(rows)
        journal.append("calibration", LOSSES, "digest", some()[0])
        journal.close()
    assert code == 0
    assert found == {8, 9}
    assert after > 8, "killed at least thrice"


@pytest.mark.parametrize("version", ["1", "3"])
def test_the_version_has_a_checksum_too(tmp_path: Path, version: str) -> None:
    path = written(tmp_path, 2)
    changed(path, "UPDATE facts SET value = ? WHERE name = 'schema_version'", version)
    with pytest.raises(SecateurError, match="is not what was written"):
        Journal(path)


@pytest.mark.parametrize(
    ("statement", "value"),
    [
        ("UPDATE facts SET value = ? WHERE name LIKE 'slopes %'", '{"sequences": [0, 1e999]}'),
        ("UPDATE facts SET value = replace(value, '[0, 2]', ?)", f"[0, {10**30}]"),
        ("UPDATE facts SET value = replace(value, '128', ?)", str(10**30)),
        ("UPDATE facts SET value = replace(value, '\"e33df6bce0825302\"', ?)", '{"a": 1}'),
        ("UPDATE facts SET value = replace(value, '128', ?)", "null"),
        ("UPDATE facts SET value = ? WHERE name LIKE 'task %'", "{}"),
    ],
)
def test_whatever_is_wrong_with_a_row_is_said_in_one_message(tmp_path: Path, statement: str, value: str) -> None:
    path = written(tmp_path, 1)
    changed(path, statement, value)
    with pytest.raises(SecateurError, match=r"cannot be read: .*; restore it from a copy"):
        Journal(path)


def written(folder: Path, version: int) -> Path:
    """A file that an earlier version has written."""
    path = folder / f"{version}.sqlite"
    path.unlink(missing_ok=True)
    connection = sqlite3.connect(path)
    connection.executescript(Path(__file__).with_name("journals").joinpath(f"{version}.sql").read_text())
    connection.close()
    return path


FULL_DISK = """
import json, resource, sys
from pathlib import Path
from tests.runs.test_journal import some
from secateur.runs.record.journal import Journal
from secateur.space.errors import SecateurError
from secateur.space.genome import Genome
from secateur.space.losses import LOSSES, Losses
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

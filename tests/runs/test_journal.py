import json
import os
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from secateur.runs.asked.reading import make_recipe
from secateur.runs.record.facts import FACTS, MODEL, SKIPPED, Fact
from secateur.runs.record.folder import RunFolder
from secateur.runs.record.journal import Choice, Journal, Turn
from secateur.space.errors import SecateurError
from secateur.space.evaluation import Evaluation
from secateur.space.genome import Genome
from secateur.space.losses import LOSSES
from tests.tiny import TableEvaluator, drop_space

SPACE = drop_space()
ANYTHING = Fact("anything", dict[str, int], "the model")
RECIPE = make_recipe(
    {
        "model": {"path": "somewhere"},
        "calibration": {"source": "package:quac"},
        "genes": [{"kind": "mlp"}],
        "strategy": {"name": "greedy"},
    }
)


def some(count: int = 5) -> list[Evaluation]:
    genomes = [SPACE.dense.with_level(index, 1) for index in range(count - 1)]
    broken = frozenset([SPACE.smallest])
    return list(TableEvaluator(SPACE, noise=0.3, broken=broken)([*genomes, SPACE.smallest], range(1, 4)))


def same(first: Evaluation, second: Evaluation) -> bool:
    return all(getattr(first, name) == getattr(second, name) for name in Evaluation.__dataclass_fields__)


def test_rows_come_back_as_they_went_in(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite")
    rows = [replace(row, score="kl" if row.losses else "") for row in some()]
    for row in rows:
        journal.append("calibration", LOSSES, "digest", row)
    held = replace(rows[0], losses=dict.fromkeys(("kl", "cross_entropy"), rows[0].primary))
    journal.append("sotu", LOSSES, "digest", held)
    journal.close()
    journal = Journal(tmp_path / "j.sqlite")
    back = [evaluation for _, evaluation in journal.evaluations("calibration")]
    assert all(same(a, b) for a, b in zip(rows, back, strict=True))
    assert [text for text, _ in journal.evaluations()] == ["calibration"] * 5 + ["sotu"]
    journal.close()


def test_rows_are_only_ever_added(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite")
    journal.append("calibration", LOSSES, "digest", some()[0])
    journal.choose(Choice("found", SPACE.dense, 1, 1, 1.0))
    journal.note(MODEL, "abc")
    database = sqlite3.connect(tmp_path / "j.sqlite")
    for table in ("answers", "choices", "facts"):
        for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET rowid = rowid + 1"):
            with pytest.raises(sqlite3.DatabaseError, match="append-only"):
                database.execute(statement)
    database.close()
    journal.close()


def test_every_family_of_facts_has_a_name_of_its_own() -> None:
    keys = {fact.name: fact.key("x" if fact.several else "") for fact in FACTS}
    assert len(keys) == len(FACTS)
    for name, key in keys.items():
        assert [fact.name for fact in FACTS if fact.holds(key)] == [name]


def test_facts_about_something(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite")
    assert journal.of(SKIPPED, "owl") is None
    journal.note(SKIPPED, "there are no zeros", "owl")
    journal.note(SKIPPED, "there are no widths", "flap")
    assert journal.of(SKIPPED, "owl") == "there are no zeros"
    assert journal.all(SKIPPED) == {"owl": "there are no zeros", "flap": "there are no widths"}
    assert journal.all(SKIPPED, "fl") == {"flap": "there are no widths"}
    with pytest.raises(SecateurError, match="baseline owl is not what this run began with"):
        journal.note(SKIPPED, "another reason", "owl")
    with pytest.raises(SecateurError, match="the fact 'model' is missing"):
        journal.known(MODEL)
    journal.close()


def test_facts_choices_and_turns_are_settled_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite")
    journal.note(ANYTHING, {"a": 1})
    journal.note(ANYTHING, {"a": 1})
    with pytest.raises(SecateurError, match="the model is not what this run began with"):
        journal.note(ANYTHING, {"a": 2})
    journal.choose(Choice("found", SPACE.dense, 1, 2, 3.0))
    journal.choose(Choice("found", SPACE.dense, 1, 2, 9.0))
    with pytest.raises(SecateurError, match="gave another plan"):
        journal.choose(Choice("found", SPACE.smallest, 9, 9, 9.0))
    assert journal.choices() == {"found": Choice("found", SPACE.dense, 1, 2, 3.0)}
    for _ in range(2):
        journal.turn(Turn("found", 10, 1, SPACE.dense))
        journal.turn(Turn("found", 20, 2, None))
    assert journal.turns("found") == [Turn("found", 10, 1, SPACE.dense), Turn("found", 20, 2, None)]
    assert Genome((0,)) == Genome((0,))
    journal.close()


def test_a_copy_cut_at_any_byte_opens_as_before_or_says_so(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite")
    for row in some():
        journal.append("calibration", LOSSES, "digest", row)
    journal.close()
    content = (tmp_path / "j.sqlite").read_bytes()
    for cut in range(0, len(content), 1531):
        path = tmp_path / f"cut-{cut}.sqlite"
        path.write_bytes(content[:cut])
        try:
            opened = Journal(path)
            rows = [evaluation for _, evaluation in opened.evaluations()]
            assert len(rows) in (0, 5)
            opened.close()
        except SecateurError as error:
            assert "cannot be read" in str(error) or "cannot be opened" in str(error)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    Journal(tmp_path / "j.sqlite").close()
    database = sqlite3.connect(tmp_path / "j.sqlite", isolation_level=None)
    database.executescript("DROP TRIGGER facts_no_UPDATE; UPDATE facts SET value = '99' WHERE name = 'schema_version';")
    database.close()
    with pytest.raises(SecateurError, match="schema version 99"):
        Journal(tmp_path / "j.sqlite")


FULL_DISK = """
import json, resource, sys
from pathlib import Path
from tests.runs.test_journal import some
from secateur.runs.record.journal import Journal
from secateur.space.losses import LOSSES
from secateur.space.errors import SecateurError
journal = Journal(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, 120_000))
written = 0
try:
    while True:
        for row in some():
            journal.append("calibration", LOSSES, "digest", row)
            written += 1
except SecateurError as error:
    print(json.dumps([written, str(error)]))
"""


def test_a_full_disk_loses_nothing_that_was_written(tmp_path: Path) -> None:
    """A real limit on the file's size, in a process of its own."""
    path = tmp_path / "j.sqlite"
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=True, env={**os.environ}
    )
    written, message = json.loads(result.stdout)
    assert written > 20
    assert "cannot be written" in message
    assert "make room and resume" in message
    journal = Journal(path)
    assert len(list(journal.evaluations())) == written
    journal.append("calibration", LOSSES, "digest", some()[0])
    journal.close()


def test_disk_full_as_sqlite_reports_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite")
    journal._database.connection.execute("PRAGMA max_page_count = 12")
    with pytest.raises(SecateurError, match="database or disk is full"):
        for _ in range(1000):
            journal.append("calibration", LOSSES, "digest", some()[0])
    journal.close()


class TestFolder:
    def test_one_writer_at_a_time(self, tmp_path: Path) -> None:
        folder = RunFolder.create(tmp_path / "run", RECIPE)
        with pytest.raises(SecateurError, match="another process is working on this run"):
            RunFolder.open(tmp_path / "run")
        RunFolder.open(tmp_path / "run", writing=False).close()
        folder.close()
        RunFolder.open(tmp_path / "run").close()

    def test_taken_folders_are_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("mine")
        with pytest.raises(SecateurError, match="exists and is not empty"):
            RunFolder.create(tmp_path, RECIPE)
        assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
        RunFolder.create(tmp_path / "run", RECIPE).close()
        with pytest.raises(SecateurError, match="is a run already"):
            RunFolder.create(tmp_path / "run", RECIPE)

    def test_a_changed_recipe_is_refused(self, tmp_path: Path) -> None:
        RunFolder.create(tmp_path / "run", RECIPE).close()
        other = replace_seed(9)
        (tmp_path / "run" / "recipe.yaml").write_text(other)
        with pytest.raises(SecateurError, match=r"recipe.yaml is not what this run began with"):
            RunFolder.open(tmp_path / "run")

    def test_not_a_run(self, tmp_path: Path) -> None:
        with pytest.raises(SecateurError, match="is no run"):
            RunFolder.open(tmp_path)

    def test_a_folder_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(SecateurError, match="cannot write"):
            RunFolder.create(tmp_path / "file" / "run", RECIPE)
        assert shutil.disk_usage(tmp_path).free > 0


def replace_seed(seed: int) -> str:
    return RECIPE.model_copy(update={"seed": seed}).to_yaml()


def test_an_evaluation_keeps_its_meaning_when_replaced() -> None:
    one = some()[0]
    assert replace(one, losses={"kl": (1.0, 3.0)}).loss == 2.0
    assert replace(one, losses={"kl": (1.0, 3.0)}).standard_error == pytest.approx(1.0)
    assert some()[-1].loss == float("inf")

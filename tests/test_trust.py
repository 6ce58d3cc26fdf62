"""What comes from elsewhere is shown as it is, stays in its place and runs nothing: through the command line."""

import hashlib
import json
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from secateur.files import SUFFIX, new_folder, parsed, write_text, write_whole
from secateur.fitness.cache import cache_folder
from secateur.plans.checkpoint.card import _fenced, text
from secateur.runs.asked.located import located
from secateur.space.errors import SecateurError
from tests.earlier import make_earlier
from tests.program import Ended, forked
from tests.tiny import save_text, save_tiny, tiny_recipe

NAME = "[/x]|`$_{<script>alert(1)</script>\x1b[31m\n# heading"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    save_tiny(folder / "model")
    save_text(folder / "text.txt", seed=1)
    save_text(folder / "held.txt", seed=2)
    return folder


def run(place: Path, *arguments: object, **options: Any) -> Ended:
    environment = {"SECATEUR_CACHE": str(place / "cache"), **options.pop("environment", {})}
    return forked(*arguments, environment=environment, **options)


def recipe(place: Path, path: Path, **changes: Any) -> Path:
    values = tiny_recipe(place / "model", place / "text.txt", place / "held.txt") | changes
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(scope="module")
def finished(place: Path) -> Path:
    """A run whose held-out text has an awkward name."""
    held = [{"source": str(place / "held.txt"), "sequences": 5, "length": 16, "windows_per_document": 2, "name": NAME}]
    file = recipe(place, place / "r.yaml", held_out=held, baselines=["random", "last-k"])
    result = run(place, "search", file, "--out", place / "run")
    assert result.returncode == 0, result.stderr
    return place / "run"


# -- names on their way out --------------------------------------------------------------------------------------------


def test_names_are_shown_as_they_are_in_the_terminal(place: Path, finished: Path) -> None:
    result = run(place, "report", finished)
    assert result.returncode == 0, result.stderr
    assert "[/x]|`$_{<script>" in result.stdout
    assert "\x1b" not in result.stdout


def test_names_are_no_markup_in_pages_and_cards(place: Path, finished: Path) -> None:
    page = (finished / "report" / "index.html").read_text()
    assert "<script>alert" not in page
    out = place / "checkpoint"
    shutil.rmtree(out, ignore_errors=True)
    assert run(place, "export", finished, "--to", "hf", "--out", out).returncode == 0
    card = (out / "README.md").read_text()
    _, front_matter, body = card.split("---\n", 2)
    assert "<script>" not in front_matter
    assert isinstance(yaml.safe_load(front_matter), dict)
    before_recipe = body[: body.index("## Recipe")]
    assert "<script>" not in before_recipe.replace("\\<script\\>", "")
    assert "\n# heading" not in card
    assert "\x1b" not in before_recipe
    rows = [line for line in before_recipe.splitlines() if "script" in line]
    assert rows
    assert all(line.replace("\\|", "").count("|") in (6, 7) for line in rows), "in one cell of its table"


def test_no_fence_is_closed_from_inside() -> None:
    assert _fenced("a\n````\nb", "yaml")[0] == "`````yaml"
    assert text("a|b\n# c") == "a\\|b \\# c"


# -- names on their way to the disk ------------------------------------------------------------------------------------


def _rename(journal: Path, name: str) -> None:
    """What somebody does who knows how checksums are made."""
    database = sqlite3.connect(journal, isolation_level=None)
    database.execute("DROP TRIGGER choices_no_UPDATE")
    row = database.execute(
        "SELECT name, genome, tokens, evaluations, seconds FROM choices WHERE name = 'random'"
    ).fetchone()
    row = (name, *row[1:])
    checksum = hashlib.sha256(json.dumps(["choices", *row]).encode()).hexdigest()[:16]
    database.execute("UPDATE choices SET name = ?, checksum = ? WHERE name = 'random'", (name, checksum))
    database.close()


def test_a_journal_writes_nothing_outside_its_run(place: Path, finished: Path, tmp_path: Path) -> None:
    for name in ("../../../X", "/tmp/X", "a/b", "", ".hidden", "x" * 300):
        copy = shutil.copytree(finished, tmp_path / "deep" / "er" / "run", dirs_exist_ok=False)
        _rename(copy / "journal.sqlite", name)
        before = {path for path in tmp_path.rglob("*") if copy not in path.parents}
        result = run(place, "report", copy)
        assert result.returncode == 2
        assert "which is no name of a plan" in result.stderr
        assert {path for path in tmp_path.rglob("*") if copy not in path.parents} == before
        shutil.rmtree(tmp_path / "deep")


@pytest.mark.parametrize("folder", ["plans", "report"])
def test_a_link_in_a_run_is_not_followed(place: Path, finished: Path, tmp_path: Path, folder: str) -> None:
    copy = shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(copy / folder)
    (tmp_path / "elsewhere").mkdir()
    (copy / folder).symlink_to(tmp_path / "elsewhere")
    result = run(place, "report", copy)
    assert "leads out of the run's folder" in result.stderr
    assert not list((tmp_path / "elsewhere").iterdir())


def test_damaged_rows_are_told(place: Path, finished: Path, tmp_path: Path) -> None:
    for table, column, value in (
        ("answers", "content", '{"losses": {"kl": [0.0, 0.0]}}'),
        ("facts", "value", '"another"'),
        ("choices", "genome", "[1]"),
        ("steps", "tokens", 7),
    ):
        copy = shutil.copytree(finished, tmp_path / "run")
        database = sqlite3.connect(copy / "journal.sqlite", isolation_level=None)
        database.execute(f"DROP TRIGGER {table}_no_UPDATE")
        which = "name = 'model'" if table == "facts" else f"rowid = (SELECT max(rowid) FROM {table})"
        database.execute(f"UPDATE {table} SET {column} = ? WHERE {which}", (value,))
        database.close()
        result = run(place, "report", copy)
        assert result.returncode == 2, (table, result.stderr)
        assert f"of '{table}' is not what was written" in result.stderr
        shutil.rmtree(copy)


@pytest.mark.parametrize("version", [1, 2])
def test_a_journal_of_before_is_read(place: Path, finished: Path, tmp_path: Path, version: int) -> None:
    copy = shutil.copytree(finished, tmp_path / "run")
    make_earlier(copy / "journal.sqlite", version)
    assert run(place, "report", copy).stdout == run(place, "report", finished).stdout.replace(str(finished), str(copy))
    assert run(place, "resume", copy).returncode == 0


@pytest.mark.parametrize("name", [".lock", "journal.sqlite", "journal.sqlite-journal", "recipe.yaml"])
def test_the_files_of_a_run_are_no_links(place: Path, finished: Path, tmp_path: Path, name: str) -> None:
    copy = shutil.copytree(finished, tmp_path / "run")
    target = tmp_path / "outside"
    if (copy / name).exists():
        (copy / name).unlink()
    (copy / name).symlink_to(target)
    for command in ("resume", "report"):
        result = run(place, command, copy)
        assert result.returncode == 2
        assert "Traceback" not in result.stderr
        assert not target.exists()


def test_costs_of_a_plan_are_those_we_know(place: Path, finished: Path, tmp_path: Path) -> None:
    plan = json.loads((finished / "plans" / "found.json").read_text())
    for name, value in (("<script>alert(1)</script> | x |\n# H", 1), ("parameters", 10**4200), ("parameters", -1)):
        changed = {part: {**plan[part], name: value} for part in ("costs", "dense_costs")}
        (tmp_path / "plan.json").write_text(json.dumps(plan | changed))
        result = run(place, "export", tmp_path / "plan.json", "--to", "hf", "--out", tmp_path / "out")
        assert result.returncode == 2
        assert "Traceback" not in result.stderr
        assert len(result.stderr) < 1000


# -- code --------------------------------------------------------------------------------------------------------------


def _task(folder: Path, **changes: Any) -> Path:
    folder.mkdir()
    rows = [{"q": f"word{i}", "a": ["word3", "word4"], "gold": i % 2} for i in range(4)]
    (folder / "data.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    values = {
        "task": "mine",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "data.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{q}}",
        "doc_to_choice": "{{a}}",
        "doc_to_target": "gold",
        "metric_list": [{"metric": "acc"}],
        **changes,
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump(values).replace("'!function code.go'", "!function code.go"))
    (folder / "code.py").write_text(f"open({str(folder / 'ran')!r}, 'w').close()\ndef go(doc):\n    return doc['q']\n")
    return folder


INSIDE = "{{ cycler['\\x5f\\x5finit\\x5f\\x5f']['\\x5f\\x5fglobals\\x5f\\x5f'] }}"
"""A template for the insides of Python's objects that nothing of it says."""


@pytest.mark.parametrize("how", ["tag", "included", "merged", "template", "metric"])
def test_task_definitions_run_no_code_unless_that_is_allowed(place: Path, tmp_path: Path, how: str) -> None:
    changes: dict[str, Any] = {"doc_to_text": "!function code.go"} if how == "tag" else {}
    if how == "template":
        changes = {"doc_to_text": "{{ ''.__class__.__mro__ }}"}
    if how == "metric":
        changes = {"metric_list": [{"metric": str(tmp_path / "tasks" / "code.py"), "higher_is_better": True}]}
    tasks = _task(tmp_path / "tasks", **changes)
    if how in ("included", "merged"):
        (tmp_path / "other.yaml").write_text("doc_to_text: !function tasks/code.go\n")
        file = tasks / "mine.yaml"
        line = "include: ../other.yaml" if how == "included" else "<<: {include: ../other.yaml}"
        file.write_text(file.read_text() + line + "\n")
    arguments = ("eval", place / "model", "--tasks", "mine", "--include", tasks)
    result = run(place, *arguments)
    assert result.returncode == 2
    assert "run " in result.stderr
    assert "Python; --allow-code" in result.stderr
    file = recipe(
        place,
        tmp_path / "r.yaml",
        objectives=["lm-eval:mine", "parameters"],
        strategy={"name": "nsga2", "population": 8, "sequences": 1, "initial": []},
        effort={"evaluations": 8},
        tasks={"include": str(tasks), "documents": 2},
    )
    result = run(place, "search", file, "--out", tmp_path / "run")
    assert result.returncode == 2
    assert "Python; 'tasks: {code: true}'" in result.stderr
    assert not (tasks / "ran").exists()
    if how == "tag":
        assert run(place, *arguments, "--allow-code").returncode == 0
        assert (tasks / "ran").exists()


def test_templates_of_tasks_are_filled_in_where_they_reach_nothing(place: Path, tmp_path: Path) -> None:
    tasks = _task(tmp_path / "tasks", doc_to_text=INSIDE)
    result = run(place, "eval", place / "model", "--tasks", "mine", "--include", tasks)
    assert result.returncode == 2
    assert "unsafe" in result.stderr, result.stderr
    assert "Traceback" not in result.stderr


def test_a_definition_that_is_no_file_is_not_waited_for(place: Path, tmp_path: Path) -> None:
    tasks = _task(tmp_path / "tasks")
    os.mkfifo(tasks / "other.yaml")
    result = run(place, "eval", place / "model", "--tasks", "mine", "--include", tasks, timeout=60)
    assert result.returncode == 2
    assert "other.yaml" in result.stderr


OWN = """
import os, sys, time
calls = 0
def leaves(model, ids):
    global calls
    calls += 1
    if calls > 3:
        sys.exit(0)
    return 1.0
def tiny(model, ids):
    return 9e-8
def huge(model, ids):
    global calls
    calls += 1
    return 1e308 if calls % 2 else 1.0
def slow(model, ids):
    global calls
    calls += 1
    if calls > 3:
        time.sleep(60)
    return 1.0
"""


def _own(place: Path, folder: Path, name: str, **changes: Any) -> Ended:
    (folder / "own_score.py").write_text(OWN)
    (folder / "leaving.py").write_text("import sys\nsys.exit(0)\n")
    (folder / "broken.py").write_text("1 / 0\n")
    (folder / "closing.py").write_text("raise GeneratorExit\n")
    mute = "class Mute(BaseException):\n    def __str__(self):\n        raise RuntimeError\n"
    (folder / "mute.py").write_text(f"{mute}raise Mute\n")
    (folder / "late.py").write_text(f"{mute}def f(model, ids):\n    raise Mute\n")
    (folder / "old.py").write_bytes(b"# -*- coding: latin-1 -*-\n# \xe9\ndef f(model, ids):\n    return 1.0\n")
    file = recipe(
        place,
        folder / "r.yaml",
        objectives=[name, "parameters"],
        budgets={},
        strategy={"name": "random", "sequences": 2},
        effort={"evaluations": 6},
        **changes,
    )
    return run(place, "search", file, "--out", folder / "run", cwd=folder)


def test_a_function_of_the_users_that_leaves_is_a_failed_candidate(place: Path, tmp_path: Path) -> None:
    result = _own(place, tmp_path, "own_score:leaves")
    assert result.returncode == 0, result.stderr
    assert "some candidates failed: own_score:leaves: SystemExit: 0" in result.stdout


def test_whatever_a_function_of_the_users_raises_is_the_candidates(place: Path, tmp_path: Path) -> None:
    result = _own(place, tmp_path, "late:f")
    assert result.returncode == 2
    assert "the dense model cannot be scored" in result.stderr
    assert "Mute" in result.stderr


def test_a_function_in_another_encoding_is_named_by_its_bytes(place: Path, tmp_path: Path) -> None:
    assert _own(place, tmp_path, "old:f").returncode == 0


def test_a_function_of_the_users_that_hangs_is_ended(place: Path, tmp_path: Path) -> None:
    result = _own(place, tmp_path, "own_score:slow", tasks={"timeout": 0.2})
    assert result.returncode == 0, result.stderr
    assert "took longer than 0.2 s" in result.stdout


def test_a_zero_up_to_rounding_is_a_zero(place: Path, tmp_path: Path) -> None:
    result = _own(place, tmp_path, "own_score:tiny")
    assert result.returncode == 0, result.stderr
    assert "nothing besides the dense model" not in result.stdout


def test_a_loss_that_cannot_be_added_up_has_failed(place: Path, tmp_path: Path) -> None:
    result = _own(place, tmp_path, "own_score:huge")
    assert "Traceback" not in result.stderr
    assert "too large to be averaged" in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("leaving:f", "SystemExit: 0"),
        ("broken:f", "ZeroDivisionError"),
        ("closing:f", "GeneratorExit"),
        ("mute:f", "Mute"),
        ("os:x", "AttributeError"),
    ],
)
def test_a_module_that_cannot_be_imported(place: Path, tmp_path: Path, name: str, word: str) -> None:
    result = _own(place, tmp_path, name)
    assert result.returncode == 2
    assert f"'{name}' cannot be imported" in result.stderr
    assert word in result.stderr
    assert "Traceback" not in result.stderr


# -- folders -----------------------------------------------------------------------------------------------------------


def test_variables_that_are_empty_count_as_not_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SECATEUR_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "secateur"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "secateur"
    monkeypatch.setenv("HOME", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_folder().is_absolute()


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    left = [tmp_path / f".a.json.x{SUFFIX}", tmp_path / f".another.y{SUFFIX}"]
    for folder in left:
        (folder / "part").mkdir(parents=True)
        (folder / "part" / "model").write_text("half")
    (left[1] / "lock").touch()
    kept = [tmp_path / f"b{SUFFIX}", tmp_path / ".a.json.swp", tmp_path / "a.json.txt"]
    for path in kept:
        path.write_text("another's")
    write_text(tmp_path / "a.json", "{}")
    with new_folder(tmp_path / "out") as folder:
        with pytest.raises(SecateurError), new_folder(tmp_path / "out"):  # a writer at work is let be
            raise SecateurError("stopped")
        assert folder.is_dir()
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in kept)


def test_a_writer_keeps_its_lock_while_a_library_writes(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"

    def write(temporary: Path) -> None:
        save_file({"first": torch.ones(2)}, temporary)  # renames a file of its own to this name
        write_text(path, "second")  # sweeps what nobody holds
        assert path.read_text() == "second"

    write_whole(path, write)
    assert set(load_file(path)) == {"first"}
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_that_is_no_text_can_be_written(tmp_path: Path) -> None:
    write_text(tmp_path / "a.md", "\ud800 \udcff")
    assert (tmp_path / "a.md").read_bytes() == b"\\ud800 \\udcff"
    write_text(tmp_path / "a.md", os.fsdecode(b"name \xff"))
    assert (tmp_path / "a.md").read_bytes() == b"name \xff"


def test_relative_names_are_looked_for_beside_the_recipe(place: Path, tmp_path: Path) -> None:
    for name in ("model", "text.txt", "held.txt"):
        (tmp_path / "there").mkdir(exist_ok=True)
        (tmp_path / "there" / name).symlink_to(place / name)
    (tmp_path / "elsewhere").mkdir()
    values = tiny_recipe(Path("model"), Path("text.txt"), Path("held.txt"))
    (tmp_path / "there" / "r.yaml").write_text(yaml.safe_dump(values))
    result = run(place, "search", "../there/r.yaml", "--out", "../run", cwd=tmp_path / "elsewhere")
    assert result.returncode == 0, result.stderr
    assert run(place, "resume", tmp_path / "run", cwd=Path("/")).returncode == 0
    assert run(place, "export", tmp_path / "run", "--to", "hf", "--out", tmp_path / "x", cwd=Path("/")).returncode == 0
    values["calibration"]["source"] = "gone.txt"
    (tmp_path / "there" / "r.yaml").write_text(yaml.safe_dump(values))
    result = run(place, "search", "../there/r.yaml", "--out", "../run2", cwd=tmp_path / "elsewhere")
    assert str(tmp_path / "there" / "gone.txt") in result.stderr
    assert located({"model": {"path": "org/name"}}, tmp_path) == {"model": {"path": "org/name"}}


def test_a_recipe_that_was_changed_says_in_which_key(place: Path, finished: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(finished, tmp_path / "run")
    values = yaml.safe_load((copy / "recipe.yaml").read_text())
    values["strategy"]["sequences"] = 3
    (copy / "recipe.yaml").write_text(yaml.safe_dump(values))
    result = run(place, "resume", copy)
    assert result.returncode == 2
    assert "strategy: sequences: 2 then, 3 now" in result.stderr
    assert len(result.stderr) < 600


@pytest.mark.parametrize(
    "content",
    [
        *("a: 2024-13-45", "a: !!int abc", "a: !!set [a]", "a: " + "[" * 3000, "a: 1" + "0" * 6000, "a: &a [*a]"),
        "a: &a [1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d]\n"
        "f: &f [*e,*e,*e,*e]\ng: &g [*f,*f,*f,*f]\nh: [*g,*g]",
        "\n".join(f"k{i}: 1" for i in range(20_001)),
        "x: " + "y" * 2**20,
    ],
)
def test_values_that_are_too_much(content: str) -> None:
    try:
        values = parsed(content, "recipe r.yaml")
    except SecateurError as error:
        assert len(str(error)) < 700
    else:
        pytest.fail(str(values)[:80])


@pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
def test_a_recipe_that_is_no_file(place: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "r.yaml"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    result = run(place, "space", path, timeout=30)
    assert result.returncode == 2
    assert "there is no such file" in result.stderr


@pytest.mark.parametrize("suffix", [".json", ".yaml", ".txt", ".npy", ".csv"])
def test_a_peers_plan_that_is_no_file(place: Path, tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"pipe{suffix}")
    (tmp_path / f"zero{suffix}").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        arguments = ("--model", place / "model", "--out", tmp_path / "plan.json")
        result = run(place, "import", tmp_path / f"{name}{suffix}", *arguments, timeout=60)
        assert result.returncode == 2
        assert "there is no such file" in result.stderr


def test_half_a_character_in_a_recipe(place: Path, tmp_path: Path) -> None:
    path = recipe(place, tmp_path / "r.yaml")
    path.write_text(path.read_text() + 'target: "a\\ud800b"\n')
    result = run(place, "space", path)
    assert result.returncode == 2
    assert "lone surrogate" in result.stderr


LONG = "x" * 300


@pytest.mark.parametrize(
    "words",
    [
        ("search", "RECIPE", "--out", LONG),
        ("report", LONG),
        ("resume", LONG),
        ("export", LONG, "--list"),
        ("export", "RUN", "--to", "hf", "--out", LONG),
        ("eval", LONG, "--tasks", "x"),
        ("eval", "RUN", "--tasks", "x", "--include", LONG),
        ("compare", LONG, LONG),
        ("import", LONG, "--model", "MODEL", "--out", "plan.json"),
        ("tune", "RUN", "--tokens", "64", "--out", LONG),
        ("tune", "RUN", "--tokens", "64", "--out", "/dev/null"),
        ("tune", "RUN", "--tokens", "9999999999999", "--every", "1", "--out", "new"),
        ("report", "RUN", "--pick", "9" * 6000),
        ("report", "RUN", "--pick", "²"),
        ("dashboard", "RUN", "--host", "256.1.1.1"),
        ("space", "RECIPE", "--set", f"tasks.include={LONG}", "--set", f"calibration.source={LONG}.txt"),
    ],
)
def test_paths_and_numbers_that_are_too_long(
    place: Path, finished: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    names = {"RECIPE": place / "r.yaml", "RUN": finished, "MODEL": place / "model"}
    result = run(place, *(names.get(word, word) for word in words), cwd=tmp_path, timeout=60)
    assert result.returncode in (0, 2) if words[0] == "space" else result.returncode == 2
    assert "Traceback" not in result.stderr
    assert len(result.stderr) < 2000
    assert not list(tmp_path.iterdir())


def test_files_are_for_whom_the_user_says(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_text(tmp_path / "a", "")
        with new_folder(tmp_path / "out") as folder:
            (folder / "b").write_text("")
    finally:
        os.umask(before)
    modes = [path.stat().st_mode & 0o777 for path in (tmp_path / "a", tmp_path / "out", tmp_path / "out" / "b")]
    assert modes == [0o600, 0o700, 0o600]

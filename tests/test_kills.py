"""Every command killed with SIGKILL at random moments, and on a full disk: nothing half-written, nothing lost.

`SECATEUR_KILLS=40 pytest tests/test_kills.py` kills each of the six 40 times; here a few do.
"""

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import yaml

from secateur.files import SUFFIX
from secateur.runs.record.folder import RunFolder
from secateur.space.tasks import TASKS
from tests.gguf_file import write_gguf
from tests.program import Ended, forked, start
from tests.tasks import task_folder
from tests.test_kill_and_resume import record
from tests.tiny import save_text, save_tiny, tiny_recipe

KILLS = int(os.environ.get("SECATEUR_KILLS", "4"))
GENES = [
    {"kind": "attention", "levels": [2, 1, 0]},
    {"kind": "mlp", "levels": "4 levels", "multiple_of": 8},
    {"kind": "sparsity", "per": "block", "levels": [0.25, 0.5]},
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workplace with a finished run."""
    folder = tmp_path_factory.mktemp("kills")
    save_tiny(folder / "model")
    texts = [save_text(folder / f"{name}.txt", seed=number) for number, name in enumerate(("text", "held"))]
    recipe = tiny_recipe(folder / "model", *texts, genes=GENES, budgets={"block_parameters": "0.8x"})
    recipe |= {"strategy": {"name": "random"}, "effort": {"evaluations": 20}, "pruner": "sparsegpt"}
    (folder / "r.yaml").write_text(yaml.safe_dump(recipe))
    assert ended(folder, "search", folder / "r.yaml", "--out", folder / "run").returncode == 0
    return folder


def ended(place: Path, *arguments: object, cache: str = "cache", largest: int | None = None) -> Ended:
    return forked(*arguments, environment={"SECATEUR_CACHE": str(place / cache)}, largest=largest)


def killed(
    place: Path,
    arguments: tuple[object, ...],
    kills: int,
    cache: str = "cache",
    both: bool = False,
    longest: float = 2.0,
) -> int:
    """Starts a command and kills it, again and again, at moments over the time that it takes; how often it landed."""
    rng, landed = random.Random(0), 0
    scratch = place / "scratch"
    scratch.mkdir(exist_ok=True)
    for _ in range(kills):
        began = time.monotonic()
        some = [start(arguments, scratch, None, {"SECATEUR_CACHE": str(place / cache)}) for _ in range(1 + both)]
        time.sleep(rng.uniform(0.05, longest))
        for process in some:
            if process.is_alive():
                os.kill(process.pid, signal.SIGKILL)
                landed += 1
            process.join()
        if not landed:
            longest = min(longest, time.monotonic() - began)
    return landed


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_reports_are_whole_after_kills(place: Path) -> None:
    expected = contents(place / "run" / "plans")
    assert killed(place, ("report", place / "run"), KILLS)
    assert ended(place, "report", place / "run").returncode == 0
    assert contents(place / "run" / "plans") == expected
    assert not list((place / "run").rglob(f"*{SUFFIX}"))


@pytest.mark.parametrize("to", ["hf", "gguf"])
def test_exports_are_there_whole_or_not_at_all(place: Path, to: str) -> None:
    out, whole = place / f"out-{to}", place / f"whole-{to}"
    extra = ("--vocabulary", "none") if to == "gguf" else ()
    result = ended(place, "export", place / "run", "--to", to, "--out", whole, *extra)
    if result.returncode == 2:
        assert "gguf" in result.stderr  # a plan that llama.cpp does not take
        return
    expected = contents(whole)
    for _ in range(KILLS):
        killed(place, ("export", place / "run", "--to", to, "--out", out, *extra), 1)
        if out.exists():
            assert contents(out) == expected
            shutil.rmtree(out)
    assert ended(place, "export", place / "run", "--to", to, "--out", out, *extra).returncode == 0
    assert contents(out) == expected
    assert not list(place.glob(f".out-{to}*"))


def test_tuning_goes_on_after_kills(place: Path) -> None:
    arguments = ("tune", place / "run", "--tokens", "256", "--every", "64", "--out")
    assert ended(place, *arguments, place / "tuned-whole").returncode == 0
    assert killed(place, (*arguments, place / "tuned"), KILLS)
    assert ended(place, *arguments, place / "tuned").returncode == 0
    points = [json.loads((place / name / "tune.json").read_text())["points"] for name in ("tuned-whole", "tuned")]
    assert points[0] == points[1]


def test_tasks_go_on_after_kills(place: Path) -> None:
    """What a killed evaluation had finished is there, and nothing else is."""
    folder = task_folder(place / "tasks")
    runs = [shutil.copytree(place / "run", place / name) for name in ("asked-once", "asked-again")]
    arguments = ("--tasks", "guess", "--include", folder, "--limit", "6", "--pick", "all", "--pick", "dense")
    assert ended(place, "eval", runs[0], *arguments).returncode == 0
    assert killed(place, ("eval", runs[1], *arguments), KILLS, longest=15.0)
    assert ended(place, "eval", runs[1], *arguments).returncode == 0
    found = []
    for run in runs:
        with RunFolder.open(run, writing=False) as opened:
            answers = opened.journal.answers(TASKS)
            found.append(sorted((text, one.key, one.result.metrics["acc"]) for text, one in answers))
    assert found[0]
    assert found[0] == found[1]


def test_two_runs_prepare_one_cache_while_they_are_killed(place: Path) -> None:
    expected = record(place / "run")[0]
    command = ("search", place / "r.yaml", "--out")
    for kill in range(KILLS):
        killed(place, (*command, place / f"other-{kill}"), 1, cache="shared", both=True)
    assert ended(place, *command, place / "last", cache="shared").returncode == 0
    assert record(place / "last")[0] == expected
    assert ended(place, *command, place / "again", cache="shared").returncode == 0
    assert record(place / "again")[0] == expected


def test_a_full_disk_ends_caches_and_exports_in_one_message(place: Path) -> None:
    model = write_gguf(place / "model.gguf")
    search = ("search", place / "r.yaml", "--set", f"model.path={model}", "--out", place / "full")
    for largest in (1500, 30_000):  # its configuration, its weights
        result = ended(place, *search, cache="full-cache", largest=largest)
        assert result.returncode == 2, result.stderr
        assert "cannot write" in result.stderr
        assert "SECATEUR_CACHE" in result.stderr
        assert "Traceback" not in result.stderr
    assert not list((place / "full-cache").rglob(f"*{SUFFIX}"))
    assert not (place / "full").exists()
    arguments = ("export", place / "run", "--to", "hf", "--out", place / "no-room")
    result = ended(place, *arguments, largest=20_000)
    assert result.returncode == 2, result.stderr
    assert "cannot write" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (place / "no-room").exists()
    assert not list(place.glob(".no-room*"))
    assert ended(place, *arguments).returncode == 0

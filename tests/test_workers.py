"""Runs spread over workers: the same answers on any number of them, whoever is killed; each refusal before any work."""

import contextlib
import os
import random
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from secateur.api import resume, run
from secateur.fitness.workers import device
from secateur.runs.record.facts import LATENCY, MEASURED, UNTIMED
from secateur.runs.record.folder import RunFolder
from secateur.runs.workers import team_of
from secateur.space.errors import DeviceError, SecateurError
from secateur.space.tasks import TASKS
from tests.program import forked, start
from tests.tasks import task_folder
from tests.test_kill_and_resume import record
from tests.tiny import tiny_recipe
from tests.worker_scores import CANDIDATE, HANGS

GENES = [
    {"kind": "attention"},
    {"kind": "mlp"},
    {"kind": "sparsity", "per": "block", "levels": [0.25, 0.5]},
]


def recipe_of(tiny: Path, **changes: Any) -> dict[str, Any]:
    """A search with baselines and held-out text."""
    values: dict[str, Any] = {
        "genes": GENES,
        "budgets": {"linear_weights": "0.7x"},
        "strategy": {"name": "surrogate", "sequences": 4},
        "effort": {"tokens": 6000},
        "baselines": "all",
        **changes,
    }
    return tiny_recipe(tiny / "model", tiny / "calibration.txt", tiny / "held.txt", **values)


def files_of(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*.safetensors"))


def alone_and_with(
    recipe: dict[str, Any], folder: Path, workers: object, monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, Any]:
    """What a run comes to alone, and with workers, each with a cache of its own."""
    found = []
    for name, changes in (("alone", {}), ("together", {"workers": workers})):
        monkeypatch.setenv("SECATEUR_CACHE", str(folder / f"cache-{name}"))
        run({**recipe, **changes}, folder / name)
        found.append(record(folder / name))
    return found[0], found[1]


@pytest.mark.parametrize("workers", [2, 8])
def test_answers_are_the_same_on_any_number_of_workers(
    tiny: Path, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, together = alone_and_with(recipe_of(tiny), tmp_path, workers, monkeypatch)
    assert alone == together
    assert len(alone[0]) > 100


def test_widths_training_and_slopes_too(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Orders, basis, repairs and levels are made by workers, candidates trained by them."""
    genes = [
        {"kind": "attention", "levels": [2, 1, 0]},
        {"kind": "mlp", "levels": "3 levels", "multiple_of": 8},
        {"kind": "sparsity", "per": "block", "levels": [0.25, 0.5]},
    ]
    recipe = recipe_of(
        tiny,
        genes=genes,
        budgets={"linear_weights": "0.8x"},
        effort={"tokens": 12000},
        baselines=["flap"],
        training={"what": "lora", "candidates": 3, "stages": [{"tokens": 64, "survivors": 1}], "sequences": 4},
    )
    alone, together = alone_and_with(recipe, tmp_path, 2, monkeypatch)
    assert alone == together
    files = [
        sorted(path.name for path in (tmp_path / name).rglob("*.safetensors"))
        for name in ("cache-alone", "cache-together")
    ]
    assert files[0] == files[1]


# -- those who are killed ---------------------------------------------------------------------------------------------


def workers_of(pid: int) -> list[psutil.Process]:
    """The processes that work for another."""
    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    found = []
    for child in children:
        try:
            if any("LokyProcess" in word for word in child.cmdline()):
                found.append(child)
        except psutil.Error:
            continue
    return found


def begun(recipe: dict[str, Any], folder: Path, *arguments: object) -> Any:
    """`secateur search`, or another command, in a process of its own."""
    (folder / "r.yaml").write_text(yaml.safe_dump(recipe))
    words = arguments or ("search", folder / "r.yaml", "--out", folder / "run")
    return start(tuple(words), folder, None, {"SECATEUR_CACHE": str(folder / "cache")})


def rows(folder: Path) -> int:
    from tests.test_kill_and_resume import count

    return count(folder / "run")


def long_recipe(tiny: Path, **changes: Any) -> dict[str, Any]:
    """A front that takes some seconds to evaluate."""
    return recipe_of(
        tiny,
        objectives=["tests.worker_scores:unhurried", "linear_weights"],
        budgets={},
        strategy={"name": "surrogate", "sequences": 4},
        effort={"evaluations": 50},
        baselines=["random"],
        **changes,
    )


@pytest.fixture(scope="module")
def expected(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the run that is killed would have come to."""
    folder = tmp_path_factory.mktemp("whole")
    before = os.environ.get("SECATEUR_CACHE")
    os.environ["SECATEUR_CACHE"] = str(folder / "cache")
    try:
        run(long_recipe(tiny), folder / "run")
    finally:
        if before is not None:
            os.environ["SECATEUR_CACHE"] = before
    return record(folder / "run")


def test_a_worker_that_is_killed_costs_a_repeat(tiny: Path, tmp_path: Path, expected: Any) -> None:
    process = begun(long_recipe(tiny, workers=2), tmp_path)
    rng, kills = random.Random(0), 0
    while process.is_alive() and kills < 2:
        there, before = workers_of(process.pid), rows(tmp_path)
        # Once while levels are prepared, then while they evaluate.
        if there and (before or not kills):
            time.sleep(rng.uniform(0, 0.5))
            with contextlib.suppress(psutil.NoSuchProcess):
                rng.choice(there).kill()
                kills += 1
            while process.is_alive() and rows(tmp_path) <= before:
                time.sleep(0.02)
        time.sleep(0.01)
    process.join(120)
    assert process.exitcode == 0, (tmp_path / "err").read_text()
    assert kills == 2
    assert re.search(r"[1-9] times workers were lost", (tmp_path / "out").read_text() + (tmp_path / "err").read_text())
    assert record(tmp_path / "run") == expected


def test_workers_end_with_a_killed_coordinator_and_others_go_on(tiny: Path, tmp_path: Path, expected: Any) -> None:
    arguments: tuple[object, ...] = ()
    for fewest in (1, 40):
        process = begun(long_recipe(tiny, workers=2), tmp_path, *arguments)
        while process.is_alive() and rows(tmp_path) < fewest:
            time.sleep(0.01)
        there = workers_of(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        _, alive = psutil.wait_procs(there, timeout=10)
        assert there
        assert not alive, "workers go on without anybody"
        arguments = ("resume", tmp_path / "run")
    process = begun({}, tmp_path, *arguments, "--set", "workers=3")
    process.join(120)
    assert process.exitcode == 0, (tmp_path / "err").read_text()
    assert record(tmp_path / "run") == expected


def test_ctrl_c_ends_all_of_them(tiny: Path, tmp_path: Path) -> None:
    process = begun(long_recipe(tiny, workers=2) | {"effort": {"evaluations": 2000}}, tmp_path)
    while process.is_alive() and rows(tmp_path) < 5:
        time.sleep(0.01)
    there = workers_of(process.pid)
    os.kill(process.pid, signal.SIGINT)
    process.join(120)
    _, alive = psutil.wait_procs(there, timeout=60)
    assert (process.exitcode, alive) == (130, [])
    assert "secateur resume" in (tmp_path / "err").read_text()
    assert "Traceback" not in (tmp_path / "err").read_text()


# -- candidates that are bad to have ----------------------------------------------------------------------------------


def bad_recipe(tiny: Path, score: str, **changes: Any) -> dict[str, Any]:
    return recipe_of(
        tiny,
        genes=[{"kind": "attention"}, {"kind": "mlp"}],
        objectives=[f"tests.worker_scores:{score}", "block_parameters"],
        budgets={},
        strategy={"name": "random", "sequences": 2},
        effort={"evaluations": 10},
        baselines=[],
        **changes,
    )


@pytest.mark.parametrize(("score", "reason"), [("deadly", "the worker died"), ("greedy", "out of memory")])
def test_a_candidate_that_loses_its_workers_fails_alone(
    tiny: Path, tmp_path: Path, score: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(bad_recipe(tiny, "plain"), tmp_path / "plain")
    with RunFolder.open(tmp_path / "plain", writing=False) as folder:
        found = [one for text, one in folder.journal.evaluations() if text == "calibration"]
    worst = max(found, key=lambda one: one.loss)
    monkeypatch.setenv(CANDIDATE, " ".join(f"{loss:.7f}" for loss in worst.primary))
    run(bad_recipe(tiny, score, workers=2), tmp_path / "bad")
    with RunFolder.open(tmp_path / "bad", writing=False) as folder:
        told = {one.key: one for text, one in folder.journal.evaluations() if text == "calibration"}
    assert [key for key, one in told.items() if one.status == "failed"] == [worst.key]
    assert reason in told[worst.key].reason
    assert told[worst.key].costs == worst.costs
    for one in found:
        if one.key != worst.key:
            assert told[one.key].primary == one.primary


def test_who_hangs_is_ended_and_repeated(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = bad_recipe(tiny, "slow", workers={"count": 2, "timeout": 30})
    flag = tmp_path / "hang"
    flag.touch()
    monkeypatch.setenv(HANGS, str(flag))
    started = time.monotonic()
    run(recipe, tmp_path / "run")
    assert time.monotonic() - started < 120
    assert not flag.exists()
    with RunFolder.open(tmp_path / "run", writing=False) as folder:
        assert all(one.status != "failed" for _, one in folder.journal.evaluations())


def test_workers_that_die_whatever_they_do_end_the_run(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(bad_recipe(tiny, "plain"), tmp_path / "plain")
    with RunFolder.open(tmp_path / "plain", writing=False) as folder:
        losses = [loss for text, one in folder.journal.evaluations() if text == "calibration" for loss in one.primary]
    monkeypatch.setenv(CANDIDATE, " ".join(f"{loss:.7f}" for loss in losses))
    with pytest.raises(DeviceError, match=r"with the dense model too: out of memory.*resume"):
        run(bad_recipe(tiny, "greedy", workers=2), tmp_path / "bad")
    with RunFolder.open(tmp_path / "bad", writing=False) as folder:
        assert not list(folder.journal.evaluations())
    monkeypatch.delenv(CANDIDATE)
    resume(tmp_path / "bad", ["workers=1"])
    assert record(tmp_path / "bad")[0]


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workers", "words"),
    [
        (0, "workers.count"),
        ("many", "workers"),
        ({"backend": "processes"}, "workers.count: missing|count: missing"),
        ({"backend": "dask"}, "address: missing"),
        ({"count": 2, "address": "tcp://x:1"}, "processes are of this machine"),
        ({"backend": "dask", "address": "tcp://x:1", "gpus": 1}, "only ray"),
        ({"backend": "threads", "count": 2}, "workers.backend"),
        ({"backend": "dask", "address": "tcp://127.0.0.1:9"}, "nobody answers at 'tcp://127.0.0.1:9'"),
        ({"backend": "dask", "address": "what is this"}, "nobody answers at 'what is this'"),
        ({"backend": "ray", "address": "127.0.0.1:9"}, "nobody answers at '127.0.0.1:9'"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(tiny: Path, tmp_path: Path, workers: object, words: str) -> None:
    with pytest.raises(SecateurError, match=words) as caught:
        run(recipe_of(tiny, workers=workers), tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_a_backend_that_is_not_installed(
    tiny: Path, tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, {"dask": "distributed"}.get(backend, backend), None)
    workers = {"backend": backend, "address": "tcp://127.0.0.1:9", "count": 2}
    with pytest.raises(SecateurError, match=rf"pip install 'secateur\[{backend}\]'"):
        run(recipe_of(tiny, workers=workers), tmp_path / "run")


def test_a_score_that_cannot_be_given_to_others(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tests.worker_scores as module

    monkeypatch.setattr(module, "made", lambda model, ids: 0.0, raising=False)
    with pytest.raises(SecateurError, match=r"'tests\.worker_scores:made' cannot be pickled"):
        run(bad_recipe(tiny, "made", workers=2), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_more_workers_than_devices(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import secateur.runs.workers as workers

    monkeypatch.setattr(workers, "devices", lambda name: 2)
    monkeypatch.setattr(workers, "find_device", lambda name: type("Device", (), {"type": "cuda"})())
    with pytest.raises(SecateurError, match=r"workers\.count: 4 on cpu, of which there are 2 here"):
        run(recipe_of(tiny, workers=4), tmp_path / "run")


def test_a_worker_with_another_model_or_text_is_refused(tiny: Path, tmp_path: Path) -> None:
    """Files that change between the coordinator's look at them and a worker's."""
    from secateur.fitness.workers import calls
    from secateur.runs.asked.reading import make_recipe
    from secateur.runs.problem import build_space

    here = tmp_path / "here"
    shutil.copytree(tiny, here)
    recipe = make_recipe(recipe_of(here, workers=2))
    space = build_space(recipe)
    with team_of(recipe, space, {}) as team:
        assert team is not None
        team.expect({"text 'held'": "0123"})
        with pytest.raises(SecateurError, match=r"process \d+ has another text 'held' .* than the run \(0123\)"):
            team.one(calls.open_place)


# -- devices ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A machine with two accelerators, as far as names go."""
    monkeypatch.setattr(device, "devices", lambda name: 2 if name == "cuda" else None)
    monkeypatch.setattr(device, "find_device", lambda name: type("Device", (), {"type": "cuda"})())
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield
    for handle in device._held.values():
        os.close(handle)
    device._held.clear()


@pytest.mark.usefixtures("cards")
def test_each_worker_has_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device.own_device("cpu") == "cpu"
    assert device.own_device("cuda:1") == "cuda:1"
    assert device.own_device("cuda") == "cuda:0"
    assert device.own_device("cuda") == "cuda:0"  # it is this process's already
    held = dict(device._held)
    device._held.clear()  # as another process would see it
    assert device.own_device("cuda") == "cuda:1"
    os.close(held.pop("cuda-0"))  # the first one dies
    assert device.own_device("cuda") == "cuda:1"  # and this one stays where it is
    others = dict(device._held)
    device._held.clear()
    assert device.own_device("cuda") == "cuda:0"
    held = dict(device._held)
    device._held.clear()
    with pytest.raises(SecateurError, match="all 2 of cuda are taken"):
        device.own_device("cuda")
    os.close(held["cuda-0"])  # it dies
    assert device.own_device("cuda") == "cuda:0"
    os.close(others["cuda-1"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7,3")
    assert device.own_device("cuda") == "cuda:0"
    assert "cuda-7" in device._held


def test_what_a_run_knows_of_itself_is_part_of_a_place(tiny: Path) -> None:
    """Budgets, which measuring adds to, open nothing anew; another model at the same path does."""
    from secateur.runs.asked.reading import make_recipe
    from secateur.runs.problem import build_space

    recipe = make_recipe(recipe_of(tiny, workers=2, model={"path": str(tiny / "model"), "memory": "4GB"}))
    space, bare = build_space(recipe), replace(build_space(recipe), budgets=())
    keys = []
    for one, papers in ((space, {}), (bare, {}), (space, {"model": "another"})):
        with team_of(recipe, one, papers) as team:
            assert team is not None
            keys.append(team._key)
    assert keys[0] == keys[1] != keys[2]


# -- the rest of a run ------------------------------------------------------------------------------------------------


def test_timing_is_done_by_one_of_them(tiny: Path, tmp_path: Path) -> None:
    recipe = recipe_of(
        tiny,
        genes=[{"kind": "attention"}, {"kind": "mlp"}],
        objectives=["kl", "latency"],
        budgets={},
        strategy={"name": "random", "sequences": 2},
        effort={"evaluations": 6},
        baselines=[],
        latency={"device": "cpu", "prefill": 8, "decode": 0, "seconds": 0.2, "repeats": 3},
        workers=2,
    )
    run(recipe, tmp_path / "run")
    with RunFolder.open(tmp_path / "run", writing=False) as folder:
        assert folder.journal.of(LATENCY) is not None
        assert list(folder.journal.all(MEASURED))
        assert not list(folder.journal.all(UNTIMED))


def test_tasks_are_put_by_all_of_them(tiny: Path, tmp_path: Path) -> None:
    run(recipe_of(tiny), tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "other")
    folder = task_folder(tmp_path / "tasks")
    how = ("--tasks", "guess", "--include", folder, "--limit", "6", "--pick", "all", "--pick", "dense")
    environment = {"SECATEUR_CACHE": os.environ["SECATEUR_CACHE"]}
    alone = forked("eval", tmp_path / "run", *how, environment=environment)
    together = forked("eval", tmp_path / "other", *how, "--set", "workers=2", environment=environment)
    assert (alone.returncode, together.returncode) == (0, 0), together.stderr
    found = []
    for name in ("run", "other"):
        with RunFolder.open(tmp_path / name, writing=False) as opened:
            answers = opened.journal.answers(TASKS)
            found.append(sorted((text, one.key, one.result.metrics["acc"]) for text, one in answers))
    assert found[0]
    assert found[0] == found[1]
    wrong = forked("eval", tmp_path / "run", *how, "--set", "seed=3", environment=environment)
    assert wrong.returncode == 2
    assert "only workers and log are set anew" in wrong.stderr

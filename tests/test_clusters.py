"""Runs on a Dask cluster and on a Ray cluster of this machine, whose workers are killed: the same answers as alone."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from secateur.api import run
from secateur.runs.record.folder import RunFolder
from secateur.space.errors import SecateurError
from tests.test_kill_and_resume import count, record
from tests.test_workers import bad_recipe, long_recipe, recipe_of
from tests.worker_scores import POISON


@pytest.fixture(scope="module")
def cluster_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of the clusters' workers, which were started before a test was."""
    folder, before = tmp_path_factory.mktemp("clusters"), dict(os.environ)
    os.environ |= {"SECATEUR_CACHE": str(folder), "PYTHONPATH": str(Path.cwd()), POISON: str(folder / "poison")}
    yield folder
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def dask(cluster_cache: Path) -> Iterator[Any]:  # noqa: ARG001
    """A scheduler and three workers, each a process with one thread, and with a nanny that starts it again."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=3, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def ray(cluster_cache: Path) -> Iterator[Any]:  # noqa: ARG001
    """A head with two CPUs, as `ray start` makes one."""
    module = pytest.importorskip("ray")
    module.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield module
    module.shutdown()


def killing(folder: Path, victims: Any, after: int) -> threading.Thread:
    """Kills one of the processes that `victims` finds, once there are `after` answers."""

    def look() -> None:
        while count(folder) < after:
            time.sleep(0.02)
        os.kill(victims()[0], signal.SIGKILL)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    return thread


def pids(words: str) -> list[int]:
    """Our processes whose command begins with these words."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if " ".join(child.cmdline()).startswith(words):
                found.append(child.pid)
        except psutil.Error:
            continue
    return found


@pytest.fixture(scope="module")
def alone(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What two runs come to without workers."""
    folder = tmp_path_factory.mktemp("alone")
    before, os.environ["SECATEUR_CACHE"] = os.environ.get("SECATEUR_CACHE"), str(folder / "cache")
    run(recipe_of(tiny), folder / "one")
    run(long_recipe(tiny), folder / "front")
    if before is not None:
        os.environ["SECATEUR_CACHE"] = before
    return {name: record(folder / name) for name in ("one", "front")}


@pytest.mark.filterwarnings("default")
def test_dask(tiny: Path, tmp_path: Path, dask: Any, alone: dict[str, Any]) -> None:
    workers = {"backend": "dask", "address": dask.scheduler_address}
    run(recipe_of(tiny, workers=workers), tmp_path / "run")
    assert record(tmp_path / "run") == alone["one"]
    with pytest.raises(SecateurError, match=r"workers\.count: 4, but the cluster has 3"):
        run(recipe_of(tiny, workers={**workers, "count": 4}), tmp_path / "more")


@pytest.mark.filterwarnings("default")
def test_dask_loses_a_worker(tiny: Path, tmp_path: Path, dask: Any, alone: dict[str, Any]) -> None:
    workers = {"backend": "dask", "address": dask.scheduler_address}
    killer = killing(tmp_path / "run", lambda: [worker.pid for worker in dask.workers.values()], 40)
    run(long_recipe(tiny, workers=workers), tmp_path / "run")
    killer.join(10)
    assert not killer.is_alive()
    assert record(tmp_path / "run") == alone["front"]


@pytest.mark.filterwarnings("default")
def test_dask_and_a_deadly_candidate(tiny: Path, tmp_path: Path, dask: Any) -> None:
    """It fails and the run goes on, although joblib's backend does not tell when Dask gives a task up."""
    run(bad_recipe(tiny, "plain"), tmp_path / "plain")
    with RunFolder.open(tmp_path / "plain", writing=False) as folder:
        found = [one for text, one in folder.journal.evaluations() if text == "calibration"]
    worst = max(found, key=lambda one: one.loss)
    poison = Path(os.environ[POISON])
    poison.write_text(" ".join(f"{loss:.7f}" for loss in worst.primary))
    dask.scheduler.allowed_failures = 0
    run(bad_recipe(tiny, "deadly", workers={"backend": "dask", "address": dask.scheduler_address}), tmp_path / "bad")
    poison.unlink()
    with RunFolder.open(tmp_path / "bad", writing=False) as folder:
        told = {one.key: one for text, one in folder.journal.evaluations() if text == "calibration"}
    assert [key for key, one in told.items() if one.status == "failed"] == [worst.key]
    assert "the worker died" in told[worst.key].reason


@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("ray")
def test_ray(tiny: Path, tmp_path: Path, alone: dict[str, Any]) -> None:
    run(recipe_of(tiny, workers={"backend": "ray", "count": 2}), tmp_path / "run")
    assert record(tmp_path / "run") == alone["one"]
    with pytest.raises(SecateurError, match=r"workers\.count: 3, but the cluster has 2 times 1 CPUs"):
        run(recipe_of(tiny, workers={"backend": "ray", "count": 3}), tmp_path / "more")
    with pytest.raises(SecateurError, match=r"workers\.count: 2, but the cluster has 0 times 1 GPUs"):
        run(recipe_of(tiny, workers={"backend": "ray", "count": 2, "gpus": 1}), tmp_path / "gpus")
    with pytest.raises(SecateurError, match=r"workers\.count: 1, but a cluster's workers are two or more"):
        run(recipe_of(tiny, workers={"backend": "ray", "count": 1}), tmp_path / "one")


@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("ray")
def test_ray_loses_a_worker(tiny: Path, tmp_path: Path, alone: dict[str, Any]) -> None:
    killer = killing(tmp_path / "run", lambda: pids("ray::PoolActor"), 40)
    run(long_recipe(tiny, workers={"backend": "ray", "count": 2}), tmp_path / "run")
    killer.join(10)
    assert not killer.is_alive()
    assert record(tmp_path / "run") == alone["front"]
    with RunFolder.open(tmp_path / "run", writing=False) as folder:
        assert all(one.status != "failed" for _, one in folder.journal.evaluations())

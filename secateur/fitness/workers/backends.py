"""Where workers run: processes of this machine, a Dask cluster, a Ray cluster; joblib gives them work alike.

Each says how joblib is told of it, how it tells that a worker is gone, and how one that hangs is got rid of.
"""

import importlib
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from ...space.errors import SecateurError, said

BackendName = Literal["processes", "dask", "ray"]
CONNECTING = 10
"""Seconds in which a cluster has to answer."""
FOREVER = 10**6
"""Seconds that a process without work stays."""
EXTRAS = {"dask": "distributed", "ray": "ray"}
"""What a backend needs to be installed."""


@dataclass(frozen=True, slots=True)
class Crew:
    """Which workers, and how many.

    Attributes:
        count: of workers; None: as many as a cluster has.
        address: of a cluster's scheduler.
        gpus: of a Ray cluster, that each worker is given.
        threads: of a CPU, that each worker computes with.
        timeout: seconds without an answer from any worker after which they are taken to hang.
    """

    backend: BackendName = "processes"
    count: int | None = None
    address: str | None = None
    gpus: float | None = None
    threads: int | None = None
    timeout: float | None = None


@dataclass(frozen=True)
class Connection:
    """A crew that can be given work.

    Attributes:
        count: of workers that are there.
        configured: what `joblib.parallel_config` is given.
        lost: what joblib raises when a worker is gone.
        freed: gets rid of workers that hang.
        streams: answers come one by one; otherwise calls are sent out a worker each, and come back together.
    """

    count: int
    configured: Mapping[str, Any]
    lost: tuple[type[BaseException], ...]
    freed: Callable[[], None] = field(default=lambda: None)
    streams: bool = True


@contextmanager
def connected(crew: Crew) -> Iterator[Connection]:
    """The crew, for as long as this is open.

    Raises:
        SecateurError: the backend is not installed, nobody answers at the address, or there are fewer workers.
    """
    opened = {"processes": _processes, "dask": _dask, "ray": _ray}[crew.backend]
    with opened(crew) as connection:
        yield connection


def _package(backend: str) -> Any:
    try:
        return importlib.import_module(EXTRAS[backend])
    except ImportError as error:
        raise SecateurError(
            f"workers.backend: {backend} is not installed here; pip install 'secateur[{backend}]'"
        ) from error


@contextmanager
def _processes(crew: Crew) -> Iterator[Connection]:
    from joblib.externals.loky import get_reusable_executor
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    assert crew.count is not None
    configured = {
        "backend": "loky",
        "n_jobs": crew.count,
        "inner_max_num_threads": crew.threads,
        "idle_worker_timeout": FOREVER,
    }
    try:
        yield Connection(crew.count, configured, (TerminatedWorkerError,))
    finally:
        get_reusable_executor().shutdown(wait=True, kill_workers=True)


@contextmanager
def _dask(crew: Crew) -> Iterator[Connection]:
    distributed = _package("dask")
    try:
        client = distributed.Client(crew.address, timeout=CONNECTING, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise SecateurError(f"workers.address: nobody answers at '{crew.address}': {said(error)}") from error
    try:
        count = sum(client.ncores().values())
        _check_count(crew, count, "threads of workers")
        if count < 2:
            raise SecateurError(
                f"workers.address: the cluster at '{crew.address}' has {count} worker threads; start two or more, or "
                "leave 'workers' out"
            )

        def freed() -> None:
            busy = [worker for worker, keys in client.processing().items() if keys]
            client.restart_workers(busy, timeout=CONNECTING)

        lost = (distributed.scheduler.KilledWorker,)
        yield Connection(crew.count or count, {"backend": "dask", "client": client}, lost, freed)
    finally:
        client.close()


@contextmanager
def _ray(crew: Crew) -> Iterator[Connection]:
    ray = _package("ray")
    from ray.util.joblib import register_ray

    begun = not ray.is_initialized()
    if begun:
        _knock(crew.address)
        try:
            ray.init(address=crew.address, log_to_driver=False, configure_logging=False, include_dashboard=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise SecateurError(f"workers.address: nobody answers at '{crew.address}': {said(error)}") from error
    try:
        there = ray.cluster_resources()
        count = int(there.get("GPU", 0) / crew.gpus) if crew.gpus else int(there.get("CPU", 0) / (crew.threads or 1))
        _check_count(crew, count, f"times {crew.gpus:g} GPUs" if crew.gpus else f"times {crew.threads or 1} CPUs")
        register_ray()
        asked = {"num_cpus": crew.threads or 1} | ({"num_gpus": crew.gpus} if crew.gpus else {})
        configured = {"backend": "ray", "n_jobs": crew.count or count, "ray_remote_args": asked}
        yield Connection(crew.count or count, configured, (ray.exceptions.RayError,), streams=False)
    finally:
        if begun:
            ray.shutdown()


def _knock(address: str | None) -> None:
    """Raises SecateurError where nobody listens at HOST:PORT; Ray would wait for them for a long time."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host:
        return
    try:
        socket.create_connection((host, int(port)), CONNECTING).close()
    except (OSError, ValueError, OverflowError) as error:
        raise SecateurError(f"workers.address: nobody answers at '{address}': {said(error)}") from error


def _check_count(crew: Crew, there: int, what: str) -> None:
    if crew.count is not None and crew.count > there:
        raise SecateurError(f"workers.count: {crew.count}, but the cluster has {there} {what}; ask for no more")

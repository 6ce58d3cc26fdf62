"""Where workers run: processes of this machine, a Dask cluster, a Ray cluster; joblib gives them work alike.

Each says how joblib is told of it, how it tells that a worker is gone, and how one that hangs is got rid of.
"""

import contextlib
import importlib
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import joblib

from ...space.errors import SecateurError, said
from .hand import begin, forget

BackendName = Literal["processes", "dask", "ray"]
CONNECTING, COMING = 10, 60
"""Seconds in which a cluster has to answer, and in which a worker that was started again has to be there."""
FEWEST = 2
"""Workers of a cluster."""
FOREVER = 10**6
"""Seconds that a process without work stays."""
TELLING = "secateur-dask"
"""What joblib calls `_telling`."""
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
    gpus: int | None = None
    threads: int | None = None
    timeout: float | None = None


@dataclass(frozen=True)
class Connection:
    """A crew that can be given work.

    Attributes:
        count: of workers that are there.
        configured: what `joblib.parallel_config` is given.
        lost: what joblib raises when a worker is gone.
        freed: gets rid of workers that hang, or have to open their place anew.
        waited: waits until workers are there again; raises TimeoutError where too few come.
        streams: answers come one by one; otherwise calls are sent out a worker each, and come back together.
    """

    count: int
    configured: Mapping[str, Any]
    lost: tuple[type[BaseException], ...]
    freed: Callable[[], None] = field(default=lambda: None)
    waited: Callable[[], None] = field(default=lambda: None)
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
        "initializer": begin,
        "initargs": (os.getpid(),),
    }
    try:
        yield Connection(crew.count, configured, (TerminatedWorkerError,))
    finally:
        get_reusable_executor(reuse=True).shutdown(wait=True, kill_workers=True)


@contextmanager
def _dask(crew: Crew) -> Iterator[Connection]:
    distributed = _package("dask")
    try:
        client = distributed.Client(crew.address, timeout=CONNECTING, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise SecateurError(f"workers.address: nobody answers at '{crew.address}': {said(error)}") from error
    try:
        names = sorted(client.run(_name).values(), key=str)
        _check_count(crew, len(names), "workers")
        count = crew.count or len(names)

        def freed() -> None:
            busy = [worker for worker, keys in client.processing().items() if keys]
            with contextlib.suppress(TimeoutError, OSError):  # then they are waited for
                client.restart_workers(busy, timeout=COMING, raise_for_error=False)

        def waited() -> None:
            try:
                client.wait_for_workers(count, timeout=COMING)
            except TimeoutError:  # some may be gone for good; with one alone joblib would work in this process
                if len(client.ncores()) < FEWEST:
                    raise

        # By name, which a worker that is started again keeps.
        some = {"workers": names[:count]} if count < len(names) else {}
        joblib.register_parallel_backend(TELLING, _telling())
        configured = {"backend": TELLING, "client": client, **some}
        lost = (distributed.scheduler.KilledWorker, distributed.comm.CommClosedError, CancelledError)
        yield Connection(count, configured, lost, freed, waited)
    finally:
        with contextlib.suppress(Exception):  # who is gone by now keeps nothing
            client.run(forget)
        client.close()


def _name(dask_worker: Any) -> Any:
    """Of a Dask worker, asked there."""
    return dask_worker.name


def _telling() -> Any:
    """joblib's backend for Dask, which keeps it to itself that a worker was killed: this one tells whoever waits."""
    from joblib._dask import DaskDistributedBackend

    class Telling(DaskDistributedBackend):  # type: ignore[misc]
        def submit(self, func: Any, callback: Any = None) -> Any:
            future = super().submit(func, callback)

            def told(done: Any) -> None:
                if not done.cancelled() and done.exception() is not None and callback is not None:
                    callback(done.exception())

            future.add_done_callback(told)
            return future

    return Telling


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
        count = int(there.get("CPU", 0) / (crew.threads or 1))
        if crew.gpus:
            count = min(count, int(there.get("GPU", 0) / crew.gpus))
        _check_count(crew, count, f"times {crew.gpus} GPUs" if crew.gpus else f"times {crew.threads or 1} CPUs")
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
    """Raises SecateurError for more workers than there are, and for one, to which joblib would prefer this process."""
    if crew.count is not None and crew.count > there:
        raise SecateurError(f"workers.count: {crew.count}, but the cluster has {there} {what}; ask for no more")
    if (crew.count or there) < FEWEST:
        raise SecateurError(
            f"workers.count: {crew.count or there}, but a cluster's workers are two or more (it has {there} {what}); "
            "leave 'workers' out and run where that one would"
        )

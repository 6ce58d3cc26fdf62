"""The program as processes of their own that start with the imports done: real signals and statuses, in little time."""

import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

FORKS = multiprocessing.get_context("forkserver")
Result = TypeVar("Result")
FORKS.set_forkserver_preload(["secateur.api", "secateur.__main__", "secateur.cli.main", "secateur.runs.run", __name__])


def apart(work: Callable[..., Result], *arguments: Any, timeout: float = 300) -> Result:
    """What a function of a module returns in a process of its own, whose state it may change for good."""
    here, there = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=_answer, args=(there, work, arguments))
    process.start()
    there.close()
    assert here.poll(timeout), "it hangs"
    result, problem = here.recv()
    process.join()
    assert not problem, problem
    return cast(Result, result)


def _answer(there: Any, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        there.send((work(*arguments), ""))
    except BaseException:
        there.send((None, traceback.format_exc()))


class Ended(NamedTuple):
    """How a process ended, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


def forked(
    *arguments: object,
    cwd: Path | None = None,
    environment: Mapping[str, str | None] | None = None,
    timeout: float = 300,
    largest: int | None = None,
    before: Callable[[], None] | None = None,
) -> Ended:
    """`secateur ARGUMENTS` to its end; None takes a variable out of the environment.

    `largest`: bytes beyond which no file can grow, as on a disk that is full. `before` is called in the process.
    """
    with tempfile.TemporaryDirectory() as folder:
        process = start(arguments, Path(folder), cwd, environment, largest, before)
        process.join(timeout)
        assert process.exitcode is not None, "it hangs"
        return Ended(process.exitcode, *((Path(folder) / name).read_text("utf8") for name in ("out", "err")))


def start(
    arguments: tuple[object, ...],
    folder: Path,
    cwd: Path | None = None,
    environment: Mapping[str, str | None] | None = None,
    largest: int | None = None,
    before: Callable[[], None] | None = None,
) -> Any:
    """The process, begun; it writes to the files `out` and `err` of `folder`."""
    values = {**os.environ, **(environment or {})}
    words = [str(one) for one in arguments]
    process = FORKS.Process(target=_carry_out, args=(words, folder, cwd, values, largest, before))
    process.start()
    return process


def _carry_out(
    arguments: list[str],
    folder: Path,
    cwd: Path | None,
    environment: dict[str, str | None],
    largest: int | None,
    before: Callable[[], None] | None,
) -> None:
    for number, name in ((1, "out"), (2, "err")):
        handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT)
        os.dup2(handle, number)
        os.close(handle)
    os.environ.clear()
    os.environ.update({name: value for name, value in environment.items() if value is not None})
    if cwd is not None:
        os.chdir(cwd)
    if largest is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    # A shell has its jobs in the background ignore it, and the program leaves that so.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["secateur", *arguments]
    if before is not None:
        before()
    from secateur.__main__ import main

    main()

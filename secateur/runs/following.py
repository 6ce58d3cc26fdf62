"""A run that is looked at while it is carried out."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna.storages import BaseStorage, InMemoryStorage

from ..space.errors import SecateurError
from .problem import space_of
from .record.folder import RunFolder, worked_on
from .report.study import Study

SECONDS = 3.0
"""Between two looks at the journal."""


@contextmanager
def followed(path: Path, say: Callable[[str], None], seconds: float = SECONDS) -> Iterator[BaseStorage]:
    """The run as an Optuna study that grows with its journal, for as long as this is open.

    Waits for the first evaluation where a process is at work on the run. `say`: told of what ends the growing.

    Raises:
        SecateurError: `path` is no run, or nothing has been evaluated and nobody is at it.
    """
    waiting = False
    while (study := _begun(path)) is None:
        if not waiting:
            say(f"{path}: waiting for the first evaluation")
        waiting = True
        time.sleep(seconds)
    over = threading.Event()
    follower = threading.Thread(target=_follow, args=(path, study, seconds, over, say), daemon=True)
    follower.start()
    try:
        yield study.storage
    finally:
        over.set()
        follower.join()


def _begun(path: Path) -> Study | None:
    """The study as it is now; None where there is nothing yet, but somebody is at it."""
    busy = worked_on(path)
    try:
        with RunFolder.open(path, writing=False) as folder:
            folder.check_begun()
            study = Study.of(folder, InMemoryStorage())
            if study.grow(folder, space_of(folder)) or not busy:
                return study
    except SecateurError:
        if not busy:
            raise
    return None


def _follow(path: Path, study: Study, seconds: float, over: threading.Event, say: Callable[[str], None]) -> None:
    """Looks at the journal again whenever it has changed."""
    seen = _stamp(path)
    while not over.wait(seconds):
        if (now := _stamp(path)) == seen:
            continue
        seen = now
        try:
            # The journal of another thread is not this one's.
            with RunFolder.open(path, writing=False) as folder:
                study.grow(folder, space_of(folder))
        except SecateurError as error:
            say(f"no longer followed: {error}")
            return


def _stamp(path: Path) -> list[tuple[int, int]]:
    """What changes with every row that is added."""
    files = (path / f"journal.sqlite{suffix}" for suffix in ("", "-wal"))
    return [(file.stat().st_mtime_ns, file.stat().st_size) for file in files if file.exists()]

"""Files and folders that are written whole or not at all, and what killed writers leave behind.

A writer holds a lock in its temporary folder, which goes with the process however that ends: what nobody holds is
removed by the next one who writes beside it. What is locked are files, since folders cannot be over NFS.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from glob import escape as glob_escape
from pathlib import Path

from .space.errors import SecateurError, StorageError

SUFFIX, LOCK = ".secateur-part", "lock"


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all; raises StorageError when the folder cannot be written."""
    try:
        content = text.encode(errors="surrogateescape")  # names of files may be any bytes
    except UnicodeEncodeError:
        content = text.encode(errors="backslashreplace")
    write_bytes(path, content)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all; raises StorageError when the folder cannot be written."""
    try:
        write_whole(path, lambda temporary: _write(temporary, content))
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error}") from error


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Has a file written in a temporary folder and renames it, so that a half-written one never has the name.

    A folder, since libraries write under temporary names of their own: safetensors renames its file over the one it was
    given, with which a lock on that would be lost.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent, path.name)
    with _held(path) as temporary:
        write(temporary)
        temporary.chmod(0o644)
        # What was written by name, perhaps by a library, is flushed through a handle of its own.
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to write into that becomes `path` when all went well, and vanishes when not.

    Raises:
        SecateurError: `path` exists or cannot be written.
    """
    if os.path.lexists(path):
        raise SecateurError(f"{path} exists; --out names another folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent, path.name)
        with _held(path) as temporary:
            temporary.mkdir()
            yield temporary
            # Temporary folders, and the files of safetensors, are made for their owner alone.
            temporary.chmod(0o755)
            for file in temporary.iterdir():
                if file.is_file():
                    file.chmod(0o644)
            os.replace(temporary, path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error}") from error


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Alone with what `path` names, among all processes that ask: waits for the one that is at work on it.

    Raises:
        StorageError: the file that is locked, which lies beside `path`, cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path.parent / f".{path.name}.lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StorageError(f"cannot write {path.parent}: {error}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def _held(path: Path) -> Iterator[Path]:
    """A name that is free, in a temporary folder beside `path` that is locked until it is removed."""
    while True:
        folder = Path(tempfile.mkdtemp(SUFFIX, f".{path.name}.", path.parent))
        try:
            handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:  # another one swept it before it was locked
            continue
        fcntl.flock(handle, fcntl.LOCK_EX)
        if (folder / LOCK).exists():
            break
        os.close(handle)
    try:
        yield folder / "part"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _sweep(folder: Path, name: str) -> None:
    """Removes temporary folders of `name` that no process holds any more."""
    for left in folder.glob(f".{glob_escape(name)}.*{SUFFIX}"):
        if left.is_symlink():
            continue
        with contextlib.suppress(OSError):  # another process was faster
            handle = os.open(left / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(handle)

"""Files and folders that are written whole or not at all, and what killed writers leave behind.

A writer holds a lock on its temporary file, which goes with the process however that ends: what nobody holds is removed
by the next one who writes beside it.
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

SUFFIX = ".secateur-part"


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all; raises StorageError when the folder cannot be written."""
    write_bytes(path, text.encode(errors="surrogateescape"))


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
    """Has a file written under a temporary name and renames it, so that a half-written one never has the name.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent, path.name)
    handle, temporary = _held(path, folder=False)
    try:
        write(temporary)
        temporary.chmod(0o644)
        # What was written by name, perhaps by a library, is flushed through a handle of its own.
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to write into that becomes `path` when all went well, and vanishes when not.

    Raises:
        SecateurError: `path` exists or cannot be written.
    """
    if os.path.lexists(path):
        raise SecateurError(f"{path} exists; --out names another folder")
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _sweep(path.parent, path.name)
            handle, temporary = _held(path, folder=True)
            stack.callback(shutil.rmtree, temporary, ignore_errors=True)
            stack.callback(os.close, handle)
            yield temporary
            # Temporary folders, and the files of safetensors, are made for their owner alone.
            temporary.chmod(0o755)
            for file in temporary.iterdir():
                if file.is_file():
                    file.chmod(0o644)
            os.replace(temporary, path)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error}") from error


def _held(path: Path, folder: bool) -> tuple[int, Path]:
    """A temporary file or folder beside `path`, locked; made again where another one swept it before it was."""
    while True:
        prefix = f".{path.name}."
        if folder:
            temporary = Path(tempfile.mkdtemp(SUFFIX, prefix, path.parent))
            try:
                handle = os.open(temporary, os.O_RDONLY)
            except FileNotFoundError:
                continue
        else:
            handle, name = tempfile.mkstemp(SUFFIX, prefix, path.parent)
            temporary = Path(name)
        fcntl.flock(handle, fcntl.LOCK_EX)
        if temporary.exists():
            return handle, temporary
        os.close(handle)


def _sweep(folder: Path, name: str) -> None:
    """Removes temporary files and folders of `name` that no process holds any more."""
    for left in folder.glob(f".{glob_escape(name)}.*{SUFFIX}"):
        with contextlib.suppress(OSError):  # another process was faster
            handle = os.open(left, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink()
            finally:
                os.close(handle)

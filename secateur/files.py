"""Other people's files read within bounds; files and folders written whole, and what killed writers left removed.

A writer holds a lock in its temporary folder, which goes with the process however that ends: what nobody holds is
removed by the next one who writes beside it. What is locked are files, since folders cannot be over NFS.
"""

import contextlib
import fcntl
import json
import logging
import os
import re
import shutil
import stat
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from .space.errors import SecateurError, StorageError, border, said

SUFFIX, LOCK = ".secateur-part", "lock"
LARGEST = 2**28
"""Bytes of a file that is read at once, where nobody says otherwise."""
_log = logging.getLogger(__name__)


def is_name(name: str) -> bool:
    """Whether a plan, and the file that it is written to, can be called so."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name) is not None


def read_text(path: Path, where: str, largest: int, encoding: str = "utf8") -> str:
    """The text of somebody's file; raises SecateurError, which begins with `where`, as `read_bytes` does."""
    with border(f"{where}: cannot be read"):
        return read_bytes(path, where, largest).decode(encoding)


def read_bytes(path: Path, where: str, largest: int) -> bytes:
    """The content of somebody's file.

    Raises:
        SecateurError: there is no such file, it is another thing than a file, or larger than `largest` bytes.
    """
    try:
        # Without waiting, as for somebody who writes into a pipe.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise IsADirectoryError(path)
            content = file.read(largest + 1)
    except IsADirectoryError as error:
        what = f"there is no such file, but something else of that name ({path.absolute()})"
        raise SecateurError(f"{where}: cannot be read: {what}") from error
    except FileNotFoundError as error:
        raise SecateurError(f"{where}: cannot be read: there is no such file ({path.absolute()})") from error
    except (OSError, ValueError) as error:
        what = getattr(error, "strerror", None) or said(error)
        raise SecateurError(f"{where}: cannot be read: {what}") from error
    if len(content) > largest:
        raise SecateurError(f"{where}: is larger than {largest:,} bytes")
    return content


def read_json(path: Path, where: str, largest: int = LARGEST) -> Any:
    """Plain values of somebody's JSON file; raises SecateurError as `read_text`, and where it is no JSON."""
    # Files edited on Windows may begin with a mark.
    text = read_text(path, where, largest, "utf-8-sig")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SecateurError(f"{where}: cannot be read: is no JSON: {said(error)}") from error


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
    _sweep(path.parent)
    with _held(path) as temporary:
        write(temporary)
        temporary.chmod(0o666 & ~_masked())
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
        _sweep(path.parent)
        with _held(path) as temporary:
            temporary.mkdir()
            yield temporary
            # Temporary folders, and the files of some libraries, are made for their owner alone.
            temporary.chmod(0o777 & ~_masked())
            for file in temporary.iterdir():
                if file.is_file():
                    file.chmod(0o666 & ~_masked())
            os.replace(temporary, path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error}") from error


def _masked() -> int:
    """The permissions that the user wants nothing to have; can only be asked by setting them."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Alone with what `path` names, among all processes that ask: waits for the one that is at work on it, and says so.

    Raises:
        StorageError: the file that is locked, which lies beside `path`, cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path.parent / f".{path.name}.lock", os.O_RDWR | os.O_CREAT, 0o666)
            stack.callback(os.close, handle)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _log.warning("another process is making %s; waiting for it", path)
                fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            raise StorageError(f"cannot write {path.parent}: {error}") from error
        yield


@contextlib.contextmanager
def _held(path: Path) -> Iterator[Path]:
    """A name that is free, in a temporary folder beside `path` that is locked until it is removed."""
    while True:
        folder = Path(tempfile.mkdtemp(SUFFIX, f".{path.name[:100]}.", path.parent))
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            try:
                handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            except FileNotFoundError:  # another one swept it before it was locked
                continue
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX)
            if (folder / LOCK).exists():
                yield folder / "part"
                return


def _sweep(folder: Path) -> None:
    """Removes temporary folders that no process holds any more."""
    for left in folder.glob(f".*{SUFFIX}"):
        if left.is_symlink():
            continue
        with contextlib.suppress(OSError):  # another process was faster
            handle = os.open(left / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(handle)


# -- YAML, bounded -----------------------------------------------------------------------------------------------------

LARGEST_YAML, NODES, DEPTH = 2**20, 20_000, 50
"""Bytes, values (aliases written out), and lists within lists: a recipe has a few hundred of two or three."""


_SURROGATE = re.compile("[\ud800-\udfff]")


class _Loader(yaml.SafeLoader):
    """YAML without the silent second meaning, a key that stands twice, and told early where it is too much."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._nodes += 1
        if self._nodes > NODES:
            raise yaml.YAMLError(f"more than {NODES:,} values")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        counts = Counter(key.value for key, _ in node.value if isinstance(key.value, str))
        twice = next((key for key, count in counts.items() if count > 1), None)
        if twice is not None:
            raise yaml.YAMLError(f"'{twice[:80]}' stands there twice, line {node.start_mark.line + 1}; keep one")
        return super().construct_mapping(node, deep)


def parsed(text: str, where: str) -> Any:
    """Plain values; raises SecateurError where the text is no YAML, or too much of it."""
    if len(text) > LARGEST_YAML:
        raise SecateurError(f"{where}: is longer than {LARGEST_YAML:,} characters")
    if max(_depths(text), default=0) > DEPTH:
        raise SecateurError(f"{where}: not YAML: lists within lists, {DEPTH} deep")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, {}, where)
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, OverflowError, RecursionError) as error:
        raise SecateurError(f"{where}: not YAML: {said(error)}") from error


def _depths(text: str) -> list[int]:
    """How many brackets are open at each that opens: deep ones are told before a parser follows them down."""
    depth, found = 0, []
    for character in text:
        if character in "[{":
            depth += 1
            found.append(depth)
        elif character in "]}":
            depth -= 1
    return found


def _count(node: yaml.Node, known: dict[int, int], where: str) -> int:
    """Values below a node with aliases written out; raises SecateurError where they are too many, or without end."""
    if id(node) in known:
        if not known[id(node)]:
            raise SecateurError(f"{where}: not YAML: a value that holds itself, line {node.start_mark.line + 1}")
        return known[id(node)]
    known[id(node)] = 0
    total = 1
    if isinstance(node, yaml.ScalarNode) and _SURROGATE.search(str(node.value)):
        raise SecateurError(
            f"{where}: not YAML: half of a character (a lone surrogate), line {node.start_mark.line + 1}"
        )
    if isinstance(node, yaml.MappingNode):
        total += sum(_count(part, known, where) for pair in node.value for part in pair)
    elif isinstance(node, yaml.SequenceNode):
        total += sum(_count(part, known, where) for part in node.value)
    if total > NODES:
        raise SecateurError(f"{where}: holds more than {NODES:,} values")
    known[id(node)] = total
    return total

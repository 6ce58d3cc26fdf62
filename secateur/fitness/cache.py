"""Where prepared things are kept between runs, and how it is seen that they are what was written.

Every file carries the digest of its content, which is compared once in a process, before the first use. What is damaged
is told in a line, and made again by whoever needs it, as what is missing is.
"""

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..files import write_whole
from ..space.errors import SecateurError, StorageError

DIGEST, SEALS = "digest", "digests.json"
"""The entry of a file with the digest of its content, and the file of a folder with those of all others."""
_log = logging.getLogger(__name__)
_verified: set[tuple[str, int, int]] = set()
"""Files that were compared in this process: path, time and size."""


class _OlderError(SecateurError):
    """A file of before digests; it is made again, and nothing was wrong with it."""


def cache_folder() -> Path:
    """`SECATEUR_CACHE`, or `secateur` in the user's cache folder; variables that are empty count as not set."""
    named = os.environ.get("SECATEUR_CACHE")
    if named:
        return Path(named).absolute()
    above = os.environ.get("XDG_CACHE_HOME")
    if above and Path(above).is_absolute():  # others are to be ignored, says the XDG specification
        return Path(above) / "secateur"
    home = os.environ.get("HOME") or os.path.expanduser(f"~{os.getuid()}")
    try:
        return (Path(home) if Path(home).is_absolute() else Path.home()) / ".cache" / "secateur"
    except RuntimeError as error:
        raise SecateurError(f"no folder for the cache: {error}; set SECATEUR_CACHE") from error


def digest(*parts: object) -> str:
    """SHA-256 over the JSON of `parts`, shortened to 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Writes a safetensors file; raises StorageError when the folder cannot be written, or the disk is full."""
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    _write(path, lambda file: save_file(whole, file, {DIGEST: _content_digest(whole)}))


def write_json(path: Path, values: Any) -> None:
    """Writes plain values; raises StorageError when the folder cannot be written, or the disk is full."""
    text = json.dumps(values)
    content = json.dumps({DIGEST: digest(json.loads(text)), "values": values})
    _write(path, lambda file: file.write_text(content, encoding="utf8"))


def _write(path: Path, write: Any) -> None:
    try:
        write_whole(path, write)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"cannot write {path}: {error}; free some space or set SECATEUR_CACHE") from error


def usable(path: Path) -> bool:
    """Whether a file is there and is what was written; says so where it is damaged, and is to be made again."""
    if not path.is_file():
        return False
    try:
        if path.suffix == ".json":
            read_json(path)
        else:
            read_tensors(path)
    except _OlderError:
        return False
    except SecateurError as error:
        _log.warning("%s; it is made again", error)
        return False
    return True


def read_json(path: Path) -> Any:
    """Reads plain values.

    Raises:
        SecateurError: it is missing or damaged.
    """
    try:
        kept = json.loads(path.read_text(encoding="utf8"))
        if not isinstance(kept, dict) or DIGEST not in kept:
            raise _OlderError(f"{path}: an older version wrote it")
        if digest(kept["values"]) != kept[DIGEST]:
            raise ValueError("its content has changed")
        return kept["values"]
    except (OSError, ValueError, LookupError, RecursionError) as error:
        raise _damaged(path, error) from error


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Opens a safetensors file memory-mapped.

    Raises:
        StorageError: it is missing or damaged.
    """
    try:
        status = path.stat()
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            kept = (file.metadata() or {}).get(DIGEST)
        seen = (str(path.absolute()), status.st_mtime_ns, status.st_size)
        if seen not in _verified:
            if kept is None:
                raise _OlderError(f"{path}: an older version wrote it")
            if _content_digest(tensors) != kept:
                raise ValueError("its content has changed")
            _verified.add(seen)
        return tensors
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: BaseException) -> StorageError:
    return StorageError(f"{path} is missing, truncated or damaged ({' '.join(str(error).split())[:200]})")


def _content_digest(tensors: Mapping[str, torch.Tensor]) -> str:
    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        total.update(json.dumps([name, list(tensor.shape), str(tensor.dtype)]).encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def seal(folder: Path) -> None:
    """Notes the digests of a folder's files in it."""
    (folder / SEALS).write_text(json.dumps(_file_digests(folder)), encoding="utf8")


def sealed(folder: Path) -> bool:
    """Whether a folder's files are those that were sealed, compared once in a process."""
    seen = (str(folder), folder.stat().st_mtime_ns, 0)
    if seen in _verified:
        return True
    try:
        same = bool(json.loads((folder / SEALS).read_text(encoding="utf8")) == _file_digests(folder))
    except (OSError, ValueError):
        same = False
    if same:
        _verified.add(seen)
    elif (folder / SEALS).exists():
        _log.warning("%s is damaged; it is made again", folder)
    return same


def _file_digests(folder: Path) -> dict[str, str]:
    return {path.name: file_digest(path) for path in sorted(folder.iterdir()) if path.is_file() and path.name != SEALS}


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, shortened to 16 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]

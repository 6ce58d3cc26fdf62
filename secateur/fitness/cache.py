"""Where prepared things are kept between runs, and how a file gets there whole or not at all."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..space.errors import SecateurError, StorageError


def cache_folder() -> Path:
    """`SECATEUR_CACHE`, or `secateur` in the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "secateur"
    return Path(os.environ.get("SECATEUR_CACHE", default))


def digest(*parts: object) -> str:
    """SHA-256 over the JSON of `parts`, shortened to 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Writes a safetensors file; raises SecateurError when the folder cannot be written, or the disk is full."""
    _whole(path, lambda file: save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file))


def write_json(path: Path, values: Any) -> None:
    """Writes plain values; raises SecateurError when the folder cannot be written, or the disk is full."""
    _whole(path, lambda file: Path(file).write_text(json.dumps(values), encoding="utf8"))


def read_json(path: Path) -> Any:
    """Reads plain values; raises SecateurError when the file is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SecateurError(f"{path} is missing or damaged ({error}); delete it and run again") from error


def _whole(path: Path, write: Callable[[str], object]) -> None:
    """Writes under a temporary name and renames, so that a half-written file never has the name."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        try:
            write(temporary)
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"cannot write {path}: {error}; free some space or set SECATEUR_CACHE") from error


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Opens a safetensors file memory-mapped.

    Raises:
        SecateurError: the file is missing, truncated or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError) as error:
        raise SecateurError(f"{path} is missing, truncated or damaged ({error}); delete it and run again") from error

"""What is asked of every weight of a model, in one reading: is it a number, its name by content, how many are zero."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from ...space.anatomy import Anatomy
from ...space.errors import SecateurError
from ..cache import cache_folder, digest, read_json, usable, write_json
from .checkpoint import local_folder, weights_folder
from .files import weight_files
from .gguf_model import meaning

Source = Mapping[str, torch.Tensor]
NOWHERE: Source = MappingProxyType({})
AT_ONCE = 2**22
"""Weights that are looked at together: what is asked takes several times their room."""


@dataclass(frozen=True, slots=True)
class Examined:
    """A model's `digest`, and how many weights of the linears in its blocks are `zeros`."""

    digest: str
    zeros: int


def parameters_of(model: torch.nn.Module, source: Source = NOWHERE) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and values of all parameters, by name; what the model does not hold comes from `source`, one at a time."""
    for name, parameter in sorted(model.named_parameters()):
        yield name, source[name] if parameter.is_meta else parameter.detach()


def examine(model: torch.nn.Module, anatomy: Anatomy, path: str, source: Source = NOWHERE) -> Examined:
    """Reads a model once; what was found is remembered by path, size and time of its files.

    Raises:
        SecateurError: a weight is no finite number.
    """
    kept = _remembered(model, path)
    if kept is not None and usable(kept):
        return Examined(**read_json(kept))
    linears = {
        f"{anatomy.block_prefix(block.index)}{linear.name}.weight"
        for block in anatomy.blocks
        for linear in block.linears
    }
    total, zeros = _Digest(model), 0
    for name, values in parameters_of(model, source):
        total.add(name, values)
        for part in torch.split(values.reshape(-1), AT_ONCE):
            if not bool(part.isfinite().all()):
                raise SecateurError(
                    f"model '{path}': the dense model's {name} holds NaN or infinity; nothing can be compared with it"
                )
            zeros += int((part == 0).sum()) if name in linears else 0
    found = Examined(total.value, zeros)
    if kept is not None and kept == _remembered(model, path):  # else the files have changed meanwhile
        write_json(kept, asdict(found))
    return found


def _stamp(file: Path) -> tuple[int, ...]:
    """Size and times: copies that keep the time of a change still have one of their own at which they came."""
    status = file.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _remembered(model: torch.nn.Module, path: str) -> Path | None:
    """Where it is remembered what a model's files hold; None where it has none that can be named."""
    folder = weights_folder(local_folder(path))
    files = weight_files(folder, path) if folder is not None else []
    if not files:
        return None
    stamps = [[str(file.resolve()), *_stamp(file)] for file in files]
    config: Any = model.config
    name = digest(stamps, meaning(config), str(next(model.parameters()).dtype), version("transformers"))
    return cache_folder() / "models" / f"{name}.examined.json"


def model_digest(model: torch.nn.Module) -> str:
    """Names the model: SHA-256 over its configuration and every parameter's name, shape, dtype and bytes."""
    total = _Digest(model)
    for name, values in parameters_of(model):
        total.add(name, values)
    return total.value


class _Digest:
    def __init__(self, model: torch.nn.Module) -> None:
        config: Any = model.config
        self._total = hashlib.sha256(json.dumps(meaning(config), sort_keys=True, default=str).encode())

    def add(self, name: str, values: torch.Tensor) -> None:
        self._total.update(json.dumps([name, list(values.shape), str(values.dtype)]).encode())
        self._total.update(values.cpu().contiguous().view(torch.uint8).numpy().data)

    @property
    def value(self) -> str:
        return self._total.hexdigest()[:16]

"""Where a model is and what its configuration says: folders, GGUF files, those in installed packages, hub names.

Reads no weights, and is as quick as transformers lets it be.
"""

import contextlib
import importlib.util
import json
import math
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import safe_open

from ...space.errors import SecateurError, StorageError, border
from ...space.families.table import own_dtype
from ..cache import cache_folder, digest, file_digest, read_json, usable, write_json
from .border import library
from .files import check_folder, check_quantised, stored_dtype, told_by_files, weight_files
from .gguf_model import gguf_config, meaning
from .gguf_source import read_header

CHANCE = 1 / 2000
"""Zeros among the weights of a model that nobody has pruned: what numbers of few bits come to."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a checkpoint is: a folder or hub name, and a GGUF file in it when it is one."""

    folder: str
    gguf: str | None = None

    @property
    def file(self) -> Path:
        """The GGUF file."""
        assert self.gguf is not None
        return Path(self.folder) / self.gguf


def locate(path: str) -> Source:
    """Resolves `package:NAME` (the GGUF inside an installed package), a .gguf file, a folder, or a hub name.

    Raises:
        SecateurError: the package, its GGUF or the path does not exist, or the folder holds no model.
    """
    if path.startswith("package:"):
        name = path.removeprefix("package:").replace("-", "_")
        spec = importlib.util.find_spec(name) if name.isidentifier() else None
        if spec is None or not spec.submodule_search_locations:
            raise SecateurError(f"model '{path}': package {name} is not installed; run 'make setup' or pip install it")
        files = sorted(Path(spec.submodule_search_locations[0]).rglob("*.gguf"))
        if not files:
            raise SecateurError(f"model '{path}': package {name} holds no .gguf file")
        return Source(str(files[0].parent), files[0].name)
    with border(f"model '{path[:200]}'"):
        local = Path(path).expanduser()
        is_file, is_folder = local.is_file(), local.is_dir()
    if local.suffix == ".gguf":
        if not is_file:
            raise SecateurError(f"model '{path}': there is no such file")
        return Source(str(local.parent), local.name)
    if is_folder:
        check_folder(local, path)
        return Source(str(local))
    if path.startswith((".", "/", "~")) or path.count("/") > 1 or local.exists():
        raise SecateurError(f"model '{path}': there is no such folder")
    return Source(path)


def load_config(path: str, trust_remote_code: bool = False) -> dict[str, Any]:
    """The configuration as a dictionary with all defaults filled in; its dtype is that of the files. Reads no weights.

    Raises:
        SecateurError: there is none, it cannot be read, or its weights are quantised or truncated.
    """
    source = locate(path)
    if source.gguf is not None:
        return gguf_config(path, source.file)
    values = _filled_in(source.folder, path, trust_remote_code)
    check_quantised(values, path)
    files = weight_files(Path(source.folder), path) if Path(source.folder).is_dir() else []
    here = [file for file in files if file.is_file()]
    stored = stored_dtype(here, path)
    values |= told_by_files(values, here, path)
    return values if stored in (None, own_dtype(values)) else values | {"dtype": stored}


def _filled_in(folder: str, path: str, trust_remote_code: bool) -> dict[str, Any]:
    """A configuration with transformers' defaults; of a folder here it is kept in the cache: they take seconds."""
    here = Path(folder).is_dir()
    kept: Path | None = None
    if here and not trust_remote_code:
        own = digest(file_digest(Path(folder) / "config.json"), version("transformers"))
        with contextlib.suppress(SecateurError):  # without a cache it takes as long every time
            kept = cache_folder() / "models" / f"{own}.config.json"
        if kept is not None and usable(kept):
            return dict(read_json(kept))
    with library(path, "cannot read its configuration", here):
        from transformers import AutoConfig
        from transformers.utils import cached_file

        if not here:
            file = cached_file(folder, "config.json")
            assert file is not None
            check_folder(Path(file).parent, path)
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        values: dict[str, Any] = json.loads(json.dumps(meaning(config)))
    if kept is not None:
        with contextlib.suppress(StorageError):
            write_json(kept, values)
    return values


def source_bytes(path: str) -> int | None:
    """How large the files are that a model's weights are in; None where they are not here.

    Raises:
        SecateurError: there is no such model, or its index of weights is damaged.
    """
    source = locate(path)
    if source.gguf is not None:
        return source.file.stat().st_size
    if not Path(source.folder).is_dir():
        return None
    files = weight_files(Path(source.folder), path)
    return sum(file.stat().st_size for file in files) if files and all(file.is_file() for file in files) else None


def quantised_types(path: str) -> dict[str, int]:
    """Of a GGUF file that is quantised, how many weights are in which type of fewer bits; else nothing.

    Raises:
        SecateurError: there is no such file, or it is damaged.
    """
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType  # here, since few ask

    source = locate(path)
    if source.gguf is None:
        return {}
    found, known = dict[str, int](), set(GGMLQuantizationType)
    for shape, number in read_header(source.file).tensors.values():
        kind = GGMLQuantizationType(number) if number in known else None
        if kind is not None and GGML_QUANT_SIZES[kind][0] > 1:
            found[kind.name] = found.get(kind.name, 0) + math.prod(shape)
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def has_zeros(path: str) -> bool:
    """Whether a checkpoint here was pruned before: more of its matrices is zero than `CHANCE`. Reads all of it.

    Raises:
        SecateurError: a file is damaged.
    """
    source, zeros, places = locate(path), 0, 0
    if source.gguf is not None or not Path(source.folder).is_dir():
        return False
    for file in weight_files(Path(source.folder), path):
        with border(f"model '{path}': {file.name} cannot be read"), safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a dict
                tensor = tensors.get_tensor(name)
                if tensor.dim() > 1:
                    zeros, places = zeros + int((tensor == 0).sum()), places + tensor.numel()
    return zeros > CHANCE * places

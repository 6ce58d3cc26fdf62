"""Finding and loading models: local folders, GGUF files, GGUF files inside installed packages, hub names."""

import hashlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer
from transformers.utils import cached_file

from ..space.anatomy import Anatomy
from ..space.errors import SecateurError, border
from ..space.families import ENCODERS, anatomy, own_dtype
from .border import library
from .gguf_model import converted, gguf_config, meaning
from .model_files import (
    INDEX,
    WEIGHTS,
    check_folder,
    check_loaded,
    check_quantised,
    check_weights,
    stored_dtype,
    weight_files,
)

CHANCE = 1 / 2000
"""Zeros among the weights of a model that nobody has pruned: what numbers of few bits come to."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


UNUSED = {"bert": ("bert.pooler.", "cls.seq_relationship."), "roberta": ("roberta.pooler.",)}
"""Parts of pretrained encoders that predicting masked tokens has no use for."""


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
    with library(path, "cannot read its configuration", Path(source.folder).is_dir()):
        if not Path(source.folder).is_dir():
            file = cached_file(source.folder, "config.json")
            assert file is not None
            check_folder(Path(file).parent, path)
        config = AutoConfig.from_pretrained(source.folder, trust_remote_code=trust_remote_code)
        values = meaning(config)
    check_quantised(values, path)
    files = weight_files(Path(source.folder), path) if Path(source.folder).is_dir() else []
    stored = stored_dtype([file for file in files if file.is_file()], path)
    return values if stored in (None, own_dtype(values)) else values | {"dtype": stored}


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


def _local_folder(path: str) -> str:
    """The folder, or hub name, to load from; a GGUF is converted once into the cache."""
    source = locate(path)
    return source.folder if source.gguf is None else str(converted(path, source.file))


def load_model(
    path: str, dtype: str = "float32", device: str = "cpu", trust_remote_code: bool = False
) -> torch.nn.Module:
    """Loads a language model in evaluation mode, safetensors or GGUF only; an encoder with its masked-token head.

    Raises:
        SecateurError: it cannot be loaded, or not all of it: parameters that are missing in its files, have no place in
            the model, or another shape.
    """
    folder = _local_folder(path)
    here = Path(folder).is_dir()
    with library(path, "cannot be loaded", here):
        local = _weights_folder(folder)
    if local is not None:
        check_weights(local, path, here)
    with library(path, "cannot be loaded", here):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        auto = AutoModelForMaskedLM if config.model_type in ENCODERS else AutoModelForCausalLM
        tied = bool(getattr(config, "tie_word_embeddings", False))
        model, info = auto.from_pretrained(
            folder,
            dtype=DTYPES[dtype],
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    check_loaded(info, path, UNUSED.get(config.model_type, ()))
    head = model.get_output_embeddings()
    if tied and head is not None and head.weight is not model.get_input_embeddings().weight:
        raise SecateurError(
            f"model '{path}': config.json says tie_word_embeddings: true, but its files hold a head of their own that "
            "is not the embedding; set tie_word_embeddings to false in config.json, or take the head out of the file"
        )
    with library(path, f"cannot be moved to {device}"):
        loaded: torch.nn.Module = model.to(device).eval().requires_grad_(False)
    return loaded


def _weights_folder(folder: str) -> Path | None:
    """Where the weights are: the folder, or that of the hub's snapshot; None where it has neither file nor index."""
    if Path(folder).is_dir():
        return Path(folder)
    for name in (WEIGHTS, INDEX):
        file = cached_file(folder, name, _raise_exceptions_for_missing_entries=False)
        if file is not None:
            return Path(file).parent
    return None


def check_finite(model: torch.nn.Module, path: str) -> None:
    """Raises SecateurError where a weight is no finite number."""
    for name, parameter in model.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise SecateurError(
                f"model '{path}': the dense model's {name} holds NaN or infinity; nothing can be compared with it"
            )


def load_tokenizer(path: str, trust_remote_code: bool = False) -> Any:
    """The tokenizer that belongs to a model; raises SecateurError when there is none."""
    folder = _local_folder(path)
    with library(path, "its tokenizer cannot be loaded", Path(folder).is_dir()):
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)


def anatomy_of(model: torch.nn.Module, dtype: str = "float32") -> Anatomy:
    """The anatomy from the model's configuration, compared name by name with its parameters.

    Raises:
        SecateurError: the module tree is not what the family's anatomy says.
    """
    config: Any = model.config
    expected = anatomy(config.to_dict(), dtype)
    shapes = expected.parameter_shapes()
    actual = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    for name in sorted(shapes.keys() | actual.keys()):
        if shapes.get(name) != actual.get(name):
            raise SecateurError(
                f"family {expected.family}: parameter {name} is {actual.get(name, 'missing')} in the model, "
                f"{shapes.get(name, 'unknown')} in the anatomy; secateur/space/families.py does not describe this model"
            )
    return expected


def model_digest(model: torch.nn.Module) -> str:
    """Names the model: SHA-256 over its configuration and every parameter's name, shape, dtype and bytes."""
    config: Any = model.config
    total = hashlib.sha256(json.dumps(meaning(config), sort_keys=True, default=str).encode())
    for name, parameter in sorted(model.named_parameters()):
        total.update(json.dumps([name, list(parameter.shape), str(parameter.dtype)]).encode())
        total.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return total.hexdigest()[:16]

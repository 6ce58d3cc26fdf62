"""Finding and loading models: local folders, GGUF files, GGUF files inside installed packages, hub names."""

import contextlib
import hashlib
import importlib.util
import io
import json
import os
import shutil
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer, GgufConfig
from transformers.utils import logging as transformers_logging

from ..space.anatomy import Anatomy
from ..space.errors import SecateurError
from ..space.families import ENCODERS, anatomy
from .cache import cache_folder

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class Source:
    """Where a checkpoint is: a folder or hub name, and a GGUF file in it when it is one."""

    folder: str
    gguf: str | None = None


def locate(path: str) -> Source:
    """Resolves `package:NAME` (the GGUF inside an installed package), a .gguf file, a folder, or a hub name.

    Raises:
        SecateurError: the package, its GGUF or the path does not exist.
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
    local = Path(path).expanduser()
    if local.suffix == ".gguf":
        if not local.is_file():
            raise SecateurError(f"model '{path}': there is no such file")
        return Source(str(local.parent), local.name)
    if local.is_dir():
        if not (local / "config.json").is_file():
            raise SecateurError(f"model '{path}': the folder has no config.json")
        return Source(str(local))
    if path.startswith((".", "/", "~")) or path.count("/") > 1:
        raise SecateurError(f"model '{path}': there is no such folder")
    return Source(path)


def _quiet() -> None:
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()


def load_config(path: str, trust_remote_code: bool = False) -> dict[str, Any]:
    """The configuration as a dictionary with all defaults filled in; reads no weights.

    Raises:
        SecateurError: there is none, or it cannot be read.
    """
    source = locate(path)
    _quiet()
    extra = {"gguf_file": source.gguf} if source.gguf else {}
    try:
        config = AutoConfig.from_pretrained(source.folder, trust_remote_code=trust_remote_code, **extra)
    except (OSError, ValueError, KeyError) as error:
        raise SecateurError(f"model '{path}': cannot read its configuration: {error}") from error
    return _meaning(config)


def _meaning(config: Any) -> dict[str, Any]:
    """What of a configuration says how the model computes: not where it came from or which version wrote it."""
    values: dict[str, Any] = config.to_dict()
    return {name: value for name, value in values.items() if name not in ("_name_or_path", "transformers_version")}


def _local_folder(path: str) -> str:
    """The folder to load from; a GGUF is converted once into the cache (dequantised to float32)."""
    source = locate(path)
    if source.gguf is None:
        return source.folder
    folder = cache_folder() / "models" / file_digest(Path(source.folder) / source.gguf)
    if folder.is_dir():
        return str(folder)
    # The GGUF reader draws its own progress bar on standard error, whatever transformers is told.
    with contextlib.redirect_stderr(io.StringIO()):
        model = AutoModelForCausalLM.from_pretrained(
            source.folder,
            gguf_file=source.gguf,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
        )
    tokenizer = AutoTokenizer.from_pretrained(source.folder, gguf_file=source.gguf)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.mkdtemp(dir=folder.parent)
        try:
            model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
            if not folder.is_dir():
                os.replace(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise SecateurError(f"cannot write {folder}: {error}; set SECATEUR_CACHE to a writable folder") from error
    return str(folder)


def load_model(
    path: str, dtype: str = "float32", device: str = "cpu", trust_remote_code: bool = False
) -> torch.nn.Module:
    """Loads a language model in evaluation mode, safetensors or GGUF only; an encoder with its masked-token head.

    Raises:
        SecateurError: it cannot be loaded.
    """
    _quiet()
    folder = _local_folder(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
            auto = AutoModelForMaskedLM if config.model_type in ENCODERS else AutoModelForCausalLM
            model = auto.from_pretrained(
                folder, dtype=DTYPES[dtype], use_safetensors=True, trust_remote_code=trust_remote_code
            )
    except (OSError, ValueError) as error:
        raise SecateurError(f"model '{path}': cannot be loaded: {error}") from error
    loaded: torch.nn.Module = model.to(device).eval().requires_grad_(False)
    return loaded


def load_tokenizer(path: str, trust_remote_code: bool = False) -> Any:
    """The tokenizer that belongs to a model; raises SecateurError when there is none."""
    _quiet()
    try:
        return AutoTokenizer.from_pretrained(_local_folder(path), trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise SecateurError(f"model '{path}': its tokenizer cannot be loaded: {error}") from error


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


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def model_digest(model: torch.nn.Module) -> str:
    """Names the model: SHA-256 over its configuration and every parameter's name, shape, dtype and bytes."""
    config: Any = model.config
    total = hashlib.sha256(json.dumps(_meaning(config), sort_keys=True, default=str).encode())
    for name, parameter in sorted(model.named_parameters()):
        total.update(json.dumps([name, list(parameter.shape), str(parameter.dtype)]).encode())
        total.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return total.hexdigest()[:16]

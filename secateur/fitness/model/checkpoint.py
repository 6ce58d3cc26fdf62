"""Loading models and tokenizers, from wherever `configuration` finds them."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer
from transformers.utils import cached_file

from ...space.anatomy import Anatomy
from ...space.errors import SecateurError
from ...space.families.table import FAMILIES, anatomy
from .border import library
from .configuration import locate
from .device import CPU
from .dtypes import DTYPES
from .files import (
    INDEX,
    WEIGHTS,
    check_loaded,
    check_weights,
)
from .gguf_model import converted, meaning


def _local_folder(path: str) -> str:
    """The folder, or hub name, to load from; a GGUF is converted once into the cache."""
    source = locate(path)
    return source.folder if source.gguf is None else str(converted(path, source.file))


def load_model(
    path: str, dtype: str = "float32", device: torch.device = CPU, trust_remote_code: bool = False
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
        family = FAMILIES.get(config.model_type)
        auto = AutoModelForMaskedLM if family is not None and family.encoder else AutoModelForCausalLM
        tied = bool(getattr(config, "tie_word_embeddings", False))
        model, info = auto.from_pretrained(
            folder,
            dtype=DTYPES[dtype],
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    check_loaded(info, path, family.unused if family is not None else ())
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
                f"{shapes.get(name, 'unknown')} in the anatomy; secateur/space/families does not describe this model"
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

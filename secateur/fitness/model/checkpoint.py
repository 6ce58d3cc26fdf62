"""Loading models and tokenizers, from wherever `configuration` finds them."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer
from transformers.utils import cached_file

from ...space.anatomy import Anatomy
from ...space.errors import SecateurError
from ...space.families.table import FAMILIES, POOLER, anatomy, is_headless
from .border import library
from .configuration import locate
from .device import CPU
from .dtypes import DTYPES
from .files import (
    INDEX,
    WEIGHTS,
    check_loaded,
    check_weights,
    told_by_files,
    weight_files,
)
from .gguf_model import converted


def local_folder(path: str) -> str:
    """The folder, or hub name, to load from; a GGUF is converted once into the cache."""
    source = locate(path)
    return source.folder if source.gguf is None else str(converted(path, source.file))


def load_model(
    path: str, dtype: str = "float32", device: torch.device = CPU, trust_remote_code: bool = False
) -> torch.nn.Module:
    """Loads a language model in evaluation mode, safetensors or GGUF only; an encoder with its masked-token head, and
    what has no head without one.

    Raises:
        SecateurError: it cannot be loaded, or not all of it: parameters that are missing in its files, have no place in
            the model, or another shape.
    """
    model = _load(path, dtype, trust_remote_code, None)
    with library(path, f"cannot be moved to {device}"):
        loaded: torch.nn.Module = model.to(device).eval().requires_grad_(False)
    return loaded


def open_model(
    path: str, dtype: str = "float32", device: torch.device = CPU, trust_remote_code: bool = False
) -> tuple[torch.nn.Module, Mapping[str, torch.Tensor]]:
    """Like `load_model`, but of its blocks nothing is read: their parameters are on the meta device.

    Returns:
        The model, and the parameters of its blocks by name, in its dtype on the host, read at each lookup.
    """
    from accelerate.hooks import remove_hook_from_module

    log = logging.getLogger("accelerate.big_modeling")  # which says that parameters are on the meta device
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        model = _load(path, dtype, trust_remote_code, partial(_blocks_on_disk, dtype=dtype))
    finally:
        log.setLevel(level)
    # What transformers has found out of where each parameter is, without the hooks that bring one at a time.
    hooks = [module._hf_hook for module in model.modules() if getattr(module, "_hf_hook", None) is not None]
    source = next(hook.weights_map.dataset for hook in hooks if getattr(hook, "weights_map", None) is not None)
    remove_hook_from_module(model, recurse=True)
    for name in ("hf_device_map", "to", "cuda"):  # what would keep it from being moved or written
        model.__dict__.pop(name, None)
    with library(path, f"cannot be moved to {device}"):
        model._apply(lambda tensor: tensor if tensor.is_meta else tensor.to(device))  # what `to` does, but for these
        model.tie_weights()
    return model.eval().requires_grad_(False), source


def _blocks_on_disk(model: torch.nn.Module, dtype: str) -> dict[str, str]:
    """Where transformers is to put each part of a model: its blocks stay where they are."""
    config: Any = model.config
    path, places = anatomy(config.to_dict(), dtype).blocks_path, {}

    def place(module: torch.nn.Module, prefix: str) -> None:
        for name, _ in module.named_parameters(recurse=False):
            places[prefix + name] = "cpu"
        for name, child in module.named_children():
            if prefix + name == path:
                places.update(dict.fromkeys((f"{path}.{index}" for index, _ in child.named_children()), "disk"))
            elif path.startswith(f"{prefix}{name}."):
                place(child, f"{prefix}{name}.")
            else:
                places[prefix + name] = "cpu"

    place(model, "")
    return places


def _load(path: str, dtype: str, trust_remote_code: bool, places: Callable[[torch.nn.Module], Any] | None) -> Any:
    """A model on the host; `places`: tells transformers' `device_map` from a model without weights."""
    folder = local_folder(path)
    here = Path(folder).is_dir()
    with library(path, "cannot be loaded", here):
        local = weights_folder(folder)
    if local is not None:
        check_weights(local, path, here)
    with library(path, "cannot be loaded", here):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        family = FAMILIES.get(config.model_type)
        auto = AutoModelForMaskedLM if family is not None and family.encoder else AutoModelForCausalLM
        told = told_by_files(config.to_dict(), weight_files(local, path) if local is not None else (), path)
        config.update(told)
        if is_headless(config.to_dict()):
            auto = AutoModel
        tied = bool(getattr(config, "tie_word_embeddings", False))
        device_map = None
        if places is not None:
            with torch.device("meta"):
                device_map = places(auto.from_config(config, trust_remote_code=trust_remote_code))
        model, info = auto.from_pretrained(
            folder,
            dtype=DTYPES[dtype],
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            device_map=device_map,
            **({"add_pooling_layer": False} if POOLER in told else {}),
        )
        model.config.update(told)
    check_loaded(info, path, family.unused if family is not None else ())
    head = model.get_output_embeddings()
    if tied and head is not None and head.weight is not model.get_input_embeddings().weight:
        raise SecateurError(
            f"model '{path}': config.json says tie_word_embeddings: true, but its files hold a head of their own that "
            "is not the embedding; set tie_word_embeddings to false in config.json, or take the head out of the file"
        )
    return model


def weights_folder(folder: str) -> Path | None:
    """Where the weights are: the folder, or that of the hub's snapshot; None where it has neither file nor index."""
    if Path(folder).is_dir():
        return Path(folder)
    for name in (WEIGHTS, INDEX):
        file = cached_file(folder, name, _raise_exceptions_for_missing_entries=False)
        if file is not None:
            return Path(file).parent
    return None


def load_tokenizer(path: str, trust_remote_code: bool = False) -> Any:
    """The tokenizer that belongs to a model; raises SecateurError when there is none."""
    folder = local_folder(path)
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
    # Of what is tied, the name that the anatomy knows it by: some families register their head first.
    every = list(model.named_parameters(remove_duplicate=False))
    named = {id(parameter): name for name, parameter in every if name in shapes}
    actual = {named.get(id(parameter), name): tuple(parameter.shape) for name, parameter in every}
    for name in sorted(shapes.keys() | actual.keys()):
        if shapes.get(name) != actual.get(name):
            raise SecateurError(
                f"family {expected.family}: parameter {name} is {actual.get(name, 'missing')} in the model, "
                f"{shapes.get(name, 'unknown')} in the anatomy; secateur/space/families does not describe this model"
            )
    return expected

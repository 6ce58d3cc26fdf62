"""The smaller checkpoint: a folder that transformers loads.

Where what is left is a stock model (whole blocks gone, the same widths everywhere, zeros from sparsity): the stock
architecture, renumbered. Otherwise the schema that transformers itself has for layers that differ (`per_layer_config`),
under a `model_type` of its own so that no stock class loads it with random blocks in the gaps, with a short modeling
file in the folder; `import secateur` registers the same classes.
"""

import importlib.util
import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import torch
from accelerate import init_empty_weights
from safetensors import SafetensorError
from torch import nn

from ...files import new_folder
from ...fitness.bench import Bench
from ...fitness.model import surgery
from ...fitness.model.dtypes import DTYPES
from ...fitness.subnets.materialise import (
    added_biases,
    built,
    keep_generation,
    smaller_config,
    smaller_weights,
    tables,
)
from ...fitness.subnets.weights import Weights
from ...space.anatomy import Anatomy
from ...space.errors import StorageError
from ...space.layout import kept_blocks, skips, stock_widths, widths
from ...space.state import BlockState
from ..features import Subject
from ..plan import Plan
from .begin import Finish
from .card import card
from .metadata import carry_licence, carry_pooling
from .task import task_of

MODELING = "modeling_secateur"
FILE_BYTES = 2**31
"""What a file of weights holds at most, but for a matrix that is larger."""


def begin(subject: Subject, _options: Mapping[str, str], _trusted: bool) -> Finish:
    """Writes checkpoint, tokenizer, plan and model card; there is nothing to refuse before."""
    plan = subject.plan
    assert plan is not None

    def finish(bench: Bench, out: Path) -> None:
        export_hf(plan, bench.model, bench.tokenizer, bench.anatomy, bench.weights, out)

    return finish


def export_hf(
    plan: Plan,
    model: nn.Module,
    tokenizer: Any,
    anatomy: Anatomy,
    weights: Weights,
    out: Path,
    trained: Mapping[str, torch.Tensor] = MappingProxyType({}),
) -> None:
    """Writes checkpoint, tokenizer, plan and model card to `out`, which must not exist; whole or not at all.

    `trained`: parameters that training has changed; see `smaller_weights`.

    Raises:
        SecateurError: `out` exists or cannot be written, or the plan removes everything.
    """
    states = plan.states(anatomy)
    with new_folder(out) as folder:
        try:
            own_class = save(model, anatomy, states, weights, folder, trained, DTYPES[plan.model.dtype])
        except SafetensorError as error:
            raise StorageError(f"cannot write {out}: {error}") from error
        tokenizer.save_pretrained(folder)
        _forget_code(folder)
        plan.write(folder / "plan.json")
        carry_licence(plan, folder)
        carry_pooling(plan, folder)
        (folder / "README.md").write_text(card(plan, own_class, task_of(anatomy)), encoding="utf8")


def _forget_code(folder: Path) -> None:
    """Takes out what configurations say of code that is not in the folder: the dense model's, and its tokenizer's."""
    for file in folder.glob("*config.json"):
        values = json.loads(file.read_text(encoding="utf8"))
        named = values.get("auto_map")
        if not isinstance(named, dict):
            continue

        def is_here(value: object) -> bool:
            return all(
                "--" not in str(one) and (folder / f"{str(one).partition('.')[0]}.py").is_file()
                for one in (value if isinstance(value, list | tuple) else [value])
                if one
            )

        kept = {name: value for name, value in named.items() if is_here(value)}
        if kept != named:
            values = {name: value for name, value in values.items() if name != "auto_map"}
            values |= {"auto_map": kept} if kept else {}
            file.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf8")


def save(
    model: nn.Module,
    anatomy: Anatomy,
    states: Sequence[BlockState],
    weights: Weights,
    folder: Path,
    trained: Mapping[str, torch.Tensor] = MappingProxyType({}),
    dtype: torch.dtype | None = None,
) -> str | None:
    """Writes configuration and weights, in `dtype` or that of the model; returns the model type if it is our own."""
    stock, shelf = stock_widths(anatomy, states), weights.blocks.shelf
    # What is written is held twice, by safetensors once more.
    file_bytes = FILE_BYTES if shelf is None else min(FILE_BYTES, shelf.room // 4)
    values = smaller_weights(model, anatomy, states, weights, trained)
    biases = added_biases(anatomy, values)
    if stock is None or biases or f"{anatomy.norm}.1.weight" in values:
        return _save_own_class(model, anatomy, states, values, biases, folder, dtype, file_bytes)
    smaller: Any = built(model, anatomy, states, values)
    for name, value in stock.items():
        setattr(smaller.config, name, value)
    _write(smaller, model, values, folder, dtype, file_bytes)
    return None


def _write(
    smaller: Any,
    dense: nn.Module,
    values: Mapping[str, torch.Tensor],
    folder: Path,
    dtype: torch.dtype | None,
    file_bytes: int,
) -> None:
    """Writes configuration and weights. In transformers' own way for models that are not in memory: what it asks its
    hook for is there for one file at a time, on the host and in the dtype."""
    smaller.tie_weights()
    keep_generation(smaller, dense)
    first = next(dense.parameters())
    for parameter in smaller.parameters():
        parameter.data = parameter.data.to(dtype or first.dtype)
    smaller._hf_hook = SimpleNamespace(weights_map=_Converted(values, dtype or first.dtype))
    smaller.hf_device_map = {"": "disk"}
    largest = max(parameter.nbytes for parameter in smaller.parameters())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a file has to fit in memory
        smaller.save_pretrained(folder, max_shard_size=max(largest, file_bytes))


class _Converted:
    """Weights by name, on the host in a dtype, each when it is asked for."""

    def __init__(self, values: Mapping[str, torch.Tensor], dtype: torch.dtype) -> None:
        self._values, self._dtype = values, dtype

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._values[name].to("cpu", self._dtype)


def _save_own_class(
    model: nn.Module,
    anatomy: Anatomy,
    states: Sequence[BlockState],
    weights: Mapping[str, torch.Tensor],
    biases: Mapping[int, list[str]],
    folder: Path,
    dtype: torch.dtype | None,
    file_bytes: int,
) -> str:
    dense: Any = model
    source = modeling_source(anatomy, type(dense.config).__name__, type(dense).__name__)
    (folder / f"{MODELING}.py").write_text(source, encoding="utf8")
    classes = _imported(folder / f"{MODELING}.py")
    values = smaller_config(dense.config, anatomy, states).to_dict()
    for name in ("model_type", "architectures", "transformers_version"):
        values.pop(name, None)
    digits = len(str(len(kept_blocks(states)) - 1))
    per_layer: dict[str, dict[str, Any]] = {}
    for index, entry in widths(anatomy, states).items():
        per_layer.setdefault(f"{index:0{digits}d}", {}).update(entry)
    for index, names in skips(anatomy.blocks, states).items():
        per_layer.setdefault(f"{index:0{digits}d}", {})["skip"] = names
    if per_layer:
        values |= {"per_layer_config": per_layer, "allow_global_per_layer_attribute_access": True}
    if biases:
        values["secateur_biases"] = {str(index): list(names) for index, names in biases.items()}
    if f"{anatomy.norm}.1.weight" in weights:
        values["secateur_projection"] = True
    config = classes.Config(**values)
    with init_empty_weights(include_buffers=False):
        smaller = classes.Model(config)
    _write(smaller, model, weights, folder, dtype, file_bytes)
    file = folder / "config.json"
    written = json.loads(file.read_text())
    auto = task_of(anatomy).auto
    written["architectures"] = [classes.Model.__name__]
    # Whoever reads the file without our class reads the names that all configurations share.
    written.setdefault("num_hidden_layers", len(kept_blocks(states)))
    written["auto_map"] = {
        "AutoConfig": f"{MODELING}.{classes.Config.__name__}",
        auto: f"{MODELING}.{classes.Model.__name__}",
    }
    file.write_text(json.dumps(written, indent=2, sort_keys=True) + "\n")
    return str(written["model_type"])


def modeling_source(anatomy: Anatomy, config_class: str, model_class: str) -> str:
    """The modeling file of a family: what search used to narrow and drop, and two classes around the stock ones."""
    description = json.dumps(tables(anatomy), indent=1)
    return f'''{Path(surgery.__file__).read_text(encoding="utf8")}

# -- what follows is specific to {anatomy.family}; written by secateur --

from transformers import {config_class}, {model_class}  # noqa: E402

TABLES = {description}
Secateur{config_class} = config_class({config_class}, "{anatomy.family}")
Secateur{model_class} = model_class({model_class}, Secateur{config_class}, lambda config: TABLES)
Config, Model = Secateur{config_class}, Secateur{model_class}
'''


def _imported(path: Path) -> Any:
    """The modeling file as a module, from where it was written."""
    name = f"secateur_export_{path.parent.name.replace('.', '_').replace('-', '_')}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # transformers looks classes' modules up by name while it saves.
    sys.modules[name] = module
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = writes
    return module

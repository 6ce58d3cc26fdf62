"""What makes a smaller model of a stock one: sublayers that are gone, and modules of fewer heads, channels or width.

Imports nothing of ours: exported checkpoints carry a copy of this file as their modeling code. `tables` describe a
family: `blocks`, the path of its list of blocks; `branches`, for each sublayer the modules that something stands in for
when it is dropped; `dimensions`, how many units a dense block has of each, and `segments`, for each run of a tensor's
dimension the numbers of a unit and the dimensions that count its units; `parameters`, the axes of every parameter of a
block by name (lists of segments, empty where no width changes a dimension);
`attributes`, (module, attribute, size) that its forward reads besides; `config_names`, (size, entry of the
configuration); `norm`, the final norm.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn


class DroppedAttention(nn.Module):
    """Attention that attends to nothing and leaves the cache alone: returns zeros (batch, time, hidden) and None."""

    def forward(self, hidden_states: torch.Tensor, *args: object, **kwargs: object) -> tuple[torch.Tensor, None]:
        return torch.zeros_like(hidden_states), None


class KeptInput(nn.Module):
    """Attention with its own residual sum, dropped: returns its input (batch, time, hidden) and None."""

    def forward(self, hidden_states: torch.Tensor, *args: object, **kwargs: object) -> tuple[torch.Tensor, None]:
        return hidden_states, None


class Zero(nn.Module):
    """Returns zeros in the shape of its input."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(hidden_states)


class Second(nn.Module):
    """An output module with its own residual sum, dropped: returns the residual, its second argument."""

    def forward(self, hidden_states: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        return residual


STAND_INS = {
    "attention": DroppedAttention,
    "keep": KeptInput,
    "zero": Zero,
    "second": Second,
    "identity": nn.Identity,
}


def stand_in(block: nn.Module, path: str, role: str) -> nn.Module:
    """Puts the stand-in for `role` at `path` in `block`; returns the module it replaced."""
    parent, name = parent_of(block, path)
    replaced = parent.get_submodule(name)
    setattr(parent, name, STAND_INS[role]())
    return replaced


def parent_of(module: nn.Module, path: str) -> tuple[nn.Module, str]:
    """The module that holds `path`, and the name under which it does."""
    parent, _, name = path.rpartition(".")
    return module.get_submodule(parent) if parent else module, name


class Overridden:
    """A configuration with some entries of its own; everything else is the model's, whatever that becomes."""

    def __init__(self, config: Any, **entries: Any) -> None:
        self.__dict__.update(entries, overridden=config)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked for by copying, before there is anything to look at
            raise AttributeError(name)
        return getattr(self.__dict__["overridden"], name)


def set_size(block: nn.Module, path: str, attribute: str, value: int) -> tuple[nn.Module, str, Any]:
    """Sets a number that the forward of the module at `path` reads; returns what puts the old one back.

    An entry of the module's configuration is overridden for this module alone.
    """
    module: Any = block.get_submodule(path)
    owner, _, name = attribute.rpartition(".")
    if owner == "config":
        previous = module.config
        module.config = Overridden(previous, **{name: value})
        return module, owner, previous
    previous = getattr(module, attribute)
    setattr(module, attribute, value)
    return module, attribute, previous


def sizes_of(tables: Mapping[str, Any], lengths: Mapping[str, int]) -> dict[str, int]:
    """Lengths of all segments of a block, where a configuration says those of some.

    A segment that is counted by several dimensions says one of them when the others are known; those that nothing says
    anything of are dense.
    """
    segments = tables["segments"]
    known: dict[str, int] = {}
    for name, length in sorted(lengths.items(), key=lambda pair: len(segments[pair[0]][1])):
        unit, dimensions = segments[name]
        rest = length // unit
        unknown = []
        for dimension in dimensions:
            if dimension in known:
                rest //= known[dimension]
            else:
                unknown.append(dimension)
        if unknown:
            known[unknown[0]] = rest
    kept = {**tables["dimensions"], **known}
    return {name: unit * math.prod(kept[one] for one in dimensions) for name, (unit, dimensions) in segments.items()}


def inside(name: str, paths: Sequence[str]) -> bool:
    """Whether `name` is one of `paths` or lies within one."""
    return any(name == path or name.startswith(path + ".") for path in paths)


def narrow(
    block: Any,
    tables: Mapping[str, Any],
    sizes: Mapping[str, int],
    skipped: Sequence[str] = (),
    biases: Sequence[str] = (),
) -> None:
    """Gives the parameters of a dense block the shapes of `sizes`, uninitialised, and stand-ins to `skipped` sublayers.

    `biases` are names of linears that get a bias they do not have.
    """
    stand_ins = [pair for kind in skipped for pair in tables["branches"][kind]]
    gone = [path for path, _ in stand_ins]
    for name, axes in tables["parameters"].items():
        if inside(name, gone):
            continue
        module: Any
        module, attribute = parent_of(block, name)
        old = getattr(module, attribute)
        if old is None:
            continue
        segments = zip(axes, old.shape, strict=True)
        shape = [sum(sizes[segment] for segment in axis) if axis else length for axis, length in segments]
        if shape != list(old.shape):
            empty = torch.empty(shape, dtype=old.dtype, device=old.device)
            setattr(module, attribute, nn.Parameter(empty, requires_grad=old.requires_grad))
        if attribute == "weight" and isinstance(module, nn.Linear):
            module.out_features, module.in_features = shape
        elif attribute == "weight" and hasattr(module, "nf"):
            module.nx, module.nf = shape
    for name in biases:
        weight = block.get_submodule(name).weight
        bias = torch.empty(weight.shape[0], dtype=weight.dtype, device=weight.device)
        block.get_submodule(name).bias = nn.Parameter(bias, requires_grad=weight.requires_grad)
    for path, attribute, size in tables["attributes"]:
        if not inside(path, gone):
            set_size(block, path, attribute, sizes[size])
    for path, role in stand_ins:
        stand_in(block, path, role)


def layer_config(config: Any, index: int) -> tuple[dict[str, Any], list[str]]:
    """(entries that differ in layer `index`, sublayers it lacks); before transformers 5.14 a plain dictionary."""
    entries = getattr(config, "per_layer_config", None)
    if entries is None:
        return {}, []
    if isinstance(entries, dict):
        entry = next((dict(entry) for key, entry in entries.items() if int(key) == index), {})
        return entry, list(entry.pop("skip", []))
    resolved = entries[index]
    return resolved.to_dict(), list(getattr(resolved, "skip", None) or [])


def shrink(model: Any, tables: Mapping[str, Any]) -> None:
    """Makes a freshly built stock model what its configuration says layer by layer; the weights are loaded after."""
    config = model.config
    leave_out_pooler(model)
    names = dict(tables["config_names"])
    dense = config.to_dict()
    for index, block in enumerate(model.get_submodule(tables["blocks"])):
        entry, skipped = layer_config(config, index)
        said = {size: entry.get(name) or dense.get(name) for size, name in names.items()}
        sizes = sizes_of(tables, {size: length for size, length in said.items() if length})
        narrow(block, tables, sizes, skipped, (dense.get("secateur_biases") or {}).get(str(index), ()))
    if dense.get("secateur_projection"):
        add_projection(model, tables["norm"], dense[names["hidden"]])


def leave_out_pooler(model: Any) -> None:
    """Takes the pooler out of an encoder whose configuration says that it has none."""
    if getattr(model.config, "secateur_pooler", True) is False:
        model.pooler = None


def add_projection(model: nn.Module, norm: str, hidden: int) -> nn.Module:
    """Puts a square matrix after the final norm; returns the norm."""
    parent, name = parent_of(model, norm)
    replaced = parent.get_submodule(name)
    weight = next(replaced.parameters())
    projection = nn.Linear(hidden, hidden, bias=False, dtype=weight.dtype, device=weight.device)
    setattr(parent, name, nn.Sequential(replaced, projection))
    return replaced


def model_class(stock: Any, config_class: Any, tables_of: Any) -> Any:
    """A subclass of a stock model that reads sizes layer by layer; `tables_of(config)` describes the family."""

    def initialise(self: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        stock.__init__(self, config, *args, **kwargs)
        shrink(self, tables_of(config))

    name = "Secateur" + stock.__name__
    return type(name, (stock,), {"__init__": initialise, "config_class": config_class, "__module__": __name__})


def config_class(stock: Any, family: str) -> Any:
    """A subclass of a stock configuration under a `model_type` of its own, which no stock model reads.

    It does without the stock check that the residual width is a multiple of the number of heads: heads have a size of
    their own here.
    """

    def validate(self: Any) -> None:
        for check in getattr(stock, "__class_validators__", ()):
            if check.__name__ != "validate_architecture":
                check(self)

    entries = {"model_type": "secateur_" + family, "validate": validate, "__module__": __name__}
    return type("Secateur" + stock.__name__, (stock,), entries)

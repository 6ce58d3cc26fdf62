"""A subnet as a model of its own: blocks really removed, sublayers really gone, sparse weights as zeros."""

import copy
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from ...space.anatomy import Anatomy
from ...space.errors import SecateurError
from ...space.layout import kept_blocks, skips, widths
from ...space.state import BlockState
from ..model.surgery import add_projection, narrow
from .weights import Weights

PER_LAYER_LISTS = ("layer_types", "no_rope_layers")
"""Configuration entries with one value per layer; unsliced they fail transformers' validation."""


def smaller_config(config: Any, anatomy: Anatomy, states: Sequence[BlockState]) -> Any:
    """A copy of a Hugging Face configuration for the blocks that are left, at their residual width.

    Raises:
        SecateurError: no block is left.
    """
    kept = kept_blocks(states)
    if not kept:
        raise SecateurError("this plan removes every block; there is no model to write")
    smaller = copy.deepcopy(config)
    smaller.num_hidden_layers = len(kept)
    for name in PER_LAYER_LISTS:
        values = getattr(config, name, None)
        if values is not None:
            setattr(smaller, name, [values[index] for index in kept])
    if anatomy.explicit_head_dim and (states[0].hidden < anatomy.hidden_size or widths(anatomy, states)):
        # Otherwise it would be derived again from what is left of the heads and the residual width.
        smaller.head_dim = anatomy.blocks[0].segments["query"].unit
        smaller.hidden_size = states[0].hidden
    return smaller


def smaller_weights(
    model: nn.Module,
    anatomy: Anatomy,
    states: Sequence[BlockState],
    weights: Weights,
    trained: Mapping[str, torch.Tensor] = MappingProxyType({}),
) -> dict[str, torch.Tensor]:
    """The state dict of the materialised model: renumbered, dropped parameters left out, sparse weights with zeros.

    The model must be dense. Tensors that do not change are shared with it. `trained`: parameters to be taken instead of
    the subnet's own, by their names in the live model.
    """
    prefix = f"{anatomy.blocks_path}."
    outside = dict(weights.outside(states[0].hidden))
    outside |= {name: tensor for name, tensor in trained.items() if not name.startswith(prefix)}
    known = {tensor.name for tensor in anatomy.outside}
    result = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(prefix)}
    # A tied head stands in the state dict under a name that the anatomy does not list again.
    tied = {name: tensor.data_ptr() for name, tensor in result.items() if name not in known}
    twins = {model.get_parameter(name).data_ptr(): name for name in known}
    result = {name: tensor for name, tensor in result.items() if name not in known} | outside
    result |= {name: outside[twins[pointer]] for name, pointer in tied.items() if twins.get(pointer) in outside}
    for new, old in enumerate(kept_blocks(states)):
        for name, tensor in weights.block(old, states[old]).items():
            result[f"{prefix}{new}.{name}"] = trained.get(f"{prefix}{old}.{name}", tensor)
    return result


def added_biases(anatomy: Anatomy, weights: Mapping[str, torch.Tensor]) -> dict[int, list[str]]:
    """Linears, by new block index, that have a bias among `weights` and none in the dense model."""
    prefix = f"{anatomy.blocks_path}."
    dense = {linear.name for linear in anatomy.blocks[0].linears if not linear.bias}
    result: dict[int, list[str]] = {}
    for name in weights:
        if name.startswith(prefix) and name.endswith(".bias"):
            number, _, inside = name.removeprefix(prefix).removesuffix(".bias").partition(".")
            if inside in dense:
                result.setdefault(int(number), []).append(inside)
    return result


def tables(anatomy: Anatomy) -> dict[str, Any]:
    """The description of a family that `surgery` reads."""
    block = anatomy.blocks[0]
    return {
        "blocks": anatomy.blocks_path,
        "branches": {sublayer.name: [list(pair) for pair in sublayer.stand_ins] for sublayer in block.sublayers},
        "parameters": {
            tensor.name: [list(axis) for axis in tensor.axes]
            for sublayer in block.sublayers
            for tensor in sublayer.parameters()
            if any(tensor.axes)
        },
        "attributes": [list(entry) for sublayer in block.sublayers for entry in sublayer.attributes],
        "dimensions": dict(block.dimensions),
        "segments": {name: [segment.unit, list(segment.dimensions)] for name, segment in block.segments.items()},
        "config_names": dict(anatomy.config_names),
        "norm": anatomy.norm,
    }


def materialised(model: nn.Module, anatomy: Anatomy, states: Sequence[BlockState], weights: Weights) -> nn.Module:
    """The subnet as a model of its own that shares nothing with the dense one.

    Raises:
        SecateurError: no block is left.
    """
    return built(model, anatomy, states, smaller_weights(model, anatomy, states, weights))


def built(
    model: nn.Module, anatomy: Anatomy, states: Sequence[BlockState], values: Mapping[str, torch.Tensor]
) -> nn.Module:
    """The stock class with blocks narrowed and sublayers dropped, filled with `values` (see `smaller_weights`).

    Raises:
        SecateurError: no block is left.
    """
    dense: Any = model
    smaller: nn.Module = type(dense)(smaller_config(dense.config, anatomy, states))
    biases = added_biases(anatomy, values)
    description, dropped = tables(anatomy), skips(anatomy.blocks, states)
    blocks = list(smaller.get_submodule(anatomy.blocks_path).children())
    for new, old in enumerate(kept_blocks(states)):
        sizes = states[old].sizes(anatomy.blocks[old])
        narrow(blocks[new], description, sizes, dropped.get(new, ()), biases.get(new, ()))
    if f"{anatomy.norm}.1.weight" in values:
        add_projection(smaller, anatomy.norm, states[0].hidden)
    fill(smaller, dense, values)
    return smaller.eval().requires_grad_(False)


def fill(smaller: Any, dense: Any, weights: Mapping[str, torch.Tensor]) -> None:
    """Loads weights into a freshly built model, in the dense model's dtype and with its generation settings.

    Parameters only: buffers such as rotary frequencies stay in float32, as they are in a loaded model.
    """
    first = next(dense.parameters())
    for parameter in smaller.parameters():
        parameter.data = parameter.data.to(dtype=first.dtype)
    smaller.to(device=first.device)
    smaller.load_state_dict(weights, strict=True)
    if getattr(dense, "generation_config", None) is not None:
        smaller.generation_config = copy.deepcopy(dense.generation_config)

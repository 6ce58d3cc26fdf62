"""A subnet as a model of its own: blocks really removed, sublayers really gone, sparse weights as zeros."""

import copy
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import nn

from ...space.anatomy import Anatomy
from ...space.errors import SecateurError
from ...space.layout import kept_blocks, skips, widths
from ...space.state import BlockState, outside_of
from ..model.surgery import add_projection, leave_out_pooler, narrow
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
) -> Mapping[str, torch.Tensor]:
    """The state dict of the materialised model: renumbered, dropped parameters left out, sparse weights with zeros.

    The model must be dense. Tensors that do not change are shared with it, others are made at each lookup. `trained`:
    parameters to be taken instead of the subnet's own, by their names in the live model.
    """
    return SmallerWeights(model, anatomy, states, weights, trained)


class SmallerWeights(Mapping[str, torch.Tensor]):
    """Those of `smaller_weights`, made block by block; the last block that was asked for is held."""

    def __init__(
        self,
        model: nn.Module,
        anatomy: Anatomy,
        states: Sequence[BlockState],
        weights: Weights,
        trained: Mapping[str, torch.Tensor],
    ) -> None:
        self._anatomy, self._states, self._weights, self._trained = anatomy, states, weights, trained
        self._outside = self._all_outside(model)
        self._held: tuple[int, Mapping[str, torch.Tensor]] = (-1, {})
        self._places = {
            f"{anatomy.blocks_path}.{new}.{name}": (old, name)
            for new, old in enumerate(kept_blocks(states))
            for name in self._block(old)
        }

    def __getitem__(self, name: str) -> torch.Tensor:
        if name in self._outside:
            return self._outside[name]
        old, inside = self._places[name]
        return self._block(old)[inside]

    def __iter__(self) -> Iterator[str]:
        yield from self._outside
        yield from self._places

    def __len__(self) -> int:
        return len(self._outside) + len(self._places)

    def _block(self, index: int) -> Mapping[str, torch.Tensor]:
        if self._held[0] != index:
            self._held = (-1, {})  # first, so that two are never held
            prefix = self._anatomy.block_prefix(index)
            found = self._weights.block(index, self._states[index]).items()
            self._held = index, {name: self._trained.get(prefix + name, tensor) for name, tensor in found}
        return self._held[1]

    def _all_outside(self, model: nn.Module) -> dict[str, torch.Tensor]:
        prefix = f"{self._anatomy.blocks_path}."
        outside = dict(self._weights.outside(outside_of(self._anatomy.blocks, self._states)))
        outside |= {name: tensor for name, tensor in self._trained.items() if not name.startswith(prefix)}
        known = {tensor.name for tensor in self._anatomy.outside}
        result = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(prefix)}
        # A tied head stands in the state dict under a name that the anatomy does not list again.
        tied = {name: tensor.data_ptr() for name, tensor in result.items() if name not in known}
        twins = {model.get_parameter(name).data_ptr(): name for name in known}
        result = {name: tensor for name, tensor in result.items() if name not in known} | outside
        return result | {
            name: outside[twins[pointer]] for name, pointer in tied.items() if twins.get(pointer) in outside
        }


def added_biases(anatomy: Anatomy, names: Iterable[str]) -> dict[int, list[str]]:
    """Linears, by new block index, that have a bias among the parameters `names` and none in the dense model."""
    prefix = f"{anatomy.blocks_path}."
    dense = {linear.name for linear in anatomy.blocks[0].linears if not linear.bias}
    result: dict[int, list[str]] = {}
    for name in names:
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
    values = smaller_weights(model, anatomy, states, weights)
    smaller = built(model, anatomy, states, values)
    fill(smaller, model, {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in values.items()})
    return smaller


def built(model: nn.Module, anatomy: Anatomy, states: Sequence[BlockState], names: Collection[str]) -> nn.Module:
    """The stock class with blocks narrowed and sublayers dropped, its parameters on the meta device.

    `names`: of the parameters that it is to have (see `smaller_weights`).

    Raises:
        SecateurError: no block is left.
    """
    dense: Any = model
    biases = added_biases(anatomy, names)
    description, dropped = tables(anatomy), skips(anatomy.blocks, states)
    with init_empty_weights(include_buffers=False):
        smaller: nn.Module = type(dense)(smaller_config(dense.config, anatomy, states))
        leave_out_pooler(smaller)
        blocks = list(smaller.get_submodule(anatomy.blocks_path).children())
        for new, old in enumerate(kept_blocks(states)):
            sizes = states[old].sizes(anatomy.blocks[old])
            narrow(blocks[new], description, sizes, dropped.get(new, ()), biases.get(new, ()))
        if f"{anatomy.norm}.1.weight" in names:
            add_projection(smaller, anatomy.norm, states[0].hidden)
    return smaller


def fill(smaller: Any, dense: Any, weights: Mapping[str, torch.Tensor]) -> None:
    """Gives a freshly built model its weights, which it then shares, and the dense model's generation settings.

    Parameters only: buffers such as rotary frequencies stay in float32, as they are in a loaded model.
    """
    smaller.load_state_dict(weights, strict=True, assign=True)
    smaller.tie_weights()
    smaller.to(device=next(dense.parameters()).device).eval().requires_grad_(False)
    keep_generation(smaller, dense)


def keep_generation(smaller: Any, dense: Any) -> None:
    """Gives a model the generation settings of another."""
    if getattr(dense, "generation_config", None) is not None:
        smaller.generation_config = copy.deepcopy(dense.generation_config)

"""A subnet as a model of its own: blocks really removed, sublayers really gone, sparse weights as zeros."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..space.anatomy import Anatomy
from ..space.costs import BlockState
from ..space.errors import SecateurError
from .dropped import stand_in
from .level_store import LevelStore

PER_LAYER_LISTS = ("layer_types", "no_rope_layers")
"""Configuration entries with one value per layer; unsliced they fail transformers' validation."""


def kept_blocks(states: Sequence[BlockState]) -> list[int]:
    """Original indices of the blocks that are left; their positions are the new indices."""
    return [index for index, state in enumerate(states) if not state.removed]


def skips(states: Sequence[BlockState]) -> dict[int, list[str]]:
    """Dropped sublayers by *new* block index, for blocks that keep the other one."""
    result = {}
    for new, old in enumerate(kept_blocks(states)):
        dropped = [n for n, kept in (("attention", states[old].attention), ("mlp", states[old].mlp)) if not kept]
        if dropped:
            result[new] = dropped
    return result


def smaller_config(config: Any, states: Sequence[BlockState]) -> Any:
    """A copy of a Hugging Face configuration for the blocks that are left.

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
    return smaller


def smaller_weights(
    model: nn.Module, anatomy: Anatomy, states: Sequence[BlockState], store: LevelStore | None
) -> dict[str, torch.Tensor]:
    """The state dict of the materialised model: renumbered, dropped parameters left out, sparse weights with zeros.

    The model must be dense. Tensors that do not change are shared with it.
    """
    new_index = {old: new for new, old in enumerate(kept_blocks(states))}
    prefix = f"{anatomy.blocks_path}."
    weights = {}
    for name, tensor in model.state_dict().items():
        if not name.startswith(prefix):
            weights[name] = tensor
            continue
        number, _, inside = name.removeprefix(prefix).partition(".")
        index = int(number)
        if index not in new_index or _is_dropped(anatomy, states[index], index, inside):
            continue
        weights[f"{prefix}{new_index[index]}.{inside}"] = _at_level(
            anatomy, states[index], index, inside, store, tensor
        )
    return weights


def _is_dropped(anatomy: Anatomy, state: BlockState, index: int, inside: str) -> bool:
    block = anatomy.blocks[index]
    for sublayer, kept in zip(block.sublayers, (state.attention, state.mlp), strict=True):
        if not kept and any(inside == path or inside.startswith(f"{path}.") for path, _ in sublayer.stand_ins):
            return True
    return False


def _at_level(
    anatomy: Anatomy, state: BlockState, index: int, inside: str, store: LevelStore | None, dense: torch.Tensor
) -> torch.Tensor:
    for position, (linear, level) in enumerate(zip(anatomy.blocks[index].linears, state.sparsity, strict=True)):
        if inside == f"{linear.name}.weight" and level:
            if store is None:
                raise SecateurError("a sparse plan needs its level store to be written out")
            return store.weight(index, position, level)
    return dense


def drop_sublayers(model: nn.Module, anatomy: Anatomy, skipped: Mapping[int, Sequence[str]]) -> None:
    """Puts stand-ins for dropped sublayers into a model that has only the kept blocks."""
    blocks = model.get_submodule(anatomy.blocks_path)
    for index, kinds in skipped.items():
        # All blocks of a family are built alike, so any block's anatomy will do.
        for sublayer in anatomy.blocks[index].sublayers:
            if sublayer.kind in kinds:
                for path, role in sublayer.stand_ins:
                    stand_in(blocks.get_submodule(str(index)), path, role)


def materialised(
    model: nn.Module, anatomy: Anatomy, states: Sequence[BlockState], store: LevelStore | None
) -> nn.Module:
    """The subnet as a model of its own that shares nothing with the dense one.

    Raises:
        SecateurError: no block is left.
    """
    dense: Any = model
    smaller: nn.Module = type(dense)(smaller_config(dense.config, states))
    drop_sublayers(smaller, anatomy, skips(states))
    fill(smaller, dense, smaller_weights(model, anatomy, states, store))
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

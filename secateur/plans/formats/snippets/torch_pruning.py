"""Prunes a model as ratios.json says, with Torch-Pruning; load it with attn_implementation="eager"."""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

RATIOS = json.loads(Path(__file__).with_name("ratios.json").read_text())


def prune(model: nn.Module, example_inputs: Any, importance: Any = None) -> nn.Module:
    """Removes MLP channels, and as many query heads from every KV group, of least `importance` (default: magnitude)."""
    import torch_pruning as tp

    ratios = {model.get_submodule(name): ratio for name, ratio in RATIOS["pruning_ratio_dict"].items()}
    heads = {model.get_submodule(name): ratio for name, ratio in RATIOS["head_pruning_ratio_dict"].items()}
    numbers = {model.get_submodule(name): count for name, count in RATIOS["num_heads"].items()}
    with _without_rotation(model):
        pruner = tp.pruner.BasePruner(
            model,
            example_inputs,
            importance=importance or tp.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=0.0,
            # Heads are only pruned where their group has a ratio as well, whatever it is.
            pruning_ratio_dict=ratios | heads,
            num_heads=numbers,
            prune_num_heads=True,
            prune_head_dims=False,
            head_pruning_ratio_dict=heads,
            ignored_layers=[model.get_submodule(name) for name in RATIOS["ignored_layers"]],
            output_transform=lambda output: output.logits,
        )
    pruner.step()
    for name, groups in RATIOS["num_key_value_groups"].items():
        attention: Any = model.get_submodule(name)
        attention.num_key_value_groups = groups
    return model


@contextlib.contextmanager
def _without_rotation(model: nn.Module) -> Iterator[None]:
    """Rotary embedding out of the way of tracing: Torch-Pruning 1.6.1 follows its halves round and round, for ever.

    It turns every head by itself, so that whole heads can be removed without knowing of it.
    """
    sources = {sys.modules[type(module).__module__] for module in model.modules()}
    turning = [one for one in sources if hasattr(one, "apply_rotary_pos_emb")]
    before = [one.apply_rotary_pos_emb for one in turning]
    try:
        for one in turning:
            setattr(one, "apply_rotary_pos_emb", lambda queries, keys, *_, **__: (queries, keys))  # noqa: B010
        yield
    finally:
        for one, function in zip(turning, before, strict=True):
            setattr(one, "apply_rotary_pos_emb", function)  # noqa: B010

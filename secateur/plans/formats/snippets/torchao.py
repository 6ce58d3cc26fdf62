"""Prunes a model as sparsity.json says, with torchao."""

import json
from collections.abc import Callable
from pathlib import Path

from torch import nn

SPARSITY = json.loads(Path(__file__).with_name("sparsity.json").read_text())


def prune(model: nn.Module, calibrate: Callable[[nn.Module], object] | None = None) -> nn.Module:
    """By Wanda where `calibrate(model)` runs some text through it, by magnitude otherwise and where a pattern is asked.

    torchao's Wanda has no patterns but 2:4, and takes that for all tensors at once.
    """
    from torchao.prototype.sparsity.sparsifier.weight_norm_sparsifier import WeightNormSparsifier
    from torchao.sparsity import WandaSparsifier

    shares = [entry for entry in SPARSITY if "zeros_per_block" not in entry]
    patterns = [
        entry | {"sparse_block_shape": tuple(entry["sparse_block_shape"])}
        for entry in SPARSITY
        if "zeros_per_block" in entry
    ]
    if calibrate is not None and shares:
        sparsifier = WandaSparsifier(sparsity_level=0.0)
        sparsifier.prepare(model, shares)
        calibrate(model)
        sparsifier.step()
        sparsifier.squash_mask()
        shares = []
    single = [entry | {"sparse_block_shape": (1, 1), "zeros_per_block": 1} for entry in shares]
    if single or patterns:
        sparsifier = WeightNormSparsifier(sparsity_level=0.0)
        sparsifier.prepare(model, single + patterns)
        sparsifier.step()
        sparsifier.squash_mask()
    return model

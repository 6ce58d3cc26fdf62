"""Prunes a model by magnitude as sparsity.json says, with torch.nn.utils.prune."""

import json
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils import prune as pruning

SPARSITY = json.loads(Path(__file__).with_name("sparsity.json").read_text())


def prune(model: nn.Module) -> nn.Module:
    """In place; the masks are made permanent."""
    for entry in SPARSITY:
        name, _, parameter = entry["tensor_fqn"].rpartition(".")
        module = model.get_submodule(name)
        if "zeros_per_block" in entry:
            weight = getattr(module, parameter)
            blocks = weight.detach().abs().reshape(-1, entry["sparse_block_shape"][1])
            smallest = blocks.argsort(dim=1)[:, : entry["zeros_per_block"]]
            mask = torch.ones_like(blocks).scatter_(1, smallest, 0.0).reshape(weight.shape)
            pruning.custom_from_mask(module, parameter, mask)
        else:
            # A whole number would be a count; this is always a float.
            pruning.l1_unstructured(module, parameter, amount=float(entry["sparsity_level"]))
        pruning.remove(module, parameter)
    return model

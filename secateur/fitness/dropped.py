"""What stands in for a dropped sublayer, so that its branch adds exactly zero to the residual stream.

Imports nothing of ours: exported checkpoints carry a copy of this file as their modeling code.
"""

import torch
from torch import nn


class DroppedAttention(nn.Module):
    """Attention that attends to nothing and leaves the cache alone: returns zeros (batch, time, hidden) and None."""

    def forward(self, hidden_states: torch.Tensor, *args: object, **kwargs: object) -> tuple[torch.Tensor, None]:
        return torch.zeros_like(hidden_states), None


class Zero(nn.Module):
    """Returns zeros in the shape of its input."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(hidden_states)


STAND_INS = {"attention": DroppedAttention, "zero": Zero, "identity": nn.Identity}


def stand_in(block: nn.Module, path: str, role: str) -> nn.Module:
    """Puts the stand-in for `role` at `path` in `block`; returns the module it replaced."""
    parent_path, _, name = path.rpartition(".")
    parent = block.get_submodule(parent_path) if parent_path else block
    replaced = parent.get_submodule(name)
    setattr(parent, name, STAND_INS[role]())
    return replaced

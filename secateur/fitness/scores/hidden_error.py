"""Squared error of the last hidden state, relative to the dense one."""

import torch

from .rows import StreamScore


def hidden_error(hidden: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
    """Of hidden states (time, hidden), both of the same width; a scalar."""
    dense = dense.float()
    return ((hidden.float() - dense) ** 2).sum() / (dense**2).sum()


HIDDEN_ERROR = StreamScore(hidden_error)

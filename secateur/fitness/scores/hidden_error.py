"""Squared error of the last hidden state, relative to the dense one."""

import torch

from .rows import StreamScore


def hidden_error(hidden: torch.Tensor, dense: torch.Tensor) -> float:
    """Of hidden states (time, hidden), both of the same width."""
    dense = dense.float()
    return float(((hidden.float() - dense) ** 2).sum() / (dense**2).sum())


HIDDEN_ERROR = StreamScore(hidden_error)

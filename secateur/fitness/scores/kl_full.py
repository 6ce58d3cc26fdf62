"""KL divergence to the dense model over the whole vocabulary."""

import torch

from .rows import Rows, RowScore


def kl_full(dense: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """KL(dense || subnet) at each position (positions,), both as logits (positions, vocabulary)."""
    p, q = dense.log_softmax(-1), logits.log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1)


def _value(rows: Rows) -> torch.Tensor:
    assert rows.dense is not None
    return kl_full(rows.dense, rows.logits)


KL_FULL = RowScore(_value, dense=True)

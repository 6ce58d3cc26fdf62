"""Cross-entropy: the negative log-likelihood of the next token."""

import torch

from ..text import NOT_MASKED
from .rows import Rows, RowScore


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood (positions,), 0 where the target is `NOT_MASKED`; see `rows.over_targets`.

    Args:
        logits: (positions, vocabulary).
        targets: (positions,).
    """
    return torch.nn.functional.cross_entropy(logits, targets, reduction="none", ignore_index=NOT_MASKED)


def _value(rows: Rows) -> torch.Tensor:
    return cross_entropy(rows.logits, rows.targets)


CROSS_ENTROPY = RowScore(_value, targets=True)

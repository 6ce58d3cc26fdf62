"""KL divergence to the dense model, over its top tokens and one bucket for all others."""

import torch

from .rows import Rows, RowScore


def kl_top(log_p: torch.Tensor, tokens: torch.Tensor, log_tail: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """KL at each position (positions,) of two distributions coarsened to the dense model's top tokens plus a tail.

    Merging outcomes never raises a KL (data-processing inequality), so this is a lower bound of the full one; unlike
    renormalising over the top tokens it sees the mass that the subnet moves into the tail.

    Args:
        log_p: (positions, k), the dense model's log-probabilities of its top tokens.
        tokens: (positions, k), which they are.
        log_tail: (positions,), log of the dense model's mass outside them.
        logits: (positions, vocabulary) of the subnet; overwritten, but where gradients are wanted.
    """
    top = logits.gather(1, tokens)
    without = logits.scatter if logits.requires_grad else logits.scatter_
    rest = without(1, tokens, -torch.inf).logsumexp(1)
    total = torch.logaddexp(rest, top.logsumexp(1))
    log_q, log_q_tail = top - total[:, None], rest - total
    inside = (log_p.exp() * (log_p - log_q)).sum(1)
    tail = torch.where(log_tail == -torch.inf, 0.0, log_tail.exp() * (log_tail - log_q_tail))
    return inside + tail


def _value(rows: Rows) -> torch.Tensor:
    assert rows.top is not None
    return kl_top(rows.top.log_probabilities, rows.top.tokens, rows.top.log_tail, rows.logits)


KL = RowScore(_value, top=True, overwrites=True)

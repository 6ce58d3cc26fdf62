"""What a subnet is scored on: distance to the dense model, or the text itself. All in float32, all minimised."""

import torch

from .teacher import Teacher
from .text import NOT_MASKED, Sequences

SCORES = {
    "kl": "KL to the dense model over its top tokens and one bucket for all others; never above the full KL",
    "kl_full": "KL to the dense model over the whole vocabulary",
    "cross_entropy": "negative log-likelihood of the next token; its exponential is the perplexity",
    "hidden_error": "squared error of the last hidden state relative to the dense one",
}
CHUNK = 128
"""Positions whose logits are held at once."""


@torch.inference_mode()
def score(names: tuple[str, ...], hidden: torch.Tensor, sequence: int, teacher: Teacher) -> dict[str, float]:
    """Scores one sequence.

    Args:
        names: of `SCORES`.
        hidden: (1, time, hidden), what the last block returned.
        sequence: its index in the teacher's text.
        teacher: the dense model's answers.

    Returns:
        For each name the mean over positions (over predicted tokens for `cross_entropy`), nats per token; for an
        encoder over the masked positions.
    """
    positions, targets = predicted(teacher.text, sequence)
    positions, targets = positions.to(hidden.device), targets.to(hidden.device)
    totals = dict.fromkeys(names, 0.0)
    if set(names) - {"hidden_error"}:
        for part in torch.split(positions, CHUNK):
            logits = teacher.blocks.logits(hidden[:, part])
            if "cross_entropy" in names:
                known = targets[part] != NOT_MASKED
                value = cross_entropy(logits[known], targets[part][known])
                totals["cross_entropy"] += value / int((targets != NOT_MASKED).sum())
            if "kl_full" in names:
                dense = teacher.blocks.logits(teacher.hidden(sequence)[:, part])
                totals["kl_full"] += kl_full(dense, logits) / len(positions)
            if "kl" in names:
                top = teacher.top(sequence)
                value = kl_top(top.log_probabilities[part], top.tokens[part], top.log_tail[part], logits)
                totals["kl"] += value / len(positions)
    if "hidden_error" in names:
        dense = teacher.hidden(sequence).float()
        totals["hidden_error"] = float(((hidden.float() - dense) ** 2).sum() / (dense**2).sum())
    return totals


def predicted(text: Sequences, sequence: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(positions scored,), and for every position (time,) the token to be predicted there or `NOT_MASKED`.

    A causal model is scored at every position and predicts the next token, where there is one.
    """
    ids = text.ids[sequence]
    if text.targets is None:
        return torch.arange(len(ids)), torch.cat([ids[1:], ids.new_full((1,), NOT_MASKED)])
    return (text.targets[sequence] != NOT_MASKED).nonzero().reshape(-1), text.targets[sequence]


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> float:
    """Sum over positions of the negative log-likelihood; logits (positions, vocabulary), targets (positions,)."""
    return float(torch.nn.functional.cross_entropy(logits, targets, reduction="sum"))


def kl_full(dense: torch.Tensor, logits: torch.Tensor) -> float:
    """Sum over positions of KL(dense || subnet), both as logits (positions, vocabulary)."""
    p, q = dense.log_softmax(-1), logits.log_softmax(-1)
    return float((p.exp() * (p - q)).sum())


def kl_top(log_p: torch.Tensor, tokens: torch.Tensor, log_tail: torch.Tensor, logits: torch.Tensor) -> float:
    """Sum over positions of the KL between two distributions coarsened to the dense model's top tokens plus a tail.

    Merging outcomes never raises a KL (data-processing inequality), so this is a lower bound of the full one; unlike
    renormalising over the top tokens it sees the mass that the subnet moves into the tail.

    Args:
        log_p: (positions, k), the dense model's log-probabilities of its top tokens.
        tokens: (positions, k), which they are.
        log_tail: (positions,), log of the dense model's mass outside them.
        logits: (positions, vocabulary) of the subnet; overwritten.
    """
    top = logits.gather(1, tokens)
    rest = logits.scatter_(1, tokens, -torch.inf).logsumexp(1)
    total = torch.logaddexp(rest, top.logsumexp(1))
    log_q, log_q_tail = top - total[:, None], rest - total
    inside = (log_p.exp() * (log_p - log_q)).sum()
    tail = torch.where(log_tail == -torch.inf, 0.0, log_tail.exp() * (log_tail - log_q_tail)).sum()
    return float(inside + tail)

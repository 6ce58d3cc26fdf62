"""What a subnet is scored on: distance to the dense model, or the text itself. All in float32, all minimised."""

from collections.abc import Sequence

import torch

from ...space.slopes import Differentiable
from ..text import NOT_MASKED, Sequences
from .teacher import Teacher

SCORES = {
    "kl": "KL to the dense model over its top tokens and one bucket for all others; never above the full KL",
    "kl_full": "KL to the dense model over the whole vocabulary",
    "cross_entropy": "negative log-likelihood of the next token; its exponential is the perplexity",
    "hidden_error": "squared error of the last hidden state relative to the dense one",
}
Scores = dict[str, float]
HEAD_ROWS = 256
"""Positions whose logits are held at once."""
SOFTMAX_ROWS = 32
"""Positions whose logits are normalised at once, so that they stay in the processor's caches."""


@torch.inference_mode()
def score(names: tuple[str, ...], hidden: torch.Tensor, sequences: Sequence[int], teacher: Teacher) -> list[Scores]:
    """Scores sequences.

    Args:
        names: of `SCORES`.
        hidden: (sequences, time, hidden), what the last block returned.
        sequences: their indices in the teacher's text.
        teacher: the dense model's answers.

    Returns:
        For each sequence and name the mean over its scored positions (over predicted tokens for `cross_entropy`), nats
        per token; the head runs at those positions only.
    """
    scored = [predicted(teacher.text, sequence) for sequence in sequences]
    results: list[Scores] = [{} for _ in sequences]
    if set(names) - {"hidden_error"}:
        rows = torch.cat([one[positions] for one, (positions, _) in zip(hidden, scored, strict=True)])
        values = _by_row(names, rows, sequences, scored, teacher)
        counts = [len(positions) for positions, _ in scored]
        for name, column in values.items():
            for result, part, (positions, targets) in zip(results, torch.split(column, counts), scored, strict=True):
                mean = over_targets(part, targets[positions]) if name == "cross_entropy" else part.mean()
                result[name] = float(mean)
    if "hidden_error" in names:
        for result, one, sequence in zip(results, hidden, sequences, strict=True):
            dense = teacher.hidden(sequence)[0].float()
            result["hidden_error"] = float(((one.float() - dense) ** 2).sum() / (dense**2).sum())
    return results


def mean_losses(
    names: Sequence[Differentiable], logits: torch.Tensor, sequence: int, teacher: Teacher
) -> list[torch.Tensor]:
    """What `score` says of one sequence, from its logits (time, vocabulary): for each name a scalar with a gradient."""
    positions, targets = predicted(teacher.text, sequence)
    places = positions.to(logits.device)
    rows, losses = logits[places].float(), []
    for name in names:
        if name == "cross_entropy":
            wanted = targets[positions].to(logits.device)
            losses.append(over_targets(cross_entropy(rows, wanted), wanted))
        else:
            top = teacher.top(sequence)
            losses.append(kl_top(top.log_probabilities[places], top.tokens[places], top.log_tail[places], rows).mean())
    return losses


def _by_row(
    names: tuple[str, ...],
    rows: torch.Tensor,
    sequences: Sequence[int],
    scored: Sequence[tuple[torch.Tensor, torch.Tensor]],
    teacher: Teacher,
) -> dict[str, torch.Tensor]:
    """For each name one value for each of the final hidden states `rows` (positions, hidden).

    On the CPU, where sums over a few rows cost a synchronisation on an accelerator.
    """
    places = [positions.to(rows.device) for positions, _ in scored]
    targets = torch.cat([target[positions] for positions, target in scored]).to(rows.device)
    tops = [teacher.top(sequence) for sequence in sequences] if "kl" in names else []
    log_p, tokens, tail = (
        torch.cat([getattr(top, name)[place] for top, place in zip(tops, places, strict=True)]) if tops else rows
        for name in ("log_probabilities", "tokens", "log_tail")
    )
    dense = rows
    if "kl_full" in names:
        hidden = [teacher.hidden(sequence)[0] for sequence in sequences]
        dense = torch.cat([one[place] for one, place in zip(hidden, places, strict=True)])
    values: dict[str, list[torch.Tensor]] = {name: [] for name in names if name != "hidden_error"}
    # No more at once than a sequence has: the model's own forward looks positions up.
    most = min(HEAD_ROWS, teacher.text.length)
    for start in range(0, len(rows), most):
        logits = teacher.blocks.logits(rows[start : start + most][None])
        dense_logits = teacher.blocks.logits(dense[start : start + most][None]) if "kl_full" in names else logits
        for first in range(0, len(logits), SOFTMAX_ROWS):
            few = slice(first, min(first + SOFTMAX_ROWS, len(logits)))
            at, part = slice(start + few.start, start + few.stop), logits[few].float()
            if "cross_entropy" in names:
                values["cross_entropy"].append(cross_entropy(part, targets[at]))
            if "kl_full" in names:
                values["kl_full"].append(kl_full(dense_logits[few].float(), part))
            if "kl" in names:
                values["kl"].append(kl_top(log_p[at], tokens[at], tail[at], part))
    return {name: torch.cat(parts).cpu() for name, parts in values.items()}


def predicted(text: Sequences, sequence: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(positions scored,), and for every position (time,) the token to be predicted there or `NOT_MASKED`.

    A causal model is scored at every position, or those of `text.positions`, and predicts the next token, where there
    is one.
    """
    ids = text.ids[sequence]
    if text.targets is None:
        positions = torch.arange(len(ids)) if text.positions is None else text.positions[sequence]
        return positions, torch.cat([ids[1:], ids.new_full((1,), NOT_MASKED)])
    return (text.targets[sequence] != NOT_MASKED).nonzero().reshape(-1), text.targets[sequence]


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood (positions,), 0 where the target is `NOT_MASKED`; see `over_targets`.

    Args:
        logits: (positions, vocabulary).
        targets: (positions,).
    """
    return torch.nn.functional.cross_entropy(logits, targets, reduction="none", ignore_index=NOT_MASKED)


def over_targets(losses: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The mean of losses (positions,) where there is something to predict; NaN if any of these is."""
    return losses[(targets != NOT_MASKED).to(losses.device)].mean()


def kl_full(dense: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """KL(dense || subnet) at each position (positions,), both as logits (positions, vocabulary)."""
    p, q = dense.log_softmax(-1), logits.log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1)


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

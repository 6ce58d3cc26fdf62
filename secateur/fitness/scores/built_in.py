"""Scores of subnets by name, from what their last block returns. All in float32, all minimised."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import cast

import torch

from ...space import tables
from ...space.scores import SCORES
from .rows import EmbeddingScore, Rows, RowScore, StreamScore
from .teacher import HEAD_ROWS, Scored, Teacher, Top, rows_at_once

Scores = dict[str, float]
SOFTMAX_ROWS = 32
"""Positions whose logits are normalised at once, so that they stay in the processor's caches."""


@cache
def load(where: str) -> RowScore | StreamScore | EmbeddingScore:
    """The score that a table's entry names as "module:object"."""
    return cast(RowScore | StreamScore | EmbeddingScore, tables.load(where, __package__))


@torch.inference_mode()
def score(names: Sequence[str], hidden: torch.Tensor, sequences: Sequence[int], teacher: Teacher) -> list[Scores]:
    """Scores sequences.

    Args:
        names: of `SCORES`.
        hidden: (sequences, time, hidden), what the last block returned.
        sequences: their indices in the teacher's text.
        teacher: the dense model's answers.

    Returns:
        For each sequence and name the mean over its scored positions, or over predicted tokens; the head runs at those
        positions only.
    """
    wanted = {name: load(SCORES[name].where) for name in names}
    by_row = {name: one for name, one in wanted.items() if isinstance(one, RowScore)}
    scored = [teacher.scored(sequence) for sequence in sequences]
    values: dict[str, torch.Tensor] = {}
    if by_row:
        rows = torch.cat([one[places.positions] for one, places in zip(hidden, scored, strict=True)])
        values = _by_row(by_row, rows, sequences, scored, teacher)
    for name, by_stream in wanted.items():
        if isinstance(by_stream, StreamScore):
            pairs = zip(hidden, sequences, strict=True)
            values[name] = torch.stack([by_stream.value(one, teacher.hidden(sequence)[0]) for one, sequence in pairs])
        elif isinstance(by_stream, EmbeddingScore):
            pairs = zip(hidden, sequences, strict=True)
            values[name] = torch.stack(
                [by_stream.value(teacher.pooled(one[None]), teacher.embedding(sequence)) for one, sequence in pairs]
            )
    results: list[Scores] = [{} for _ in sequences]
    for name, column in _on_host(values).items():
        score_of = wanted[name]
        counts = [len(places.host) if isinstance(score_of, RowScore) else 1 for places in scored]
        for result, part, places in zip(results, torch.split(column, counts), scored, strict=True):
            result[name] = float(score_of.mean(part, places.host) if isinstance(score_of, RowScore) else part)
    return results


def _on_host(values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Vectors of numbers on the CPU, brought there as one.

    Means over the rows of a sequence are taken there: each would cost a synchronisation on an accelerator.
    """
    if not values:
        return {}
    together = torch.cat([column.float() for column in values.values()]).cpu()
    parts = torch.split(together, [len(column) for column in values.values()])
    return dict(zip(values, parts, strict=True))


def mean_losses(names: Sequence[str], logits: torch.Tensor, sequence: int, teacher: Teacher) -> list[torch.Tensor]:
    """What `score` says of one sequence, from its logits (time, vocabulary): for each name a scalar with a gradient.

    `names`: of scores that have slopes.
    """
    scored = teacher.scored(sequence)
    places, wanted = scored.positions, scored.targets
    losses = []
    for one in (load(SCORES[name].where) for name in names):
        assert isinstance(one, RowScore)
        top = _at(teacher.top(sequence), places) if one.top else None
        losses.append(one.mean(one.value(Rows(logits[places].float(), wanted, top)), wanted))
    return losses


def _at(top: Top, places: torch.Tensor | slice) -> Top:
    return Top(top.log_probabilities[places], top.tokens[places], top.log_tail[places])


def _by_row(
    scores: Mapping[str, RowScore],
    rows: torch.Tensor,
    sequences: Sequence[int],
    scored: Sequence[Scored],
    teacher: Teacher,
) -> dict[str, torch.Tensor]:
    """For each name one value for each of the final hidden states `rows` (positions, hidden)."""
    places = [one.positions for one in scored]
    targets = torch.cat([one.targets for one in scored])
    top, dense = None, None
    if any(one.top for one in scores.values()):
        tops = [_at(teacher.top(sequence), place) for sequence, place in zip(sequences, places, strict=True)]
        top = Top(
            torch.cat([one.log_probabilities for one in tops]),
            torch.cat([one.tokens for one in tops]),
            torch.cat([one.log_tail for one in tops]),
        )
    if any(one.dense for one in scores.values()):
        dense = torch.cat([teacher.hidden(seq)[0][place] for seq, place in zip(sequences, places, strict=True)])
    ordered = sorted(scores.items(), key=lambda item: item[1].overwrites)
    values: dict[str, list[torch.Tensor]] = {name: [] for name, _ in ordered}
    most, normalised = HEAD_ROWS, SOFTMAX_ROWS
    if rows.device.type != "cpu":
        most = normalised = rows_at_once(teacher.blocks)
    # No more at once than a sequence has: the model's own forward looks positions up.
    most = min(most, teacher.text.length)
    for start in range(0, len(rows), most):
        logits = teacher.blocks.logits(rows[start : start + most][None])
        dense_logits = teacher.blocks.logits(dense[start : start + most][None]) if dense is not None else None
        for first in range(0, len(logits), normalised):
            few = slice(first, min(first + normalised, len(logits)))
            at = slice(start + few.start, start + few.stop)
            part = Rows(
                logits[few].float(),
                targets[at],
                _at(top, at) if top is not None else None,
                dense_logits[few].float() if dense_logits is not None else None,
            )
            for name, one in ordered:
                values[name].append(one.value(part))
    return {name: torch.cat(parts) for name, parts in values.items()}

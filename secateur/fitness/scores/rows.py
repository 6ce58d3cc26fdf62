"""What a score is: a number for each position, or for each sequence."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..text import NOT_MASKED, Sequences
from .teacher import Top


@dataclass(frozen=True, slots=True)
class Rows:
    """A few of the positions that are scored.

    Attributes:
        logits: (positions, vocabulary), float32, of the subnet.
        targets: (positions,), the tokens to be predicted, or `NOT_MASKED`.
        top: the dense model's answers there, where a score wants them.
        dense: (positions, vocabulary), float32, of the dense model, where a score wants them.
    """

    logits: torch.Tensor
    targets: torch.Tensor
    top: Top | None = None
    dense: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class RowScore:
    """A score that is a mean over positions.

    Attributes:
        value: (positions,) for rows of positions.
        top, dense: what it wants to have of the dense model.
        targets: the mean is over positions where there is something to predict.
        overwrites: it may leave other numbers in `Rows.logits`, so that it is asked last; not where these have
            gradients.
    """

    value: Callable[[Rows], torch.Tensor]
    top: bool = False
    dense: bool = False
    targets: bool = False
    overwrites: bool = False

    def mean(self, values: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Of the values (positions,) of a sequence, of which `targets` are to be predicted; a scalar."""
        return over_targets(values, targets) if self.targets else values.mean()


@dataclass(frozen=True, slots=True)
class StreamScore:
    """A score of a sequence from what the last block of the subnet and of the dense model return: (time, hidden)."""

    value: Callable[[torch.Tensor, torch.Tensor], float]


def over_targets(losses: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The mean of losses (positions,) where there is something to predict; NaN if any of these is."""
    return losses[(targets != NOT_MASKED).to(losses.device)].mean()


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

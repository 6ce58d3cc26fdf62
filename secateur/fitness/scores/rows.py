"""What a score is: a number for each position, or for each sequence."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..text import NOT_MASKED
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
    """A score of a sequence: a scalar, from what the last blocks of the subnet and of the dense model return.

    Both are (time, hidden). The score stays where they are, so that nothing waits for it.
    """

    value: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class EmbeddingScore:
    """A score of a sequence: a scalar, from the embeddings (hidden,) that subnet and dense model make of it.

    What they say of every token, after the final norm, is pooled as the model's files say.
    """

    value: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def over_targets(losses: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The mean of losses (positions,) where there is something to predict; NaN if any of these is."""
    return losses[(targets != NOT_MASKED).to(losses.device)].mean()

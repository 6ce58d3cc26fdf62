"""Pruners whose masks nest: one byte per weight says at which level it dies, and serves every level and budget.

All work on a weight (outputs, inputs). `Statistics` are of the linear's input over the calibration text.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch

from ...space.treatments import STEPS, Sparsity, zeros_per_row

Group = Literal["row", "matrix"]
NEVER = 255
AT_ONCE = 2**22
"""Weights that are put in order together, where they compete within rows only."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of a linear's input: `square_sum` and `total` (inputs,) float64, sums of squares and of values of each feature
    over `count` tokens; `gram` (inputs, inputs) float64 is the sum of x x^T where it is needed."""

    square_sum: torch.Tensor
    count: int
    gram: torch.Tensor | None = None
    total: torch.Tensor | None = None


def magnitude(weight: torch.Tensor, statistics: Statistics | None) -> torch.Tensor:  # noqa: ARG001 - one signature
    """|W|, compared over the whole matrix (Han et al. 2015, arXiv 1506.02626)."""
    return weight.abs()


def wanda(weight: torch.Tensor, statistics: Statistics | None) -> torch.Tensor:
    """|W| times the input feature's L2 norm, compared within each output row (Sun et al. 2023, arXiv 2306.11695)."""
    return weight.abs() * _norms(statistics)


def ria(weight: torch.Tensor, statistics: Statistics | None) -> torch.Tensor:
    """Relative importance and activations, exponent 1/2 (Zhang et al. 2024, ICLR, "Plug-and-Play", eq. 4).

    |W| relative to its row's sum and its column's sum, times the square root of the input feature's norm; compared over
    the whole matrix. The paper's channel permutation for N:M patterns is not done.
    """
    size = weight.abs()
    relative = size / size.sum(dim=0, keepdim=True).clamp_min(1e-12) + size / size.sum(dim=1, keepdim=True).clamp_min(
        1e-12
    )
    return relative * _norms(statistics).sqrt()


def _norms(statistics: Statistics | None) -> torch.Tensor:
    assert statistics is not None
    return statistics.square_sum.sqrt().float()


@dataclass(frozen=True, slots=True)
class NestedPruner:
    """A score for each weight, and whether weights compete within their row or within the whole matrix."""

    score: Callable[[torch.Tensor, Statistics | None], torch.Tensor]
    group: Group
    needs_text: bool


NESTED = {
    "magnitude": NestedPruner(magnitude, "matrix", needs_text=False),
    "wanda": NestedPruner(wanda, "row", needs_text=True),
    "ria": NestedPruner(ria, "matrix", needs_text=True),
}


@cache
def _zeros_per_row(inputs: int, device: torch.device) -> torch.Tensor:
    """Zeros in a row of `inputs` at every step."""
    return torch.tensor([zeros_per_row(step, inputs) for step in range(STEPS)], device=device)


def death_steps(score: torch.Tensor, group: Group) -> torch.Tensor:
    """The step (of 1/200 sparsity) at which each weight dies, uint8; `NEVER` for those that outlive every step.

    At step s exactly `Sparsity(s).zeros(...)` weights have died: those of least score, the first of equals first.
    """
    outputs, inputs = score.shape
    per_row = _zeros_per_row(inputs, score.device)
    died = per_row if group == "row" else per_row * outputs
    flat = score if group == "row" else score.reshape(1, -1)
    order = flat.argsort(dim=1, stable=True)
    # A weight of rank r dies at the first step at which more than r have died.
    of_rank = torch.searchsorted(died, torch.arange(flat.shape[1], device=score.device), right=True)
    of_rank = torch.where(of_rank < STEPS, of_rank, NEVER).to(torch.uint8)
    steps = torch.empty_like(flat, dtype=torch.uint8)
    steps.scatter_(1, order, of_rank.expand_as(order))
    return steps.reshape(outputs, inputs)


def pattern_ranks(score: torch.Tensor, of: int) -> torch.Tensor:
    """The rank of each weight among the `of` consecutive inputs it shares a group with, uint8, 0 for the least."""
    outputs, inputs = score.shape
    order = score.reshape(outputs, inputs // of, of).argsort(dim=2, stable=True)
    ranks = torch.empty_like(order)
    ranks.scatter_(2, order, torch.arange(of, device=score.device).expand_as(order))
    return ranks.reshape(outputs, inputs).to(torch.uint8)


def plane(score: torch.Tensor, group: Group, of: int) -> torch.Tensor:
    """The byte plane for unstructured levels (`of` 0) or for patterns N:`of`."""
    if not of and group == "matrix":
        return death_steps(score, group)
    # Rows know nothing of each other, and an order takes many times the room of what is ordered.
    parts = torch.split(score, max(1, AT_ONCE // score.shape[1]))
    return torch.cat([pattern_ranks(part, of) if of else death_steps(part, group) for part in parts])


def kept(plane: torch.Tensor, level: Sparsity) -> torch.Tensor:
    """Boolean mask of the weights alive at `level`, from the plane that serves it."""
    return plane >= level.of - level.keep if level.of else plane > level.steps

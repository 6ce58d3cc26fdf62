"""Pruners that change the surviving weights, so that each level needs weights of its own."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from ...space.treatments import Sparsity
from .nested import Statistics, pattern_ranks

DAMPING, ADMM_DAMPING = 0.01, 0.1
BLOCK = 128
ITERATIONS, GRADUAL = 20, 15


def sparsegpt(weight: torch.Tensor, statistics: Statistics, level: Sparsity) -> torch.Tensor:
    """One pass of optimal brain surgery over the columns (Frantar and Alistarh 2023, arXiv 2301.00774, algorithm 1).

    Masks are chosen in blocks of 128 columns as published, those of a pattern when its group is reached. Two
    differences, so that the matrix has exactly `level.zeros` zeros: each block's share is rounded to that end, and
    columns whose input is always zero are pruned like others. Returns the weight (outputs, inputs) in float32.
    """
    pruned = weight.double().clone()
    outputs, inputs = pruned.shape
    assert statistics.gram is not None
    upper = inverse_factor(statistics.gram)
    total = level.zeros(outputs, inputs)
    width = BLOCK // level.of * level.of if level.of else BLOCK
    for start in range(0, inputs, width):
        stop = min(start + width, inputs)
        block = pruned[:, start:stop].clone()
        errors = torch.zeros_like(block)
        factor = upper[start:stop, start:stop]
        scale = factor.diagonal() ** 2
        mask = torch.zeros_like(block, dtype=torch.bool)
        if not level.of:
            mask = smallest(block**2 / scale, level, total * stop // inputs - total * start // inputs)
        for column in range(stop - start):
            if level.of and column % level.of == 0:
                group = slice(column, column + level.of)
                mask[:, group] = smallest(block[:, group] ** 2 / scale[group], level, 0)
            value = block[:, column]
            quantised = torch.where(mask[:, column], 0.0, value)
            error = (value - quantised) / factor[column, column]
            block[:, column] = quantised
            block[:, column + 1 :] -= error[:, None] * factor[column, column + 1 :][None]
            errors[:, column] = error
        pruned[:, start:stop] = torch.where(mask, 0.0, block)
        pruned[:, stop:] -= errors @ upper[start:stop, stop:]
    return pruned.float()


_factors: Any = WeakTensorKeyDictionary()
"""Of Gram matrices that still are somewhere: all linears that read one input, at all levels, share one."""


def inverse_factor(gram: torch.Tensor) -> torch.Tensor:
    """Upper Cholesky factor (inputs, inputs) of the inverse of the damped Gram matrix, in double precision."""
    known: torch.Tensor | None = _factors.get(gram)
    if known is None:
        matrix = gram.to(torch.float64, copy=True)
        diagonal = matrix.diagonal()
        diagonal[diagonal == 0] = 1
        diagonal += DAMPING * diagonal.mean()
        # One name for all three, so that no two of them are held for longer than it takes.
        matrix = torch.linalg.cholesky(matrix)
        matrix = torch.cholesky_inverse(matrix)
        known = _factors[gram] = torch.linalg.cholesky(matrix, upper=True)
    return known


def admm(weight: torch.Tensor, statistics: Statistics, level: Sparsity) -> torch.Tensor:
    """ADMM with gradual pruning (Boza 2024, "Fast and Effective Weight Update", arXiv 2401.02938, algorithms 1 and 2).

    Columns are scaled by their input norms first, damping 0.1 of the mean diagonal, 20 iterations, sparsity on a cubic
    schedule over the first 15, penalty 1. Differently from the authors' code, a pattern N:M is in force from the first
    iteration. Returns the pruned weight (outputs, inputs) in float32.
    """
    assert statistics.gram is not None
    outputs, inputs = weight.shape
    scale = statistics.square_sum.sqrt().clamp_min(1e-8)
    gram = statistics.gram / scale[:, None] / scale[None]
    gram = gram + ADMM_DAMPING * torch.eye(inputs, dtype=gram.dtype, device=gram.device) * gram.diagonal().mean()
    target = weight.double() * scale
    product = target @ gram
    inverse = torch.cholesky_inverse(
        torch.linalg.cholesky(gram + torch.eye(inputs, dtype=gram.dtype, device=gram.device))
    )
    total = level.zeros(outputs, inputs)
    current, dual = target, torch.zeros_like(target)
    mask = torch.zeros_like(target, dtype=torch.bool)
    split = target
    for iteration in range(ITERATIONS):
        if iteration < GRADUAL:
            share = 1 - (1 - (iteration + 1) / GRADUAL) ** 3
            mask = smallest((current + dual).abs(), level, int(total * share) if iteration + 1 < GRADUAL else total)
        split = torch.where(mask, 0.0, current + dual)
        dual = dual + current - split
        current = (product + split - dual) @ inverse
    split = torch.where(mask, 0.0, current + dual)
    return (split / scale).float()


def smallest(score: torch.Tensor, level: Sparsity, count: int) -> torch.Tensor:
    """Where a level makes zeros (outputs, inputs): the `count` lowest scores, or those of each pattern."""
    if level.of:
        return pattern_ranks(score, level.of) < level.of - level.keep
    mask = torch.zeros(score.numel(), dtype=torch.bool, device=score.device)
    mask[score.reshape(-1).argsort(stable=True)[:count]] = True
    return mask.reshape(score.shape)


UPDATING: dict[str, Callable[[torch.Tensor, Statistics, Sparsity], torch.Tensor]] = {
    "sparsegpt": sparsegpt,
    "admm": admm,
}


def pack_survivors(pruned: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The non-zero weights in row order, and a bit for each weight (eight to a byte, the lowest first)."""
    alive = pruned.reshape(-1) != 0
    padded = torch.nn.functional.pad(alive.to(torch.uint8), (0, -alive.numel() % 8)).reshape(-1, 8)
    bits = (padded << torch.arange(8, dtype=torch.uint8)).sum(dim=1, dtype=torch.uint8)
    return pruned.reshape(-1)[alive], bits


def unpack_survivors(values: torch.Tensor, bits: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """The inverse of `pack_survivors`."""
    alive = (bits[:, None] >> torch.arange(8, dtype=torch.uint8, device=bits.device)) & 1
    alive = alive.reshape(-1)[: shape[0] * shape[1]].bool()
    weight = torch.zeros(shape[0] * shape[1], dtype=values.dtype, device=values.device)
    return weight.masked_scatter_(alive, values).reshape(shape)

"""Repairs of a narrowed sublayer: what the last linear can do about the inputs it no longer gets.

With X (tokens, inputs) the dense inputs over the calibration text, W (outputs, inputs) the dense weight and K the
inputs that are kept, each returns the weight (outputs, kept) and what has to be added to the bias, or None. Prepared
once for each width; weights are in float64.
"""

from collections.abc import Callable

import torch

from ..zeros.nested import Statistics
from .orders import damped

Repaired = tuple[torch.Tensor, torch.Tensor | None]
ITERATIONS = 30


def bias(weight: torch.Tensor, statistics: Statistics, kept: torch.Tensor) -> Repaired:
    """Adds what the removed inputs contribute on average (FLAP, An et al. 2024, arXiv 2312.11983, eq. 3)."""
    assert statistics.total is not None
    gone = _others(kept, weight.shape[1])
    return weight[:, kept], weight[:, gone] @ (statistics.total[gone] / statistics.count)


def least_squares(weight: torch.Tensor, statistics: Statistics, kept: torch.Tensor) -> Repaired:
    """The weight V that minimises |X W^T - X_K V^T|^2 + |D (V - W_K)^T|^2, with D^2 what `orders.damped` adds.

    Equal to the weights that optimal brain surgery (ZipLM, arXiv 2302.04089) leaves after removing the same inputs,
    but for where the damping pulls: to the dense weight, not to zero.
    """
    gram, gone = _gram(statistics), _others(kept, weight.shape[1])
    moved = torch.linalg.solve(damped(gram, statistics.count)[kept][:, kept], gram[kept][:, gone] @ weight[:, gone].T)
    return weight[:, kept] + moved.T, None


def mask(weight: torch.Tensor, statistics: Statistics, kept: torch.Tensor) -> Repaired:
    """One factor for each kept input, by least squares on the output.

    The mask tuning of Kwon et al. 2022 (arXiv 2204.09656, sec. 3.3), which gradient-free pruning with kernelised
    convex masking (Nova et al. 2023, arXiv 2303.04185) uses too; here solved exactly. Ties factors to nothing: units
    of several inputs get one each.
    """
    pairs = _gram(statistics) * (weight.T @ weight)
    held = damped(pairs, statistics.count)[kept][:, kept]
    # What the damping adds pulls the factors to one.
    pull = (held - pairs[kept][:, kept]).diagonal()
    factors = torch.linalg.solve(held, pairs[kept].sum(dim=1) + pull)
    return weight[:, kept] * factors, None


def admm(weight: torch.Tensor, statistics: Statistics, kept: torch.Tensor) -> Repaired:
    """The reformation of "Search for Efficient Large Language Models" (Shen et al. 2024, arXiv 2409.17372).

    Alternates a ridge solution over all inputs, its projection onto weights that are zero outside K, and the dual step;
    `ITERATIONS` times from the dense weight. Differently from the paper, inputs are scaled to equal norms first and the
    penalty is 1. What it converges to is the solution of `least_squares` without damping.
    """
    scale = statistics.square_sum.sqrt().clamp_min(1e-8)
    gram = _gram(statistics) / scale[:, None] / scale
    # Inverted once in double precision; the iterations correct themselves, so that single precision does for them.
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram + torch.eye(len(gram)).to(gram))).float()
    target = ((weight * scale) @ gram).float()
    projected, dual = torch.zeros_like(target), torch.zeros_like(target)
    projected[:, kept] = (weight * scale)[:, kept].float()
    for _ in range(ITERATIONS):
        ridge = (target + projected - dual) @ inverse
        projected = torch.zeros_like(target)
        projected[:, kept] = (ridge + dual)[:, kept]
        dual = dual + ridge - projected
    return (projected.double() / scale)[:, kept], None


def _gram(statistics: Statistics) -> torch.Tensor:
    assert statistics.gram is not None
    return statistics.gram


def _others(kept: torch.Tensor, inputs: int) -> torch.Tensor:
    gone = torch.ones(inputs, dtype=torch.bool)
    gone[kept] = False
    return gone.nonzero().reshape(-1)


REPAIRS: dict[str, Callable[[torch.Tensor, Statistics, torch.Tensor], Repaired]] = {
    "bias": bias,
    "mask": mask,
    "least-squares": least_squares,
    "admm": admm,
}

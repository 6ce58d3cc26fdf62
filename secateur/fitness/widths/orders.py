"""Importance orders: which heads and channels of a dense model to keep longest.

All but `taylor` need forward passes only, and look at the last linear of a sublayer: its inputs are what the units
write, its weight (outputs, inputs) what becomes of that. Units are runs of `size` consecutive inputs.
"""

from collections.abc import Callable

import torch

from ..zeros.nested import Statistics

AT_ONCE = 64
"""Optimal brain surgery removes this part of the units that are left, or one, before it looks again."""


def per_unit(values: torch.Tensor, size: int) -> torch.Tensor:
    """Sums of runs of `size`: (inputs,) to (units,)."""
    return values.reshape(-1, size).sum(dim=1)


def wanda_sp(weight: torch.Tensor, statistics: Statistics, size: int) -> torch.Tensor:
    """Sum of |W| times the input's norm (Wanda-sp of An et al. 2024, FLAP, arXiv 2312.11983, sec. 5.1)."""
    return _by_score(per_unit(weight.abs().sum(dim=0) * statistics.square_sum.sqrt(), size))


def flap_scores(weight: torch.Tensor, statistics: Statistics, size: int) -> torch.Tensor:
    """Fluctuation: variance of the input times the squared norm of its column (FLAP, arXiv 2312.11983, eq. 5)."""
    assert statistics.total is not None
    mean = statistics.total / statistics.count
    variance = (statistics.square_sum / statistics.count - mean**2).clamp_min(0)
    return per_unit(variance * weight.square().sum(dim=0), size)


def flap(weight: torch.Tensor, statistics: Statistics, size: int) -> torch.Tensor:
    """By `flap_scores`; what a bias can compensate does not count, so it goes with the repair `bias`."""
    return _by_score(flap_scores(weight, statistics, size))


def output_error(weight: torch.Tensor, statistics: Statistics, size: int) -> torch.Tensor:
    """Greedy removal of the unit that adds least squared output error, given those removed before; no weight changes.

    The error of removing a set R is the sum of M_ij over i, j in R with M = gram * (W^T W), so each step adds
    M_jj + 2 sum_R M_ij (the output approximation of Kwon et al. 2022, arXiv 2204.09656, sec. 3.2, with exact instead
    of Fisher information).
    """
    assert statistics.gram is not None
    pairs = statistics.gram * (weight.T @ weight)
    units = pairs.shape[0] // size
    pairs = pairs.reshape(units, size, units, size).sum(dim=(1, 3))
    added = pairs.diagonal().clone()
    removed = []
    for _ in range(units):
        unit = int(added.argmin())
        removed.append(unit)
        added += 2 * pairs[unit]
        added[unit] = torch.inf
    return torch.tensor(removed[::-1])


def obs(weight: torch.Tensor, statistics: Statistics, size: int) -> torch.Tensor:
    """Structured optimal brain surgery (ZipLM, Kurtic et al. 2023, arXiv 2302.04089, algorithm 1).

    Removes the unit of least tr(W_u (H^-1_uu)^-1 W_u^T), updates the weights that are left and the inverse Hessian, and
    looks again. Differently from the paper, a 64th part of the channels left goes at once, and damping is `damped`. The
    updated weights themselves are those of the repair `least_squares` at every width.
    """
    assert statistics.gram is not None
    inverse = torch.linalg.inv(damped(statistics.gram, statistics.count))
    device = weight.device
    current, alive = weight.double().clone(), torch.arange(weight.shape[1] // size, device=device)
    removed: list[int] = []
    while len(alive):
        units = len(alive)
        columns = current.reshape(current.shape[0], units, size)
        blocks = inverse.reshape(units, size, units, size).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
        error = torch.einsum("oui,uij,ouj->u", columns, torch.linalg.inv(blocks), columns)
        worst = error.argsort(stable=True)[: max(1, units // AT_ONCE)]
        removed += alive[worst].tolist()
        keep = torch.ones(units, dtype=torch.bool, device=device)
        keep[worst] = False
        out = (worst[:, None] * size + torch.arange(size, device=device)).reshape(-1)
        rest = keep.repeat_interleave(size).nonzero().reshape(-1)
        solved = torch.linalg.solve(inverse[out][:, out], inverse[out][:, rest])
        current = current[:, rest] - current[:, out] @ solved
        inverse = inverse[rest][:, rest] - inverse[rest][:, out] @ solved
        alive = alive[keep]
    return torch.tensor(removed[::-1])


def damped(gram: torch.Tensor, count: int) -> torch.Tensor:
    """The Gram matrix of `count` tokens with a share of its diagonal added, so that it can be inverted.

    The share is inputs / tokens: the fewer tokens, the less their correlations are worth. Published methods add 1 % of
    the mean diagonal; where one input is a thousand times larger than the others, as in SmolLM2's block 11, that is far
    more than the others have, and where tokens are few it is far too little.
    """
    diagonal = gram.diagonal()
    share = len(gram) / count
    return gram + torch.diag(share * diagonal + 1e-8 * diagonal.mean().clamp_min(1e-12))


def _by_score(scores: torch.Tensor) -> torch.Tensor:
    return scores.argsort(descending=True, stable=True)


ACTIVATION_ORDERS: dict[str, Callable[[torch.Tensor, Statistics, int], torch.Tensor]] = {
    "wanda-sp": wanda_sp,
    "flap": flap,
    "output-error": output_error,
    "obs": obs,
}
"""(weight (outputs, inputs) float64, statistics of its input, size of a unit) -> units, most important first."""
NEEDS_GRAM = ("output-error", "obs")
ORDERS = ("magnitude", "taylor", *ACTIVATION_ORDERS)
"""`magnitude`: L2 norm of all weights of a unit. `taylor`: sum of |weight * gradient| over them (LLM-Pruner, Ma et al.
2023, arXiv 2305.11627, eq. 4, first order), with the gradients of a few sequences added up."""

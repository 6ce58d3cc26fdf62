"""How far levels of fewer bits are off, matrix by matrix: the error by which llama.cpp's open `--target-bpw` allots."""

import torch

from ...space.anatomy import Linear
from ...space.space import Space
from ..subnets.weights import Weights
from ..zeros.level_store import as_matrix

TRIMMED = 0.01
"""Share of rows that are left out at either end."""
SENSITIVE = ("q_proj", "k_proj", "o_proj", "down_proj")
"""Linears whose errors count for more the fewer bits they have."""


def relative_error(whole: torch.Tensor, stored: torch.Tensor, importance: torch.Tensor | None) -> float:
    """Of a matrix (outputs, inputs): each row's squared errors, weighted by its inputs' mean squares, over its own
    squares weighted alike; the mean over rows without the smallest and largest 1 %, times their number.

    As in the author's branch of llama.cpp (pull request 15550 as of autumn 2026), on all rows and without the means of
    activations, which an importance matrix need not have.
    """
    weights = torch.ones(whole.shape[1], device=whole.device) if importance is None else importance.to(whole.device)
    squares = (whole.float().square() @ weights).clamp_min(1e-30)
    rows = ((stored.float() - whole.float()).square() @ weights / squares).sort().values
    cut = int(TRIMMED * len(rows))
    return float(rows[cut : len(rows) - cut].mean()) * len(rows)


def stored_errors(space: Space, weights: Weights) -> list[list[float]]:
    """For each gene what each of its levels comes to over its matrices; zeros for genes of others than bits."""
    found = [[0.0] * len(gene.levels) for gene in space.genes]
    for index, gene in enumerate(space.genes):
        if "bits" not in gene.features:
            continue
        for level in range(1, len(gene.levels)):
            states = space.states(space.dense.with_level(index, level))
            for block, position in gene.members:
                matrix = space.anatomy.blocks[block].matrices[position]
                dense = weights.linear(block, position, space.states(space.dense)[block])
                stored = weights.linear(block, position, states[block])
                treatment = states[block].level(matrix.name)
                importance = weights.importance(block, position, states[block])
                error = relative_error(as_matrix(matrix, dense), as_matrix(matrix, stored), importance)
                bits = 8 * treatment.bytes(matrix.outputs, matrix.inputs, 0) / matrix.weights
                found[index][level] += error * _counts(matrix, bits)
    return found


def _counts(matrix: Linear, bits: float) -> float:
    return 1 + 2 ** (3 - bits) if matrix.name.endswith(SENSITIVE) else 1.0

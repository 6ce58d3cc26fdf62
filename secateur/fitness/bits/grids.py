"""Weights rounded to grids of integers, and the rows of bytes that they are kept as (`space.grids` has the layout)."""

from collections.abc import Callable

import torch

from ...space.grids import SCALE, Grid
from ...space.treatments import DENSE, Sparsity
from ..zeros.updating import BLOCK, inverse_factor, smallest

LARGEST_FLOAT = 448.0
"""Of E4M3."""
LEAST = 2.0**-24
"""Of half precision, besides nothing."""
NORM, BETA, GROWTH, STEPS = 0.7, 10.0, 1.01, 20
"""Of HQQ as its authors set it: the norm's exponent, the penalty, its growth, and iterations at most."""

Find = Callable[[torch.Tensor, Grid], tuple[torch.Tensor, torch.Tensor]]
"""From groups (..., weights) scales in half precision and zero points, both (..., 1) in float32."""


def nearest(groups: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, torch.Tensor]:
    """A grid from the smallest to the largest weight, zero on it; symmetric: as far to either side as the largest
    absolute value (as compressed-tensors 0.19 has them, `calculate_qparams`)."""
    top = 2**grid.width - 1
    low, high = groups.amin(-1, keepdim=True).clamp_max(0), groups.amax(-1, keepdim=True).clamp_min(0)
    if grid.float8:
        return _scale(torch.maximum(-low, high) / LARGEST_FLOAT), torch.zeros_like(low)
    if grid.symmetric:
        return _scale(torch.maximum(-low, high) * 2 / top, down=True), torch.full_like(low, float((top + 1) // 2))
    scale = _scale((high - low) / top)
    return scale, _point(-low / scale, grid)


def hqq(groups: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, torch.Tensor]:
    """The same scales, and zero points by half-quadratic splitting: they minimise the errors' norm of exponent 0.7,
    which outliers weigh less in than in a square (Badri and Shaji 2023, "Half-Quadratic Quantization", eqs. 5 to 8).

    Zero points are in half precision, between the steps, which is all that they can be moved by. Where that leaves
    larger errors than the nearest, those of the nearest stay.
    """
    scale, first = nearest(groups, grid)
    top, point, beta, best = 2**grid.width - 1, first.clone(), BETA, float("inf")
    for _ in range(STEPS):
        codes = (groups / scale + point).round().clamp(0, top)
        back = (codes - point) * scale
        error = groups - back
        if (current := float(error.abs().mean())) >= best:
            break
        best = current
        size = error.abs().clamp_min(1e-12)
        kept = error.sign() * (size - size ** (NORM - 1) / beta).clamp_min(0)
        point = (codes - (groups - kept) / scale).mean(-1, keepdim=True)
        beta *= GROWTH
    point = _point(point, grid)

    def norm(points: torch.Tensor) -> torch.Tensor:
        codes = (groups / scale + points).round().clamp(0, top)
        return (groups - (codes - points) * scale).abs().pow(NORM).sum(-1, keepdim=True)

    return scale, torch.where(norm(point) < norm(first), point, first)


def rounded(weights: torch.Tensor, grid: Grid, find: Find = nearest) -> torch.Tensor:
    """Packed rows (outputs, bytes) of a matrix (outputs, inputs), each weight rounded by itself."""
    outputs, inputs = weights.shape
    groups = weights.float().reshape(outputs, grid.groups(inputs), -1)
    scales, points = find(groups, grid)
    return packed(_codes(groups, scales, points, grid).reshape(outputs, inputs), scales[..., 0], points[..., 0], grid)


def gptq(weights: torch.Tensor, gram: torch.Tensor, grid: Grid, zeros: Sparsity = DENSE) -> torch.Tensor:
    """Packed rows of a matrix, column after column: what rounding one leaves of error is made up for by those after
    it (Frantar et al. 2022, arXiv 2210.17323, algorithm 1; damping 1 % of the mean diagonal, blocks of 128 columns, a
    group's scales are set when it is reached, columns in their own order).

    With `zeros` both are done in the same pass (Frantar and Alistarh 2023, arXiv 2301.00774, sec. 3.5): masks are
    chosen as SparseGPT chooses them, and what is pruned leaves its error to those after it like what is rounded.

    `gram`: (inputs, inputs), of the inputs.
    """
    left = weights.double().clone()
    outputs, inputs = left.shape
    size, upper = grid.group or inputs, inverse_factor(gram)
    codes = torch.zeros((outputs, inputs), device=left.device)
    found: list[tuple[torch.Tensor, torch.Tensor]] = []
    total, width = zeros.zeros(outputs, inputs), BLOCK // zeros.of * zeros.of if zeros.of else BLOCK
    for start in range(0, inputs, width):
        stop = min(start + width, inputs)
        block, factor = left[:, start:stop].clone(), upper[start:stop, start:stop]
        errors, weight = torch.zeros_like(block), factor.diagonal() ** 2
        mask = torch.zeros_like(block, dtype=torch.bool)
        if zeros.steps:
            mask = smallest(block**2 / weight, zeros, total * stop // inputs - total * start // inputs)
        for column in range(stop - start):
            place = start + column
            if place % size == 0:
                # Of the next blocks' columns what this block leaves them is not known yet, as in the authors' code.
                here = torch.cat([block[:, column:], left[:, stop:]], dim=1)[:, :size]
                found.append(nearest(here.float(), grid))
            if zeros.of and column % zeros.of == 0:
                group = slice(column, column + zeros.of)
                mask[:, group] = smallest(block[:, group] ** 2 / weight[group], zeros, 0)
            scale, point = found[-1]
            value = block[:, column : column + 1]
            kept = torch.where(mask[:, column : column + 1], 0.0, value)
            code = _codes(kept.float(), scale, point, grid)
            codes[:, place] = code[:, 0]
            error = (value - _values(code, scale, point, grid)) / factor[column, column]
            block[:, column + 1 :] -= error * factor[column, column + 1 :][None]
            errors[:, column] = error[:, 0]
        left[:, stop:] -= errors @ upper[start:stop, stop:]
    scales, points = (torch.cat(one, dim=1) for one in zip(*found, strict=True))
    return packed(codes, scales, points, grid)


def _point(values: torch.Tensor, grid: Grid) -> torch.Tensor:
    """As it is stored."""
    return values.half().float() if grid.half else values.round().clamp(0, 2**grid.width - 1)


def _scale(values: torch.Tensor, down: bool = False) -> torch.Tensor:
    """As it is stored, in half precision, and none of them zero.

    `down`: not rounded up. The largest weight of a symmetric grid is half way between two steps, and would fall to the
    nearer zero by chance.
    """
    halves = values.clamp(LEAST, torch.finfo(torch.float16).max).half()
    if down:
        halves = torch.where(halves.float() > values, (halves.view(torch.int16) - 1).view(torch.float16), halves)
    return halves.clamp_min(LEAST).float()


def _codes(weights: torch.Tensor, scales: torch.Tensor, points: torch.Tensor, grid: Grid) -> torch.Tensor:
    if grid.float8:
        bytes_ = (weights / scales).clamp(-LARGEST_FLOAT, LARGEST_FLOAT).to(torch.float8_e4m3fn).view(torch.uint8)
        return bytes_.float()
    return (weights / scales + points).round().clamp(0, 2**grid.width - 1)


def _values(codes: torch.Tensor, scales: torch.Tensor, points: torch.Tensor, grid: Grid) -> torch.Tensor:
    if grid.float8:
        return codes.to(torch.uint8).view(torch.float8_e4m3fn).float() * scales
    return (codes - points) * scales


# -- bytes ---------------------------------------------------------------------------------------------------------


def packed(codes: torch.Tensor, scales: torch.Tensor, points: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Rows (outputs, bytes) of codes (outputs, inputs), scales and zero points (outputs, groups), on the CPU."""
    parts = [_joined(codes, grid.width), _halves(scales)]
    if not grid.symmetric:
        parts.append(_halves(points) if grid.half else _joined(points, grid.width))
    return torch.cat(parts, dim=1).contiguous()


def unpacked(rows: torch.Tensor, inputs: int, grid: Grid) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The inverse of `packed`, in float32, where the rows are."""
    groups = grid.groups(inputs)
    weights = -(-grid.width * inputs // 8)
    codes = _split(rows[:, :weights], grid.width, inputs)
    scales = _from_halves(rows[:, weights : weights + SCALE * groups])
    rest = rows[:, weights + SCALE * groups :]
    if grid.symmetric:
        points = torch.full_like(scales, 0.0 if grid.float8 else float(2 ** (grid.width - 1)))
    else:
        points = _from_halves(rest) if grid.half else _split(rest, grid.width, groups)
    return codes, scales, points


def taken_apart(rows: torch.Tensor, inputs: int, grid: Grid) -> torch.Tensor:
    """Weights (outputs, inputs) in float32 of packed rows."""
    codes, scales, points = unpacked(rows, inputs, grid)
    grouped = codes.reshape(len(rows), scales.shape[1], -1)
    return _values(grouped, scales[..., None], points[..., None], grid).reshape(len(rows), inputs)


def _halves(numbers: torch.Tensor) -> torch.Tensor:
    return numbers.half().contiguous().view(torch.uint8).cpu()


def _from_halves(rows: torch.Tensor) -> torch.Tensor:
    # A single row is contiguous whatever its stride, by which a view is refused.
    return rows.clone(memory_format=torch.contiguous_format).view(torch.float16).float()


def _joined(numbers: torch.Tensor, width: int) -> torch.Tensor:
    """Numbers (rows, count) of `width` bits as bytes, the lowest bits first, the last byte filled up."""
    count = numbers.shape[1]
    wide = torch.nn.functional.pad(numbers.cpu().to(torch.int64), (0, -count % 8)).reshape(len(numbers), -1, 8)
    eight = (wide << (width * torch.arange(8))).sum(-1, keepdim=True)
    found = ((eight >> (8 * torch.arange(width))) & 255).to(torch.uint8)
    return found.reshape(len(numbers), -1)[:, : -(-width * count // 8)]


def _split(rows: torch.Tensor, width: int, count: int) -> torch.Tensor:
    """The inverse of `_joined`."""
    steps = torch.arange(8, device=rows.device)
    wide = torch.nn.functional.pad(rows, (0, -rows.shape[1] % width)).reshape(len(rows), -1, width).to(torch.int64)
    eight = (wide << (8 * steps[:width])).sum(-1, keepdim=True)
    numbers: torch.Tensor = (eight >> (width * steps)) & (2**width - 1)
    return numbers.reshape(len(rows), -1)[:, :count].float()

"""Weights of blocks of llama.cpp's types, on whatever device they lie; equal to `gguf.quants.dequantize`.

A block is a row of bytes. The layouts are those of ggml's `ggml-common.h` (MIT), which gguf's own reader has as numpy.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from gguf import quants

from ...space.bits import TYPES

Parts = list[torch.Tensor]
"""Bytes of every block, (blocks, length) each."""


def decode(kind: str, packed: torch.Tensor) -> torch.Tensor:
    """Weights (rows, columns) in float32 of packed rows (rows, bytes), of a type of `TYPES`."""
    stored = TYPES[kind]
    rows = packed.shape[0]
    if kind == "F16":
        return packed.contiguous().view(torch.float16).float()
    lengths, weights = _LAYOUTS[kind]
    blocks = packed.reshape(-1, stored.bytes)
    return weights(list(torch.split(blocks, lengths, dim=1))).reshape(rows, -1)


def _half(part: torch.Tensor) -> torch.Tensor:
    return part.contiguous().view(torch.float16).float()


def _signed(part: torch.Tensor) -> torch.Tensor:
    return part.contiguous().view(torch.int8).float()


def _shifted(part: torch.Tensor, shifts: range, group: int, mask: int) -> torch.Tensor:
    """Every `group` bytes once for each shift, masked: (blocks, groups, shifts, group)."""
    steps = torch.tensor(list(shifts), dtype=torch.uint8, device=part.device)
    return (part.reshape(len(part), -1, 1, group) >> steps[:, None]) & mask


def _spread(part: torch.Tensor, shifts: range, mask: int) -> torch.Tensor:
    """The fields of every byte, one after the other: (blocks, bytes * shifts)."""
    steps = torch.tensor(list(shifts), dtype=torch.uint8, device=part.device)
    return ((part[:, :, None] >> steps) & mask).flatten(1)


NIBBLES, PAIRS, SINGLES = range(0, 8, 4), range(0, 8, 2), range(8)


def _nibbles(part: torch.Tensor, group: int = 16) -> torch.Tensor:
    return _shifted(part, NIBBLES, group, 15).flatten(1)


def _fifth(part: torch.Tensor) -> torch.Tensor:
    """32 bits of four bytes, as the fifth bits of numbers."""
    return _spread(part, SINGLES, 1) << 4


def _q4_0(parts: Parts) -> torch.Tensor:
    d, qs = parts
    return _half(d) * (_nibbles(qs).float() - 8)


def _q4_1(parts: Parts) -> torch.Tensor:
    d, m, qs = parts
    return _half(d) * _nibbles(qs).float() + _half(m)


def _q5_0(parts: Parts) -> torch.Tensor:
    d, qh, qs = parts
    return _half(d) * ((_nibbles(qs) | _fifth(qh)).float() - 16)


def _q5_1(parts: Parts) -> torch.Tensor:
    d, m, qh, qs = parts
    return _half(d) * (_nibbles(qs) | _fifth(qh)).float() + _half(m)


def _q8_0(parts: Parts) -> torch.Tensor:
    d, qs = parts
    return _signed(qs) * _half(d)


def _of_groups(scale: torch.Tensor, values: torch.Tensor, offset: torch.Tensor | None = None) -> torch.Tensor:
    """One scale, and an offset that is taken off, for each group of the values of a block."""
    grouped = values.reshape(*scale.shape, -1).float() * scale[:, :, None]
    return (grouped if offset is None else grouped - offset[:, :, None]).flatten(1)


def _q2_k(parts: Parts) -> torch.Tensor:
    scales, qs, d, least = parts
    values = _shifted(qs, PAIRS, 32, 3)
    return _of_groups(_half(d) * (scales & 15).float(), values, _half(least) * (scales >> 4).float())


def _q3_k(parts: Parts) -> torch.Tensor:
    high, qs, scales, d = parts
    low = _shifted(scales[:, :8], NIBBLES, 8, 15).flatten(1)
    upper = _shifted(scales[:, 8:], PAIRS, 4, 3).flatten(1)
    scale = _half(d) * ((low | (upper << 4)).float() - 32)
    # Where the bit is not set, four are taken off.
    values = _shifted(qs, PAIRS, 32, 3).flatten(1).float()
    missing = (_shifted(high, SINGLES, 32, 1).flatten(1) ^ 1).float()
    return _of_groups(scale, values - 4 * missing)


def _scales(packed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Eight scales and eight offsets of six bits each, (blocks, 8)."""
    d, m, both = torch.split(packed, 4, dim=1)
    scales = torch.cat([d & 63, (both & 15) | ((d >> 2) & 48)], dim=1)
    return scales.float(), torch.cat([m & 63, (both >> 4) | ((m >> 2) & 48)], dim=1).float()


def _q4_k(parts: Parts) -> torch.Tensor:
    d, least, packed, qs = parts
    scales, offsets = _scales(packed)
    return _of_groups(_half(d) * scales, _nibbles(qs, 32), _half(least) * offsets)


def _q5_k(parts: Parts) -> torch.Tensor:
    d, least, packed, qh, qs = parts
    scales, offsets = _scales(packed)
    values = _nibbles(qs, 32) | (_shifted(qh, SINGLES, 32, 1).flatten(1) << 4)
    return _of_groups(_half(d) * scales, values, _half(least) * offsets)


def _q6_k(parts: Parts) -> torch.Tensor:
    ql, qh, scales, d = parts
    values = _nibbles(ql, 64) | (_shifted(qh, PAIRS, 32, 3).flatten(1) << 4)
    return _of_groups(_half(d) * _signed(scales), values.float() - 32)


def _table(kind: Any, device: torch.device) -> torch.Tensor:
    """The values that numbers of few bits stand for, of gguf's tables."""
    return _tables(kind).to(device)


@cache
def _tables(kind: Any) -> torch.Tensor:
    if hasattr(kind, "kvalues"):
        return torch.tensor(kind.kvalues, dtype=torch.float32)
    kind.init_grid()
    return torch.from_numpy(np.array(kind.grid).reshape(kind.grid_shape))


def _signs(bits: torch.Tensor) -> torch.Tensor:
    """1 or -1 for each bit of the bytes, (blocks, bytes * 8)."""
    return 1.0 - 2.0 * _spread(bits, SINGLES, 1).float()


def _iq4_nl(parts: Parts) -> torch.Tensor:
    d, qs = parts
    return _half(d) * _table(quants.IQ4_NL, d.device)[_nibbles(qs).long()]


def _iq4_xs(parts: Parts) -> torch.Tensor:
    d, upper, low, qs = parts
    scales = (_spread(low, NIBBLES, 15) | (_spread(upper, PAIRS, 3) << 4)).float() - 32
    return _of_groups(_half(d) * scales, _table(quants.IQ4_NL, d.device)[_nibbles(qs).long()])


def _iq3_s(parts: Parts) -> torch.Tensor:
    d, qs, qh, signs, scales = parts
    places = qs.long() | (_spread(qh, SINGLES, 1).long() << 8)
    values = _table(quants.IQ3_S, d.device)[places].flatten(1) * _signs(signs)
    return _of_groups(_half(d) * (1 + 2 * _spread(scales, NIBBLES, 15).float()), values)


def _iq3_xxs(parts: Parts) -> torch.Tensor:
    d, qs, words = parts
    bytes_ = words.reshape(len(words), 8, 4).long()
    word = bytes_[:, :, 0] | (bytes_[:, :, 1] << 8) | (bytes_[:, :, 2] << 16) | (bytes_[:, :, 3] << 24)
    scale = _half(d) * (0.5 + (word >> 28).float()) * 0.5
    numbers = (word[:, :, None] >> torch.tensor([0, 7, 14, 21], device=d.device)) & 127
    signs = _all_signs(d.device)[numbers.flatten(1)]
    values = _table(quants.IQ3_XXS, d.device)[qs.long()].flatten(1) * _signs(signs)
    return _of_groups(scale, values)


def _all_signs(device: torch.device) -> torch.Tensor:
    return torch.frombuffer(bytearray(quants.IQ2_XXS.ksigns), dtype=torch.uint8).to(device)


def _iq2_s(parts: Parts) -> torch.Tensor:
    d, qs, signs, qh, scales = parts
    places = qs.long() | (_spread(qh, PAIRS, 3).long() << 8)
    values = _table(quants.IQ2_S, d.device)[places].flatten(1) * _signs(signs)
    return _of_groups(_half(d) * (0.5 + _spread(scales, NIBBLES, 15).float()) * 0.25, values)


_LAYOUTS: dict[str, tuple[list[int], Callable[[Parts], torch.Tensor]]] = {
    "Q4_0": ([2, 16], _q4_0),
    "Q4_1": ([2, 2, 16], _q4_1),
    "Q5_0": ([2, 4, 16], _q5_0),
    "Q5_1": ([2, 2, 4, 16], _q5_1),
    "Q8_0": ([2, 32], _q8_0),
    "Q2_K": ([16, 64, 2, 2], _q2_k),
    "Q3_K": ([32, 64, 12, 2], _q3_k),
    "Q4_K": ([2, 2, 12, 128], _q4_k),
    "Q5_K": ([2, 2, 12, 32, 128], _q5_k),
    "Q6_K": ([128, 64, 16, 2], _q6_k),
    "IQ4_NL": ([2, 16], _iq4_nl),
    "IQ4_XS": ([2, 2, 4, 128], _iq4_xs),
    "IQ3_S": ([2, 64, 8, 32, 4], _iq3_s),
    "IQ3_XXS": ([2, 64, 32], _iq3_xxs),
    "IQ2_S": ([2, 32, 32, 8, 8], _iq2_s),
}
"""Lengths of the parts of a block in bytes, and what makes weights (blocks, weights) of them."""

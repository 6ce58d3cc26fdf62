"""MLX's `quantization` in config.json: bits and size of groups by module."""

import json
from typing import Any

from ...space.grids import Grid
from ..features import Subject
from .form import Files, Format, of
from .linears import linears
from .schemes import check_inside, commonest, grids

GROUPS, WIDTHS = (32, 64, 128), (2, 3, 4, 5, 6, 8)
"""What its kernels have."""


def write(subject: Subject) -> Files:
    """The commonest grid is everyone's, others stand by their names; `false` is what is not rounded.

    Its own rounding is asymmetric, with scales and offsets in half precision.
    """
    found, base = dict(grids(subject)), commonest(subject)
    config: dict[str, Any] = {**_settings(base), "mode": "affine"}
    for name, *_ in linears(subject):
        if (level := found.get(name)) != base:
            config[name] = _settings(level) if level is not None else False
    for name in (subject.anatomy.embedding, subject.anatomy.head):
        config[name.removesuffix(".weight")] = False
    return {"quantization.json": json.dumps({"quantization": config}, indent=1) + "\n"}


def _settings(level: Grid) -> dict[str, Any]:
    return {"group_size": level.group, "bits": level.width}


def refuses(subject: Subject) -> str | None:
    """Why these grids are none of its own; None where they are."""
    found = dict(grids(subject))
    if not found:
        return "no linear is on a grid of integers"
    for name, level in found.items():
        if level.float8 or level.symmetric or level.group not in GROUPS or level.width not in WIDTHS:
            return f"{name} has {level}; it has zero points, groups of {', '.join(map(str, GROUPS))}, and no floats"
    return check_inside(subject)


MLX = Format("mlx", "the quantization of its config.json", of("grid"), write, refuses=refuses, head=True)

"""EvoPress's levels of sparsity by linear, with the numbers that they count in."""

import json

from ...space.anatomy import Anatomy
from ...space.treatments import STEPS
from ..changes import Changes, located, share
from ..features import Subject
from .form import Content, Files, Format, of
from .linears import check_linears, linears, named_levels

HALF = 0.5 / STEPS


def write(subject: Subject) -> Files:
    """`name: level` lines, and what a level means: a share of sparsity + level * weights_diff / numel.

    EvoPress's level 0 is the overall sparsity, and its step a whole number of weights: here a quarter of a per cent of
    the smallest linear, so that no share is off by more than an eighth. Its database has to be made with these numbers,
    `num_levels` on either side.
    """
    found = [(name, linear.weights, level.steps) for name, linear, level in linears(subject)]
    middle = round(sum(weights * steps for _, weights, steps in found) / sum(weights for _, weights, _ in found))
    step = max(1, min(weights for _, weights, _ in found) // (2 * STEPS))
    levels = {name: round((steps - middle) * weights / STEPS / step) for name, weights, steps in found}
    meta = {
        "sparsity": middle / STEPS,
        "weights_diff": step,
        "num_levels": max(map(abs, levels.values())),
        "shares": {name: steps / STEPS for name, _, steps in found},
    }
    lines = "".join(f"{name}: {level}\n" for name, level in levels.items())
    return {"levels.txt": lines, "metadata.json": json.dumps(meta, indent=1) + "\n"}


def reads(content: Content) -> bool:
    """Levels by name that count in EvoPress's numbers."""
    return content.leveled and "weights_diff" in content.numbers


def read(content: Content, anatomy: Anatomy) -> Changes:
    """Level l is a share of s + l * weights_diff / numel, `s` being the database's sparsity."""
    lines, numbers, where = content.lines, content.numbers, content.where
    changes = Changes()
    for name, level in named_levels(lines, where).items():
        layer, inside = located(name, anatomy, where)
        weights = next(linear.weights for linear in anatomy.blocks[layer].linears if linear.name == inside)
        value = float(numbers["sparsity"]) + level * float(numbers["weights_diff"]) / weights
        # A level is a whole number: half a step below nothing is rounding.
        changes.treated[layer, inside] = share(max(0.0, value) if value > -HALF else value, f"{where}, {name}")
    return changes


EVOPRESS_LEVELS = Format(
    "evopress-levels",
    "its levels by linear",
    of("shares"),
    write,
    refuses=check_linears,
    reads=reads,
    read=read,
    head=True,
)

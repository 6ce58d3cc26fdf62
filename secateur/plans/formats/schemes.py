"""Grids of integers as compressed-tensors says them: `config_groups` with the modules that each is for."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ...space.anatomy import Anatomy
from ...space.errors import SecateurError
from ...space.grids import Grid
from ...space.state import outside_of
from ..changes import Changes
from ..features import Subject

MODIFIERS = {"gptq": "GPTQModifier", "nearest": "QuantizationModifier"}
"""What llm-compressor calls ways of rounding that it has."""


def grids(subject: Subject) -> Iterator[tuple[str, Grid]]:
    """Full name and grid of every linear that has one, in module order."""
    for block, state in zip(subject.anatomy.blocks, subject.states, strict=True):
        for position, linear in enumerate(block.linears):
            level = state.treated.get(linear.name)
            if isinstance(level, Grid):
                yield subject.anatomy.matrix_name(block.index, position), level


def check_grids(subject: Subject) -> str | None:
    """Why the grids of a plan cannot be said so; None where they can."""
    for name, level in grids(subject):
        if level.half:
            return f"{name} has zero points in half precision, and it has integers"
    return check_inside(subject)


def check_inside(subject: Subject) -> str | None:
    """Why embedding or head cannot be stored as they are to be; None where nothing is done to them."""
    treated = outside_of(subject.anatomy.blocks, subject.states).treated
    return f"{treated[0][0]} is stored in fewer bits, and it stores the linears of layers so" if treated else None


def stage(subject: Subject) -> Mapping[str, Any]:
    """The quantization stage of a recipe; empty where no linear has a grid. Modules are named, so that no other is
    meant."""
    groups: dict[Grid, list[str]] = {}
    for name, level in grids(subject):
        groups.setdefault(level, []).append(name)
    if not groups:
        return {}
    way = subject.plan.recipe.get("quantizer", "gptq") if subject.plan is not None else "gptq"
    config = {
        f"group_{number}": {"targets": [f"re:^{re.escape(name)}$" for name in names], "weights": scheme(level)}
        for number, (level, names) in enumerate(sorted(groups.items(), key=lambda pair: str(pair[0])))
    }
    modifier = MODIFIERS.get(str(way), MODIFIERS["nearest"])
    return {"quant_stage": {"quant_modifiers": {modifier: {"ignore": ["lm_head"], "config_groups": config}}}}


def scheme(level: Grid) -> dict[str, Any]:
    """A grid as `QuantizationArgs` has it."""
    grouped = {"strategy": "group", "group_size": level.group} if level.group else {"strategy": "channel"}
    kind = "float" if level.float8 else "int"
    return {"num_bits": level.width, "type": kind, **grouped, "symmetric": level.symmetric, "dynamic": False}


def grid_of(values: Mapping[str, Any], where: str) -> Grid:
    """The inverse of `scheme`; raises SecateurError for what is no grid of ours."""
    strategy, width = str(values.get("strategy") or "channel"), int(values["num_bits"])
    group = int(values.get("group_size") or 0) if strategy == "group" else 0
    float8 = values.get("type", "int") == "float"
    if strategy not in ("group", "channel") or (float8 and (width != 8 or group)) or not 2 <= width <= 8:
        raise SecateurError(f"{where}: weights of {width} bits by {strategy} have no level here")
    return Grid(width, group, symmetric=float8 or bool(values.get("symmetric", True)), float8=float8)


def read_groups(groups: Mapping[str, Any], anatomy: Anatomy, where: str) -> Changes:
    """What groups say of the linears that their targets match."""
    changes = Changes()
    names = {
        anatomy.matrix_name(block.index, position): (block.index, linear)
        for block in anatomy.blocks
        for position, linear in enumerate(block.linears)
    }
    for group in groups.values():
        level = grid_of(group["weights"], where)
        for target in group["targets"]:
            found = [
                place
                for name, place in names.items()
                if target in ("Linear", name) or (target[:3] == "re:" and re.match(target[3:], name))
            ]
            if not found:
                raise SecateurError(f"{where}: nothing in the model matches the target '{str(target)[:80]}'")
            for block, linear in found:
                if linear.inputs % level.multiple:
                    raise SecateurError(f"{where}: {linear.name} has {linear.inputs} inputs, no whole {level}")
                changes.treated[block, linear.name] = level
    return changes

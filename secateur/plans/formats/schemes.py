"""Grids of integers as compressed-tensors says them: `config_groups` with the modules that each is for."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from ...space.anatomy import Anatomy
from ...space.both import Both
from ...space.errors import SecateurError
from ...space.grids import Grid
from ...space.state import outside_of
from ...space.treatments import Treatment
from ..changes import places
from ..features import Subject

MODIFIERS = {"gptq": "GPTQModifier", "nearest": "QuantizationModifier"}
"""What llm-compressor calls ways of rounding that it has."""


WEIGHTS = {
    *("num_bits", "type", "strategy", "group_size", "symmetric", "dynamic"),
    *("actorder", "observer", "observer_kwargs", "zp_dtype", "scale_dtype"),
}
"""What may be said of weights; what is not here makes other weights than a grid of ours."""
PRESET = re.compile(r"W([2-8])A16(_ASYM)?")
"""Its schemes of weights alone: in groups of 128."""


def grids(subject: Subject) -> Iterator[tuple[str, Grid]]:
    """Full name and grid of every linear that has one, with zeros or without, in module order."""
    for block, state in zip(subject.anatomy.blocks, subject.states, strict=True):
        for position, linear in enumerate(block.linears):
            level = grid_part(state.level(linear.name))
            if level is not None:
                yield subject.anatomy.matrix_name(block.index, position), level


def grid_part(level: Treatment) -> Grid | None:
    """The grid of a level that has one."""
    return level.grid if isinstance(level, Both) else level if isinstance(level, Grid) else None


def commonest(subject: Subject) -> Grid:
    """The grid that most linears are on, of those that have one."""
    [(base, _)] = Counter(dict(grids(subject)).values()).most_common(1)
    return base


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


def whole(value: Any, where: str) -> int:
    """A whole number that a file has to have there."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise SecateurError(f"{where}: write a whole number, not {str(value)[:40]!r}")
    return value


def flag(value: Any, where: str) -> bool:
    """True or false, that a file has to have there."""
    if not isinstance(value, bool):
        raise SecateurError(f"{where}: write true or false, not {str(value)[:40]!r}")
    return value


def made(where: str, width: int, group: int, symmetric: bool, float8: bool = False) -> Grid:
    """A grid as a file names it; raises SecateurError where there is none such."""
    try:
        return Grid(width, group, symmetric=symmetric, float8=float8)
    except ValueError as error:
        raise SecateurError(f"{where}: weights of {width} bits in groups of {group}: {error}") from error


def grid_of(values: Mapping[str, Any], where: str) -> Grid:
    """The inverse of `scheme`, what is left out inferred as compressed-tensors does.

    Raises:
        SecateurError: it is no grid of ours.
    """
    if strange := sorted(name for name, value in values.items() if value is not None and name not in WEIGHTS):
        raise SecateurError(f"{where}: no level here has '{strange[0][:40]}' of weights")
    size = values.get("group_size")
    size = None if size is None else whole(size, f"{where}: group_size")
    strategy = values.get("strategy") or ("tensor" if size is None else "channel" if size == -1 else "group")
    if strategy not in ("group", "channel") or (strategy == "group") != (size is not None and size > 0):
        told = "no size of groups" if size is None else f"group_size {size}"
        raise SecateurError(f"{where}: weights by strategy '{str(strategy)[:40]}' with {told} have no level here")
    kind, width = values.get("type") or "int", whole(values["num_bits"], f"{where}: num_bits")
    symmetric = flag(values.get("symmetric", True), f"{where}: symmetric")
    if kind not in ("int", "float") or flag(values.get("dynamic") or False, f"{where}: dynamic"):
        raise SecateurError(f"{where}: weights of type '{str(kind)[:40]}', dynamic or not, have no level here")
    return made(where, width, max(0, size or 0), symmetric, kind == "float")


def groups_of(settings: Mapping[str, Any], where: str) -> list[tuple[list[str], Grid]]:
    """Targets and grids that the settings of a modifier name, by `config_groups` or by a scheme of its own.

    Raises:
        SecateurError: they name others besides, such as those of activations.
    """
    found = []
    for group in (settings.get("config_groups") or {}).values():
        for part in ("input_activations", "output_activations"):
            if group.get(part) is not None:
                raise SecateurError(f"{where}: '{part}' are rounded too, and a level here is of weights alone")
        found.append((_names(group["targets"]), grid_of(group["weights"], where)))
    scheme = settings.get("scheme")
    if scheme is not None and found:
        raise SecateurError(f"{where}: a quantizer has a scheme or config_groups, not both")
    if scheme is not None:
        match = PRESET.fullmatch(str(scheme).upper()) if isinstance(scheme, str) else None
        if match is None:
            raise SecateurError(f"{where}: scheme '{str(scheme)[:40]}' is none of weights alone, such as W4A16")
        found.append((_names(settings.get("targets", ["Linear"])), made(where, int(match[1]), 128, match[2] is None)))
    if not found or settings.get("kv_cache_scheme") is not None:
        raise SecateurError(f"{where}: a quantizer with neither config_groups nor scheme, or with one of the KV cache")
    return found


def _names(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [str(one) for one in value]


def read_groups(settings: Mapping[str, Any], anatomy: Anatomy, where: str) -> dict[tuple[int, str], Grid]:
    """What a modifier says of the linears that its targets match and it does not `ignore`."""
    ignored, found = _names(settings.get("ignore") or []), dict[tuple[int, str], Grid]()
    names = places(anatomy)
    groups = [(target, level) for targets, level in groups_of(settings, where) for target in targets]
    for target, _ in groups:
        if not any(_hit(target, name) for name in names):
            raise SecateurError(f"{where}: nothing in the model matches the target '{target[:80]}'")
    # A name comes before a pattern, and that before a class, wherever they stand.
    groups.sort(key=lambda group: 2 if group[0] == "Linear" else 1 if group[0][:3] == "re:" else 0)
    for name, place in names.items():
        level = next((level for target, level in groups if _hit(target, name)), None)
        if level is not None and not any(_hit(one, name) for one in ignored):
            found[place] = level
    return found


def _hit(pattern: str, name: str) -> bool:
    return pattern in ("Linear", name) or (pattern[:3] == "re:" and re.match(pattern[3:], name) is not None)

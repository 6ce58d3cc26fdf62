"""GPTQModel's `quantize_config.json`, which vLLM reads as well: one grid, and what is `dynamic` beside it."""

import json
import re
from typing import Any

from ...space.anatomy import Anatomy
from ...space.errors import SecateurError
from ...space.grids import Grid
from ..changes import Changes, places
from ..features import Subject
from .form import Content, Files, Format, of
from .linears import linears
from .schemes import check_grids, commonest, flag, grids, made, whole

WHOLE_ROW = -1
"""Its size of a group that is a row."""


def write(subject: Subject) -> Files:
    """The commonest grid is everyone's; others stand in `dynamic` by their names, and what is not rounded with a "-:".

    Patterns are matched from the beginning of a name, the first that fits counts.
    """
    found, base = dict(grids(subject)), commonest(subject)
    dynamic: dict[str, dict[str, Any]] = {}
    for name, *_ in linears(subject):
        level = found.get(name)
        if level is None:
            dynamic[f"-:^{re.escape(name)}$"] = {}
        elif level != base:
            dynamic[f"+:^{re.escape(name)}$"] = _settings(level)
    config = {**_settings(base), "desc_act": False, "quant_method": "gptq", "dynamic": dynamic}
    return {"quantize_config.json": json.dumps(config, indent=1) + "\n"}


def _settings(level: Grid) -> dict[str, Any]:
    return {"bits": level.width, "group_size": level.group or WHOLE_ROW, "sym": level.symmetric}


def refuses(subject: Subject) -> str | None:
    """Why these grids are none of its own; None where they are."""
    found = dict(grids(subject))
    if not found:
        return "no linear is on a grid of integers"
    for name, level in found.items():
        if level.float8 or level.width not in (2, 3, 4, 8):
            return f"{name} has {level}, and it has integers of 2, 3, 4 and 8 bits"
    return check_grids(subject)


def reads(content: Content) -> bool:
    """A mapping with bits and the size of groups."""
    return {"bits", "group_size"} <= content.names


def read(content: Content, anatomy: Anatomy) -> Changes:
    """The grid of every linear of the layers."""
    values, where = content.values, content.where
    if values.get("lm_head"):
        raise SecateurError(f"{where}: 'lm_head' is rounded as well, which has no level of these here")
    if values.get("quant_method", "gptq") != "gptq":
        raise SecateurError(f"{where}: quant_method '{str(values['quant_method'])[:40]}' is none of integers by GPTQ")
    if others := [name for name in ("modules_in_block_to_quantize", "rotation") if values.get(name)]:
        raise SecateurError(f"{where}: what '{others[0]}' does is not known here")
    changes, names = Changes(), places(anatomy)
    for name, place in names.items():
        settings: dict[str, Any] | None = dict(values)
        for pattern, own in (values.get("dynamic") or {}).items():
            if re.match(pattern.removeprefix("+:").removeprefix("-:"), name):
                settings = None if pattern.startswith("-:") else {**values, **own}
                break
        if settings is None:
            continue
        group, width = (whole(settings[key], f"{where}: {key}") for key in ("group_size", "bits"))
        if group == 0:
            raise SecateurError(f"{where}: group_size: 0; a whole row is {WHOLE_ROW}")
        symmetric = flag(settings.get("sym", True), f"{where}: sym")
        changes.treated[place] = made(where, width, 0 if group == WHOLE_ROW else group, symmetric)
    # What is left out may be anything, such as the head.
    wanted = [pattern for pattern in values.get("dynamic") or {} if not pattern.startswith("-:")]
    if unused := [one for one in wanted if not any(re.match(one.removeprefix("+:"), name) for name in names)]:
        raise SecateurError(f"{where}: no linear of the model matches '{unused[0][:80]}'")
    return changes


GPTQMODEL = Format(
    "gptqmodel",
    "its quantize_config.json, which vLLM reads",
    of("grid"),
    write,
    refuses=refuses,
    reads=reads,
    read=read,
    head=True,
)

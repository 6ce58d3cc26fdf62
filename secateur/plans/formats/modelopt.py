"""ModelOpt's `quant_cfg`: an ordered list of quantizers by name, of which the last that fits decides."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import yaml

from ...space.anatomy import Anatomy
from ...space.errors import SecateurError
from ...space.grids import Grid
from ..changes import Changes, places
from ..features import Subject
from .form import Content, Files, Format, of
from .schemes import check_inside, grids, made, whole

QUANTIZER = "weight_quantizer"
E4M3 = [4, 3]
SETTINGS = {"num_bits", "axis", "block_sizes", "fake_quant", "calibrator", "trt_high_precision_dtype"}
"""Of a quantizer, that make no other weights than a grid of ours."""


def write(subject: Subject) -> Files:
    """Everything off, then the weights of every linear that is on a grid by its name; for `mtq.quantize`."""
    entries: list[dict[str, Any]] = [{"quantizer_name": "*", "enable": False}]
    entries += [
        {"quantizer_name": f"{name}.{QUANTIZER}", "cfg": _settings(level), "enable": True}
        for name, level in grids(subject)
    ]
    return {"quant_cfg.yaml": yaml.safe_dump({"quant_cfg": entries, "algorithm": "max"}, sort_keys=False)}


def _settings(level: Grid) -> dict[str, Any]:
    if level.float8:
        return {"num_bits": list(E4M3), "axis": 0}
    grain: dict[str, Any] = {"block_sizes": {-1: level.group}} if level.group else {"axis": 0}
    return {"num_bits": level.width, **grain}


def refuses(subject: Subject) -> str | None:
    """Why these grids are none of its own; None where they are."""
    found = list(grids(subject))
    if not found:
        return "no linear is on a grid of integers"
    asymmetric = next((f"{name} has {level}" for name, level in found if not level.symmetric), None)
    if asymmetric is not None:
        return f"{asymmetric}, and its integers have no zero points; search -sym levels for it"
    return check_inside(subject)


def reads(content: Content) -> bool:
    """A `quant_cfg` whose entries name quantizers."""
    entries = content.values.get("quant_cfg") if isinstance(content.values, dict) else None
    return isinstance(entries, list) and all(isinstance(one, dict) and "quantizer_name" in one for one in entries)


def read(content: Content, anatomy: Anatomy) -> Changes:
    """The grid of every linear's weights: what the last entry that fits its name says."""
    where, changes, used = content.where, Changes(), set[int]()
    entries = content.values["quant_cfg"]
    for name, place in places(anatomy).items():
        weights = _decided(entries, f"{name}.{QUANTIZER}", used)
        if _decided(entries, f"{name}.input_quantizer", used) is not None:
            raise SecateurError(f"{where}: inputs of {name} are rounded too, and a level is of weights alone")
        if weights is not None:
            changes.treated[place] = _grid(weights, f"{where}: {name}")
    for number, entry in enumerate(entries):
        if number not in used and entry.get("enable", True) and entry.get("parent_class") in (None, "nn.Linear"):
            raise SecateurError(f"{where}: no linear of the blocks has '{str(entry['quantizer_name'])[:80]}'")
    return changes


def _decided(entries: Sequence[Mapping[str, Any]], name: str, used: set[int]) -> Mapping[str, Any] | None:
    """The settings of a quantizer of a linear; None where it is off. An entry without settings only switches it."""
    settings: Mapping[str, Any] = {}
    on = False
    for number, entry in enumerate(entries):
        of = entry.get("parent_class")
        if fnmatchcase(name, str(entry["quantizer_name"])) and of in (None, "nn.Linear"):
            used.add(number)
            on, settings = bool(entry.get("enable", True)), entry.get("cfg") or settings
    return settings if on else None


def _grid(settings: Mapping[str, Any], where: str) -> Grid:
    if strange := sorted(name for name, value in settings.items() if value and name not in SETTINGS):
        raise SecateurError(f"{where}: no level here has '{strange[0][:40]}'")
    blocks, bits = settings.get("block_sizes"), settings.get("num_bits")
    group = 0
    if blocks is not None:
        # JSON has no keys that are numbers.
        if list(map(str, blocks)) != ["-1"]:
            raise SecateurError(f"{where}: blocks of other shapes than a part of a row have no level here")
        [size] = blocks.values()
        group = whole(size, f"{where}: block_sizes")
    elif settings.get("axis") != 0:
        raise SecateurError(f"{where}: one scale of a whole matrix has no level here; write axis: 0 or block_sizes")
    if isinstance(bits, list | tuple):
        if list(bits) != E4M3:
            raise SecateurError(f"{where}: floats of {bits} bits have no level here; [4, 3] have")
        return made(where, 8, group, symmetric=True, float8=True)
    return made(where, whole(bits, f"{where}: num_bits"), group, symmetric=True)


MODELOPT = Format(
    "modelopt",
    "quant_cfg for ModelOpt's mtq.quantize",
    of("grid"),
    write,
    refuses=refuses,
    reads=reads,
    read=read,
)

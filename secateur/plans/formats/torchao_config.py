"""torchao's `FqnToConfig`, as its `config_to_dict` writes it and the quantization_config of transformers holds it."""

import json
import re
from collections.abc import Mapping
from typing import Any

from ...space.anatomy import Anatomy
from ...space.errors import SecateurError
from ...space.grids import Grid
from ..changes import Changes, places
from ..features import Subject
from .form import Content, Files, Format, of
from .schemes import check_grids, grids, made, whole

FQN, INTEGERS, FLOATS = "FqnToConfig", "IntxWeightOnlyConfig", "Float8WeightOnlyConfig"
DEFAULT = "_default"


def write(subject: Subject) -> Files:
    """Every linear that is on a grid by its name; what is not named stays as it is."""
    by_name = {name: _config(level) for name, level in grids(subject)}
    kind = {"_type": FQN, "_version": 1, "_data": {"fqn_to_config": by_name, "module_fqn_to_config": by_name}}
    values = {"quant_method": "torchao", "quant_type": {"default": kind}, "modules_to_not_convert": None}
    return {"quantization_config.json": json.dumps(values, indent=1) + "\n"}


def _config(level: Grid) -> dict[str, Any]:
    if level.float8:
        row = {"_type": "PerRow", "_version": 1, "_data": {"dim": -1}}
        data = {"weight_dtype": _dtype("float8_e4m3fn"), "set_inductor_config": False, "granularity": row}
        return {"_type": FLOATS, "_version": 2, "_data": data}
    group = {"_type": "PerGroup", "_version": 1, "_data": {"group_size": level.group}}
    row = {"_type": "PerAxis", "_version": 1, "_data": {"axis": 0}}
    data = {
        "weight_dtype": _dtype(f"int{level.width}"),
        "granularity": group if level.group else row,
        "mapping_type": {"_type": "MappingType", "_data": "SYMMETRIC" if level.symmetric else "ASYMMETRIC"},
        "scale_dtype": None,
        "intx_packing_format": {"_type": "IntxPackingFormat", "_data": "UNPACKED_TO_INT8"},
        "intx_choose_qparams_algorithm": {"_type": "IntxChooseQParamsAlgorithm", "_data": "AFFINE"},
    }
    return {"_type": INTEGERS, "_version": 2, "_data": data}


def _dtype(name: str) -> dict[str, str]:
    return {"_type": "torch.dtype", "_data": name}


def refuses(subject: Subject) -> str | None:
    """Why these grids are none of its own; None where they are."""
    if not any(True for _ in grids(subject)):
        return "no linear is on a grid of integers"
    return check_grids(subject)


def reads(content: Content) -> bool:
    """Its own writing of an `FqnToConfig`, alone or as transformers holds it."""
    return _inner(content.values) is not None


def _inner(values: Any) -> Mapping[str, Any] | None:
    for key in ("quantization_config", "quant_type", "default"):
        values = values.get(key, values) if isinstance(values, Mapping) else values
    if not isinstance(values, Mapping) or values.get("_type") != FQN:
        return None
    found: Mapping[str, Any] = values["_data"]
    return found


def read(content: Content, anatomy: Anatomy) -> Changes:
    """The grid of every linear: of its own name, else of the first pattern that fits all of it, else the default's."""
    data, where, changes = _inner(content.values), content.where, Changes()
    assert data is not None
    outer = content.values.get("quantization_config", content.values)
    if outer.get("include_input_output_embeddings"):
        raise SecateurError(f"{where}: embeddings are rounded too, which have no level of these here")
    left = [str(one) for one in outer.get("modules_to_not_convert") or ()]
    configs = {**(data.get("module_fqn_to_config") or {}), **(data.get("fqn_to_config") or {})}
    used: set[str] = set()
    for name, place in places(anatomy).items():
        key = next((key for key in (f"{name}.weight", name) if key in configs), None) or next(
            (key for key in configs if key[:3] == "re:" and _fits(key[3:], name)), DEFAULT
        )
        used.add(key)
        config = None if any(name == one or name.startswith(f"{one}.") for one in left) else configs.get(key)
        if config is not None:
            changes.treated[place] = _grid(config, f"{where}: {key}")
    named = [key for key, value in configs.items() if value is not None and key not in (*used, DEFAULT)]
    if named:
        raise SecateurError(f"{where}: no linear of the model's blocks is called '{named[0][:80]}'")
    return changes


def _fits(pattern: str, name: str) -> bool:
    return any(re.fullmatch(pattern, one) for one in (f"{name}.weight", name))


def _grid(config: Mapping[str, Any], where: str) -> Grid:
    kind, data = config.get("_type"), config["_data"]
    if kind == FLOATS:
        dtype, row = (data.get(key) or {} for key in ("weight_dtype", "granularity"))
        if dtype.get("_data", "float8_e4m3fn") != "float8_e4m3fn" or row.get("_type", "PerRow") != "PerRow":
            raise SecateurError(f"{where}: eight-bit floats are float8_e4m3fn with a scale of each row (PerRow) here")
        return Grid(8, symmetric=True, float8=True)
    if (data.get("intx_choose_qparams_algorithm") or {"_data": "AFFINE"})["_data"] != "AFFINE":
        raise SecateurError(f"{where}: scales by another algorithm than AFFINE have no level here")
    width = re.fullmatch(r"int([1-8])", str(data.get("weight_dtype", {}).get("_data"))) if kind == INTEGERS else None
    if width is None:
        raise SecateurError(f"{where}: '{str(kind)[:40]}' has no level here; {INTEGERS} and {FLOATS} have")
    grain = data.get("granularity") or {"_type": "PerAxis"}
    if grain["_type"] not in ("PerGroup", "PerAxis") or (grain.get("_data") or {}).get("axis", 0) != 0:
        raise SecateurError(f"{where}: granularity '{str(grain['_type'])[:40]}' has no level here")
    group = whole(grain["_data"]["group_size"], f"{where}: group_size") if grain["_type"] == "PerGroup" else 0
    mapping = (data.get("mapping_type") or {"_data": "SYMMETRIC"})["_data"]
    if mapping not in ("SYMMETRIC", "ASYMMETRIC"):
        raise SecateurError(f"{where}: mapping_type '{str(mapping)[:40]}' has no level here")
    return made(where, int(width[1]), group, mapping == "SYMMETRIC")


TORCHAO_CONFIG = Format(
    "torchao-config",
    "quantization_config of its FqnToConfig, for transformers",
    of("grid"),
    write,
    refuses=refuses,
    reads=reads,
    read=read,
)

"""The bare per-layer profile as JSON, YAML or CSV: what is kept of every layer of the dense model, and nothing else."""

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

import yaml

from ...space.anatomy import HIDDEN, Anatomy
from ...space.errors import SecateurError, suggest
from ...space.state import outside_of
from ...space.treatments import Sparsity, treatment
from ..changes import Changes
from ..features import ALL, Subject
from .form import Content, Files, Format
from .linears import linears

FIELDS = {"kv_groups": "groups", "query_heads_per_group": "queries", "mlp_channels": "channels"}
"""Names of dimensions; others have their own."""
NAMES = {dimension: name for name, dimension in FIELDS.items()}


def profile(subject: Subject) -> dict[str, Any]:
    """As plain values: 0 of a dimension is a dropped sublayer, `sparsity` has the linears that are not dense, and
    `treated` those to which something else is done, the embedding in the first layer, a head in the last."""
    rows = []
    for block, state in zip(subject.anatomy.blocks, subject.states, strict=True):
        numbers = {NAMES.get(one, one): count for one, count in state.kept.items() if one != HIDDEN}
        levels = {matrix.name: state.level(matrix.name) for matrix in block.matrices}
        sparsity = {name: level.to_json() for name, level in levels.items() if level and isinstance(level, Sparsity)}
        others = {name: level.to_json() for name, level in levels.items() if level and name not in sparsity}
        rows.append({"layer": block.index, **numbers, "sparsity": sparsity} | ({"treated": others} if others else {}))
    return {"format": "secateur-profile", "version": 1, "hidden": subject.states[0].hidden, "layers": rows}


def as_json(subject: Subject) -> Files:
    """`profile.json`."""
    return {"profile.json": json.dumps(profile(subject), indent=1) + "\n"}


def as_yaml(subject: Subject) -> Files:
    """`profile.yaml`."""
    return {"profile.yaml": yaml.safe_dump(profile(subject), sort_keys=False)}


def as_csv(subject: Subject) -> Files:
    """A row for each layer: the residual width, what is kept, and a column for what is done to every linear."""
    inside = dict.fromkeys(linear.name for _, linear, _ in linears(subject))
    treated = outside_of(subject.anatomy.blocks, subject.states).treated
    names = [*inside, *(name for name, _ in treated)]
    buffer = io.StringIO()
    rows = profile(subject)["layers"]
    numbers = dict.fromkeys(name for row in rows for name in row if name not in ("sparsity", "treated"))
    writer = csv.DictWriter(buffer, [*numbers, "hidden", *names], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        levels = row.pop("sparsity") | row.pop("treated", {})
        own = {name: levels.get(name, 0.0 if name in inside else "") for name in names}
        writer.writerow(row | {"hidden": subject.states[0].hidden} | own)
    return {"profile.csv": buffer.getvalue()}


def reads(content: Content) -> bool:
    """JSON or YAML that says it is one of our profiles."""
    return isinstance(content.values, dict) and content.values.get("format") == "secateur-profile"


def read(content: Content, anatomy: Anatomy) -> Changes:
    """Our own bare profile."""
    values = content.values
    if values["version"] != 1:
        raise ValueError(f"version {values['version']} of the profile is not known")
    changes = Changes(hidden=int(values["hidden"]))
    for row in values["layers"]:
        layer = int(row["layer"])
        _units(changes, anatomy, layer, row)
        levels = {**row["sparsity"], **row.get("treated", {})}
        changes.treated |= {(layer, name): treatment(level) for name, level in levels.items()}
    return changes


def reads_rows(content: Content) -> bool:
    """Any CSV: whether its columns are ours is told when it is read."""
    return content.rows is not None


def read_rows(content: Content, anatomy: Anatomy) -> Changes:
    """The same as rows of text."""
    rows, where = content.rows or (), content.where
    if not rows or "layer" not in rows[0]:
        raise SecateurError(f"{where}: has no column 'layer'")
    changes = Changes(hidden=int(rows[0].get("hidden") or anatomy.hidden_size))
    names = {matrix.name for block in anatomy.blocks for matrix in block.matrices}
    numbers = {*FIELDS, *(one for block in anatomy.blocks for one in block.dimensions if one not in FIELDS.values())}
    unknown = sorted(set(rows[0]) - names - numbers - {"layer", HIDDEN})
    if unknown:
        raise SecateurError(f"{where}: the model has no '{unknown[0]}'; {suggest(unknown[0], sorted(names))}")
    for row in rows:
        layer = int(row["layer"])
        _units(changes, anatomy, layer, {name: value for name, value in row.items() if value})
        changes.treated |= {(layer, name): treatment(row[name]) for name in row if name in names and row[name]}
    return changes


def _units(changes: Changes, anatomy: Anatomy, layer: int, row: Mapping[str, Any]) -> None:
    """What a row says of the dimensions that the block has; of a dropped sublayer nothing but that matters."""
    if any(other == layer for _, other in changes.kept):
        raise ValueError(f"layer {layer} stands there twice")
    # That a layer does not exist is said when all is put together.
    block = anatomy.blocks[layer if 0 <= layer < len(anatomy.blocks) else 0]
    for sublayer in block.sublayers:
        for dimension in sublayer.dimensions:
            name = NAMES.get(dimension, dimension)
            if name not in row:
                raise ValueError(f"layer {layer} has no {name}")
            changes.kept[dimension, layer] = int(row[name])
            if not changes.kept[dimension, layer]:
                break


JSON = Format("json", "the bare profile", ALL, as_json, reads=reads, read=read)
YAML = Format("yaml", "the bare profile", ALL, as_yaml)
CSV = Format("csv", "the bare profile, a row for each layer", ALL, as_csv, reads=reads_rows, read=read_rows)

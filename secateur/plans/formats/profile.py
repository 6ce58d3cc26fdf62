"""The bare per-layer profile as JSON, YAML or CSV: what is kept of every layer of the dense model, and nothing else."""

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

import yaml

from ...space.anatomy import Anatomy
from ...space.errors import SecateurError, suggest
from ...space.treatments import Sparsity
from ..changes import Changes
from ..features import ALL, Subject
from .form import Content, Files, Format
from .linears import linears

FIELDS = ("layer", "kv_groups", "query_heads_per_group", "mlp_channels")


def profile(subject: Subject) -> dict[str, Any]:
    """As plain values: 0 groups or channels is a dropped sublayer, `sparsity` has the linears that are not dense."""
    rows = []
    for block, state in zip(subject.anatomy.blocks, subject.states, strict=True):
        numbers = (block.index, state.attention, state.queries, state.mlp)
        sparsity = {
            linear.name: level.to_json() for linear, level in zip(block.linears, state.sparsity, strict=True) if level
        }
        rows.append(dict(zip(FIELDS, numbers, strict=True)) | {"sparsity": sparsity})
    return {"format": "secateur-profile", "version": 1, "hidden": subject.states[0].hidden, "layers": rows}


def as_json(subject: Subject) -> Files:
    """`profile.json`."""
    return {"profile.json": json.dumps(profile(subject), indent=1) + "\n"}


def as_yaml(subject: Subject) -> Files:
    """`profile.yaml`."""
    return {"profile.yaml": yaml.safe_dump(profile(subject), sort_keys=False)}


def as_csv(subject: Subject) -> Files:
    """A row for each layer: the residual width, what is kept, and a column for every linear's share of zeros."""
    names = list(dict.fromkeys(linear.name for _, linear, _ in linears(subject)))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [*FIELDS, "hidden", *names], lineterminator="\n")
    writer.writeheader()
    for row in profile(subject)["layers"]:
        sparsity = row.pop("sparsity")
        writer.writerow(row | {"hidden": subject.states[0].hidden} | {name: sparsity.get(name, 0.0) for name in names})
    return {"profile.csv": buffer.getvalue()}


def reads(content: Content) -> bool:
    """JSON or YAML that says it is one of our profiles."""
    return isinstance(content.values, dict) and content.values.get("format") == "secateur-profile"


def read(content: Content, _: Anatomy) -> Changes:
    """Our own bare profile."""
    values = content.values
    if values["version"] != 1:
        raise ValueError(f"version {values['version']} of the profile is not known")
    changes = Changes(hidden=int(values["hidden"]))
    for row in values["layers"]:
        layer = int(row["layer"])
        _units(changes, layer, row)
        changes.sparsity |= {(layer, name): Sparsity.parse(level) for name, level in row["sparsity"].items()}
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
    names = {linear.name for block in anatomy.blocks for linear in block.linears}
    unknown = sorted(set(rows[0]) - names - {"layer", "kv_groups", "query_heads_per_group", "mlp_channels", "hidden"})
    if unknown:
        raise SecateurError(f"{where}: the model has no '{unknown[0]}'; {suggest(unknown[0], sorted(names))}")
    for row in rows:
        layer = int(row["layer"])
        _units(changes, layer, row)
        changes.sparsity |= {(layer, name): Sparsity.parse(row[name]) for name in row if name in names and row[name]}
    return changes


def _units(changes: Changes, layer: int, row: Mapping[str, Any]) -> None:
    if ("attention", layer) in changes.kept:
        raise ValueError(f"layer {layer} stands there twice")
    changes.kept["attention", layer] = int(row["kv_groups"])
    changes.kept["mlp", layer] = int(row["mlp_channels"])
    if int(row["kv_groups"]):
        changes.kept["queries", layer] = int(row["query_heads_per_group"])


JSON = Format("json", "the bare profile", ALL, as_json, reads=reads, read=read)
YAML = Format("yaml", "the bare profile", ALL, as_yaml)
CSV = Format("csv", "the bare profile, a row for each layer", ALL, as_csv, reads=reads_rows, read=read_rows)

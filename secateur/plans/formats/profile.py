"""The bare per-layer profile as JSON, YAML or CSV: what is kept of every layer of the dense model, and nothing else."""

import csv
import io
import json
from typing import Any

import yaml

from ..features import Source
from .sparsity import Files, linears

FIELDS = ("layer", "kv_groups", "query_heads_per_group", "mlp_channels")


def profile(source: Source) -> dict[str, Any]:
    """As plain values: 0 groups or channels is a dropped sublayer, `sparsity` has the linears that are not dense."""
    rows = []
    for block, state in zip(source.anatomy.blocks, source.states, strict=True):
        numbers = (block.index, state.attention, state.queries, state.mlp)
        sparsity = {
            linear.name: level.to_json() for linear, level in zip(block.linears, state.sparsity, strict=True) if level
        }
        rows.append(dict(zip(FIELDS, numbers, strict=True)) | {"sparsity": sparsity})
    return {"format": "secateur-profile", "version": 1, "hidden": source.states[0].hidden, "layers": rows}


def as_json(source: Source) -> Files:
    return {"profile.json": json.dumps(profile(source), indent=1) + "\n"}


def as_yaml(source: Source) -> Files:
    return {"profile.yaml": yaml.safe_dump(profile(source), sort_keys=False)}


def as_csv(source: Source) -> Files:
    """A row for each layer: the residual width, what is kept, and a column for every linear's share of zeros."""
    names = list(dict.fromkeys(linear.name for _, linear, _ in linears(source)))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [*FIELDS, "hidden", *names], lineterminator="\n")
    writer.writeheader()
    for row in profile(source)["layers"]:
        sparsity = row.pop("sparsity")
        writer.writerow(row | {"hidden": source.states[0].hidden} | {name: sparsity.get(name, 0.0) for name in names})
    return {"profile.csv": buffer.getvalue()}

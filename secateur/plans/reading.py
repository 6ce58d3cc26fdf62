"""Which tool wrote a file, told by its content, and the states it makes of the blocks.

Understood: our own plans and profiles; EvoPress's drop lists and levels; DarwinLM's levels; MultiPruner's
`pruning_config.json`; BlockPruner's and SLEB's lists; recipes of llm-compressor and mergekit; `block_configs`; the
`per_layer_config` of a checkpoint; sparsity lists of torchao; ratios of Torch-Pruning; AlphaPruning's profile.
"""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from ..files import parsed, read_bytes, read_json, read_text
from ..space.anatomy import Anatomy
from ..space.errors import SecateurError, said
from ..space.state import BlockState
from .changes import Changes, as_states
from .formats import read_recipes as recipes
from .formats import read_shapes as shapes
from .formats import read_units as units
from .plan import read_plan

KNOWN = (
    "secateur's plans and profiles, and files of EvoPress, DarwinLM, MultiPruner, BlockPruner, SLEB, llm-compressor, "
    "mergekit, torchao, Torch-Pruning and AlphaPruning, block_configs, per_layer_config"
)


LARGEST = 2**26
"""Bytes of a plan of another tool's."""


def read_states(path: Path, anatomy: Anatomy) -> tuple[BlockState, ...]:
    """What a plan file makes of each block.

    Raises:
        SecateurError: the file cannot be read, is of no known format, or is for another model.
    """
    where = f"plan {path}"
    try:
        if path.suffix == ".npy":
            content = io.BytesIO(read_bytes(path, where, LARGEST))
            array = np.lib.format.read_array(content, allow_pickle=False)
            return as_states(anatomy, units.alphapruning(array, anatomy, where), where)
        # utf-8-sig: files edited on Windows may begin with a mark.
        text = read_text(path, where, LARGEST, "utf-8-sig")
        values = _values(path, text, where)
    except (OSError, ValueError, EOFError, RecursionError, MemoryError, csv.Error) as error:
        raise SecateurError(f"{where}: cannot be read: {said(error)}") from error
    if isinstance(values, dict) and values.get("format") == "secateur-plan":
        return read_plan(path).states(anatomy)
    return as_states(anatomy, _changes(values, text, path, anatomy, where), where)


def _values(path: Path, text: str, where: str) -> Any:
    """The content as plain values; None for text that is neither JSON nor YAML nor CSV."""
    if path.suffix == ".json":
        return json.loads(text)
    if path.suffix in (".yaml", ".yml"):
        return parsed(text, where)
    if path.suffix == ".csv":
        return {"format": "secateur-csv", "rows": list(csv.DictReader(io.StringIO(text)))}
    return json.loads(text) if text.lstrip().startswith("[") else None


def _changes(values: Any, text: str, path: Path, anatomy: Anatomy, where: str) -> Changes:
    try:
        if values is None:
            return _lines(text, path, anatomy, where)
        if isinstance(values, list):
            if all(isinstance(one, dict) and "tensor_fqn" in one for one in values):
                return recipes.torchao(values, anatomy, where)
            return units.sleb(values, where)
        if isinstance(values, dict):
            return _named(values, anatomy, where)
    except (
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        ArithmeticError,
        RecursionError,
        OSError,
        re.error,
    ) as error:
        raise SecateurError(f"{where}: is not what its format asks for: {error!r}") from error
    raise SecateurError(f"{where}: of no known format; known: {KNOWN}")


def _named(values: dict[Any, Any], anatomy: Anatomy, where: str) -> Changes:
    names = {str(key) for key in values}
    if values.get("format") == "secateur-profile":
        return shapes.profile(values)
    if values.get("format") == "secateur-csv":
        return shapes.profile_rows(values["rows"], anatomy, where)
    if {"pruned_attn_idx", "pruned_mlp_idx"} & names:
        return shapes.multipruner(values, anatomy)
    if "block_configs" in names:
        return shapes.block_configs(values["block_configs"], anatomy, where)
    if "per_layer_config" in names:
        return shapes.per_layer_config(values, anatomy, where)
    if "pruning_ratio_dict" in names:
        return shapes.torch_pruning(values, anatomy, where)
    if "slices" in names:
        return recipes.mergekit(values, anatomy, where)
    if values and all(str(key).isdigit() for key in values):
        return units.blockpruner(values, where)
    if modifiers := recipes.modifiers(values):
        return recipes.llm_compressor(modifiers, anatomy, where)
    raise SecateurError(f"{where}: of no known format; known: {KNOWN}")


def _lines(text: str, path: Path, anatomy: Anatomy, where: str) -> Changes:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and all(":" in line for line in lines):
        meta = path.with_name("metadata.json")
        if not meta.exists():
            raise SecateurError(
                f"{where}: levels say nothing without the numbers they count in; put a metadata.json beside it with "
                '"sparsity" and "weights_diff" (EvoPress), or "cols_removed_attn" and "cols_removed_mlp" (DarwinLM)'
            )
        numbers = read_json(meta, f"plan {meta}", LARGEST)
        if "weights_diff" in numbers:
            return units.evopress_levels(lines, numbers, anatomy, where)
        return shapes.darwinlm(lines, numbers, anatomy, where)
    return units.evopress_drops(lines, anatomy, where)

"""Plans of other tools, read back: what they say becomes of each block of the dense model.

Understood: our own plan files; EvoPress's `layer_drop_config.txt` (a line per block: none, attn, mlp, attn+mlp);
BlockPruner's JSON ({"4": [["mha", 10], ["mlp", 12], ...]}, the longest list counts); MultiPruner's
`pruning_config.json` (dropped sublayers by index, and the units that narrowed ones keep).
"""

import json
from pathlib import Path
from typing import Any

from ..space.anatomy import Anatomy
from ..space.costs import BlockState, dense_state
from ..space.errors import SecateurError
from .plan import read_plan

DROPPED = {"none": (), "attn": ("attention",), "mlp": ("mlp",), "attn+mlp": ("attention", "mlp")}
KINDS = {"mha": "attention", "attn": "attention", "mlp": "mlp"}


def read_states(path: Path, anatomy: Anatomy) -> tuple[BlockState, ...]:
    """What a plan file makes of each block.

    Raises:
        SecateurError: the file cannot be read, is of no known format, or is for another model.
    """
    try:
        text = path.read_text(encoding="utf8")
        values = json.loads(text) if path.suffix == ".json" else None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SecateurError(f"plan {path}: cannot be read: {error}") from error
    if isinstance(values, dict) and values.get("format") == "secateur-plan":
        return read_plan(path).states(anatomy)
    if values is None:
        return _evopress(text, path, anatomy)
    if isinstance(values, dict) and {"pruned_attn_idx", "pruned_mlp_idx"} & set(values):
        return _multipruner(values, path, anatomy)
    if isinstance(values, dict) and values and all(key.isdigit() for key in values):
        return _blockpruner(values, path, anatomy)
    raise SecateurError(
        f"plan {path}: of no known format; known: secateur-plan, EvoPress's layer_drop_config.txt, BlockPruner's and "
        "MultiPruner's JSON"
    )


def _evopress(text: str, path: Path, anatomy: Anatomy) -> tuple[BlockState, ...]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    unknown = next((number for number, line in enumerate(lines, 1) if line not in DROPPED), None)
    if unknown is not None:
        raise SecateurError(f"plan {path}, line {unknown}: '{lines[unknown - 1]}' is none of {', '.join(DROPPED)}")
    if len(lines) != len(anatomy.blocks):
        raise SecateurError(f"plan {path}: has {len(lines)} lines, the model {len(anatomy.blocks)} blocks")
    return _states(anatomy, {(kind, index): 0 for index, line in enumerate(lines) for kind in DROPPED[line]}, path)


def _blockpruner(values: dict[str, Any], path: Path, anatomy: Anatomy) -> tuple[BlockState, ...]:
    last = values[max(values, key=int)]
    try:
        dropped = {(KINDS[kind], int(index)): 0 for kind, index in last}
    except (KeyError, TypeError, ValueError) as error:
        raise SecateurError(f'plan {path}: expected pairs such as ["mha", 10], got {last!r}') from error
    return _states(anatomy, dropped, path)


def _multipruner(values: dict[str, Any], path: Path, anatomy: Anatomy) -> tuple[BlockState, ...]:
    kept: dict[tuple[str, int], int] = {}
    try:
        for kind, name in (("attention", "attn"), ("mlp", "mlp")):
            # "pruned" widths are what is left, in units of the attention's output and of MLP channels.
            for index, width in (values.get(f"pruned_{name}_width") or {}).items():
                block = anatomy.blocks[int(index)]
                unit = block.head_dim * block.queries if kind == "attention" else 1
                kept[kind, int(index)] = int(width) // unit
            kept |= {(kind, int(index)): 0 for index in values.get(f"pruned_{name}_idx") or ()}
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise SecateurError(f"plan {path}: is no pruning_config.json for this model: {error}") from error
    return _states(anatomy, kept, path)


def _states(anatomy: Anatomy, kept: dict[tuple[str, int], int], path: Path) -> tuple[BlockState, ...]:
    """Dense blocks but for `kept`, KV groups or channels by (kind, block)."""
    outside = next((index for _, index in kept if not 0 <= index < len(anatomy.blocks)), None)
    if outside is not None:
        raise SecateurError(f"plan {path}: block {outside}, but the model has {len(anatomy.blocks)}")
    states = []
    for block in anatomy.blocks:
        dense = dense_state(block)
        attention = min(kept.get(("attention", block.index), dense.attention), dense.attention)
        mlp = min(kept.get(("mlp", block.index), dense.mlp), dense.mlp)
        queries = dense.queries if attention else 0
        states.append(BlockState(attention, queries, mlp, dense.hidden, dense.sparsity))
    return tuple(states)

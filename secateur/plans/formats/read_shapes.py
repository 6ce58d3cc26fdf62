"""Widths: our profiles, MultiPruner, DarwinLM, block_configs, per_layer_config, Torch-Pruning."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ...space.anatomy import Anatomy, Block
from ...space.errors import SecateurError, suggest
from ...space.treatments import Sparsity
from ..changes import Changes, Unit, located
from .read_units import named_levels

SKIPS: dict[str, Unit] = {"attention": "attention", "mlp": "mlp"}


def profile(values: Mapping[str, Any]) -> Changes:
    """Our own bare profile."""
    if values["version"] != 1:
        raise ValueError(f"version {values['version']} of the profile is not known")
    changes = Changes(hidden=int(values["hidden"]))
    for row in values["layers"]:
        layer = int(row["layer"])
        _units(changes, layer, row)
        changes.sparsity |= {(layer, name): Sparsity.parse(level) for name, level in row["sparsity"].items()}
    return changes


def profile_rows(rows: Sequence[Mapping[str, str]], anatomy: Anatomy, where: str) -> Changes:
    """The same as rows of text."""
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


def multipruner(values: Mapping[str, Any], anatomy: Anatomy) -> Changes:
    """Dropped sublayers by index; "pruned" widths are what is left, in units of the attention's output and channels."""
    changes = Changes()
    for index, width in (values.get("pruned_attn_width") or {}).items():
        block = _block(anatomy, int(index))
        groups, rest = divmod(int(width), block.head_dim * block.queries)
        if rest or not groups:
            raise ValueError(f"layer {index} keeps {width} of attention's outputs, which are no whole KV groups")
        changes.kept["attention", int(index)] = groups
    for index, width in (values.get("pruned_mlp_width") or {}).items():
        changes.kept["mlp", int(index)] = int(width)
    changes.kept |= {("attention", int(index)): 0 for index in values.get("pruned_attn_idx") or ()}
    changes.kept |= {("mlp", int(index)): 0 for index in values.get("pruned_mlp_idx") or ()}
    return changes


def _block(anatomy: Anatomy, index: int) -> Block:
    """The block, or the first where there is none: that a layer does not exist is said when all is put together."""
    return anatomy.blocks[index if 0 <= index < len(anatomy.blocks) else 0]


def block_configs(entries: Sequence[Mapping[str, Any]], anatomy: Anatomy, where: str) -> Changes:
    """ModelOpt's entries, and DeciLM's older ones (`n_heads_in_group`) but for `ffn_mult`, which is rounded up.

    Raises:
        SecateurError: other numbers of KV heads: there the query heads stay, here they go with their group.
    """
    if len(entries) != len(anatomy.blocks):
        raise SecateurError(f"{where}: has {len(entries)} blocks, the model {len(anatomy.blocks)}")
    changes = Changes()
    for block, entry in zip(anatomy.blocks, entries, strict=True):
        attention, ffn = entry["attention"], entry["ffn"]
        if any(part.get("replace_with_linear") for part in (attention, ffn)) or ffn.get("ffn_mult") is not None:
            raise SecateurError(f"{where}: block {block.index}: 'replace_with_linear' and 'ffn_mult' are not read")
        groups = int(attention.get("num_key_value_heads", block.kv_heads))
        queries = int(attention.get("n_heads_in_group", block.queries))
        if not attention.get("no_op") and (groups, queries) != (block.kv_heads, block.queries):
            raise SecateurError(
                f"{where}: block {block.index} has other KV heads and all query heads; ours go with their KV group"
            )
        changes.kept["attention", block.index] = 0 if attention.get("no_op") else block.kv_heads
        width = int(ffn.get("intermediate_size", block.channels))
        changes.kept["mlp", block.index] = 0 if ffn.get("no_op") else width
    return changes


def per_layer_config(values: Mapping[str, Any], anatomy: Anatomy, where: str) -> Changes:
    """The config.json of a checkpoint with sizes of its own per layer; `skip` drops sublayers."""
    layers = values.get("num_hidden_layers")
    if layers != len(anatomy.blocks):
        raise SecateurError(
            f"{where}: has {layers} layers, the model {len(anatomy.blocks)}: which are gone it does not say; "
            "read the plan.json beside it"
        )
    names = dict(anatomy.config_names)
    outside = next((key for key in values["per_layer_config"] if not 0 <= int(key) < len(anatomy.blocks)), None)
    if outside is not None:
        raise SecateurError(f"{where}: layer {outside}, but the model has {len(anatomy.blocks)}")
    changes = Changes(hidden=int(values.get(names.get("hidden", ""), anatomy.hidden_size)))
    for block in anatomy.blocks:
        own = {}
        for key, entry in values["per_layer_config"].items():
            if int(key) == block.index:
                own = entry
        both = {**values, **own}
        groups = int(both.get(names.get("groups", ""), block.kv_heads))
        heads = int(both.get(names["heads"], block.heads)) if "heads" in names else block.heads
        if heads % max(1, groups):
            raise SecateurError(f"{where}: layer {block.index}: {heads} query heads do not go into {groups} KV groups")
        changes.kept["attention", block.index] = groups
        changes.kept["queries", block.index] = heads // max(1, groups)
        changes.kept["mlp", block.index] = int(both.get(names.get("channel", ""), block.channels))
        changes.kept |= {(SKIPS[name], block.index): 0 for name in own.get("skip", ())}
    return changes


def torch_pruning(values: Mapping[str, Any], anatomy: Anatomy, where: str) -> Changes:
    """Ratios by module, rounded as the tool does: of MLP channels, and of query heads, as many of every group."""
    changes = Changes()
    heads = values.get("head_pruning_ratio_dict") or {}
    for name, ratio in values["pruning_ratio_dict"].items():
        layer, inside = located(name, anatomy, where)
        if inside in ("mlp.gate_proj", "mlp.up_proj"):
            changes.kept["mlp", layer] = int(anatomy.blocks[layer].channels * (1 - float(ratio)))
        elif name not in heads:
            raise SecateurError(f"{where}: '{name}' is neither an MLP's input nor among the heads")
    for name, ratio in heads.items():
        layer, _ = located(name, anatomy, where)
        block = anatomy.blocks[layer]
        removed = math.ceil(math.ceil(float(ratio) * block.heads) / block.kv_heads)
        changes.kept["queries", layer] = block.queries - removed
    return changes


def darwinlm(lines: list[str], numbers: Mapping[str, Any], anatomy: Anatomy, where: str) -> Changes:
    """Levels count in lists of columns removed of `o_proj` (whole heads) and of `down_proj`."""
    changes = Changes()
    for name, level in named_levels(lines, where).items():
        layer, inside = located(name, anatomy, where)
        block, attention = anatomy.blocks[layer], inside.endswith("o_proj")
        if not attention and not inside.endswith("down_proj"):
            raise SecateurError(f"{where}: '{name}' has no levels; o_proj and down_proj have")
        columns = numbers["cols_removed_attn" if attention else "cols_removed_mlp"]
        if not 0 <= level < len(columns):
            raise SecateurError(f"{where}: '{name}' has level {level}, the list has {len(columns)}")
        removed = int(columns[level])
        if not attention:
            changes.kept["mlp", layer] = block.channels - removed
            continue
        heads, rest = divmod(block.heads * block.head_dim - removed, block.head_dim)
        if rest or (heads % block.kv_heads and block.queries > 1):
            raise SecateurError(
                f"{where}: '{name}' keeps {heads} heads, which do not go into {block.kv_heads} KV groups"
            )
        if block.queries == 1:
            changes.kept["attention", layer] = heads
        elif heads:
            changes.kept["queries", layer] = heads // block.kv_heads
        else:
            changes.kept["attention", layer] = 0
    return changes

"""Widths for Torch-Pruning, block_configs, DarwinLM and MultiPruner, which choose units by their own scores."""

import json
from typing import Any

from ...space.anatomy import Block
from ...space.state import BlockState
from ..features import Source
from .sparsity import Files, snippet

LLAMA_LIKE = ("llama", "mistral", "qwen2", "qwen3", "smollm3", "granite")
"""Families whose sublayers have separate q, k, v, o, gate, up and down projections."""
HEAD_NORMS = ("qwen3",)
PUZZLETRON = ("llama", "mistral", "qwen2", "qwen3")
MULTIPRUNER = ("llama", "mistral", "qwen2")


def check_llama_like(source: Source) -> str | None:
    if source.anatomy.family in LLAMA_LIKE:
        return None
    return f"{source.anatomy.family} is laid out differently; {', '.join(LLAMA_LIKE)} are not"


def check_puzzletron(source: Source) -> str | None:
    return _check_family(source, PUZZLETRON)


def check_multipruner(source: Source) -> str | None:
    return _check_family(source, MULTIPRUNER) or _check_head_size(source)


def _check_family(source: Source, known: tuple[str, ...]) -> str | None:
    if source.anatomy.family in known:
        return None
    return f"it does not know {source.anatomy.family}; it knows {', '.join(known)}"


def _check_head_size(source: Source) -> str | None:
    """Both tools take the size of a head to be the residual width over their number."""
    block = source.anatomy.blocks[0]
    if block.heads * block.head_dim == block.hidden:
        return None
    return f"it takes a head to be {block.hidden} / {block.heads} wide, and here it is {block.head_dim}"


def check_torch_pruning(source: Source) -> str | None:
    """Besides the layout: it does nothing, silently, when one query head of a KV group would be left, and fails with
    query heads that have norms."""
    for block, state in zip(source.anatomy.blocks, source.states, strict=True):
        if state.queries < block.queries and state.attention and source.anatomy.family in HEAD_NORMS:
            return f"layer {block.index} narrows query heads, which it cannot where heads have norms of their own"
        if state.queries == 1 < block.queries:
            return f"layer {block.index} keeps one query head in each KV group, which it leaves alone without a word"
    return check_llama_like(source)


def torch_pruning(source: Source) -> Files:
    """Ratios by module name, for the snippet beside them: its keys are modules."""
    ratios: dict[str, float] = {}
    heads: dict[str, float] = {}
    numbers: dict[str, int] = {}
    groups: dict[str, int] = {}
    for block, state in zip(source.anatomy.blocks, source.states, strict=True):
        prefix = source.anatomy.block_prefix(block.index)
        for name, count in (("q_proj", block.heads), ("k_proj", block.kv_heads), ("v_proj", block.kv_heads)):
            numbers[f"{prefix}self_attn.{name}"] = count
            if state.queries < block.queries:
                # It removes ceil(ceil(ratio * heads) / groups) of each group.
                removed = (block.queries - state.queries) * block.kv_heads
                heads[f"{prefix}self_attn.{name}"] = (removed - 0.25) / block.heads
        if state.queries < block.queries:
            groups[f"{prefix}self_attn"] = state.queries
        if state.mlp < block.channels:
            # It keeps int(channels * (1 - ratio)): a little more than the number, so that no rounding takes one away.
            ratios[f"{prefix}mlp.gate_proj"] = 1 - (state.mlp + 0.25) / block.channels
    values = {
        "pruning_ratio_dict": ratios,
        "head_pruning_ratio_dict": heads,
        "num_heads": numbers,
        "num_key_value_groups": groups,
        "ignored_layers": ["lm_head"],
    }
    return {"ratios.json": json.dumps(values, indent=1) + "\n", "apply.py": snippet("torch_pruning")}


def block_configs(source: Source) -> Files:
    """One entry for each layer of the dense model (ModelOpt's Puzzletron); query heads stay, and so KV groups."""
    return {
        "block_configs.json": json.dumps({"block_configs": [_block(state) for state in source.states]}, indent=1) + "\n"
    }


def _block(state: BlockState) -> dict[str, Any]:
    attention: dict[str, Any] = {"no_op": not state.attention}
    mlp: dict[str, Any] = {"no_op": not state.mlp}
    if state.attention:
        attention["num_key_value_heads"] = state.attention
    if state.mlp:
        mlp["intermediate_size"] = state.mlp
    return {"attention": attention, "ffn": mlp}


def check_darwinlm(source: Source) -> str | None:
    """It counts columns of the output projection, which says nothing of KV groups where several heads share one."""
    shared = any(block.queries > 1 for block in source.anatomy.blocks)
    narrowed = next(
        (
            block.index
            for block, state in zip(source.anatomy.blocks, source.states, strict=True)
            if 0 < state.attention < block.kv_heads
        ),
        None,
    )
    if shared and narrowed is not None:
        return f"layer {narrowed} drops KV groups, and it counts query heads, several to a group here"
    return check_llama_like(source) or _check_head_size(source)


def darwinlm(source: Source) -> Files:
    """`name: level` lines and the lists that levels count in: columns removed of o_proj and of down_proj."""
    attention, mlp = zip(
        *(_columns(block, state) for block, state in zip(source.anatomy.blocks, source.states, strict=True)),
        strict=True,
    )
    lists = {"cols_removed_attn": sorted({0, *attention}), "cols_removed_mlp": sorted({0, *mlp})}
    lines = []
    for block, heads, channels in zip(source.anatomy.blocks, attention, mlp, strict=True):
        prefix = source.anatomy.block_prefix(block.index)
        lines.append(f"{prefix}self_attn.o_proj: {lists['cols_removed_attn'].index(heads)}\n")
        lines.append(f"{prefix}mlp.down_proj: {lists['cols_removed_mlp'].index(channels)}\n")
    return {"darwinlm.txt": "".join(lines), "metadata.json": json.dumps(lists, indent=1) + "\n"}


def _columns(block: Block, state: BlockState) -> tuple[int, int]:
    """Columns that are removed of the attention's and the MLP's last projection."""
    return (block.heads - state.attention * state.queries) * block.head_dim, block.channels - state.mlp


def multipruner(source: Source) -> Files:
    """`pruning_config.json`: dropped sublayers, and what narrowed ones keep ("pruned" widths are what is left)."""
    values: dict[str, Any] = {
        "pruned_attn_idx": [index for index, state in enumerate(source.states) if not state.attention],
        "pruned_mlp_idx": [index for index, state in enumerate(source.states) if not state.mlp],
        "pruned_attn_width": {},
        "pruned_mlp_width": {},
    }
    for block, state in zip(source.anatomy.blocks, source.states, strict=True):
        if 0 < state.attention < block.kv_heads:
            values["pruned_attn_width"][str(block.index)] = state.attention * block.queries * block.head_dim
        if 0 < state.mlp < block.channels:
            values["pruned_mlp_width"][str(block.index)] = state.mlp
    return {"pruning_config.json": json.dumps(values, indent=1) + "\n"}

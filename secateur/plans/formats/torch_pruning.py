"""Ratios by module for Torch-Pruning, with a snippet; it chooses units by its own scores."""

import json
import math

from ...space.anatomy import Anatomy
from ...space.errors import SecateurError
from ..changes import Changes, located
from ..features import Subject
from .form import TRANSFORMER, Content, Files, Format, of
from .linears import check_llama_like, snippet

HEAD_NORMS = ("qwen3",)
"""Families whose query heads have norms."""


def refuses(subject: Subject) -> str | None:
    """Besides the layout: it does nothing, silently, when one query head of a KV group would be left, and fails with
    query heads that have norms."""
    for block, state in zip(subject.anatomy.blocks, subject.states, strict=True):
        narrowed = 0 < state.kept["queries"] < block.dimensions["queries"]
        if narrowed and subject.anatomy.family in HEAD_NORMS:
            return f"layer {block.index} narrows query heads, which it cannot where heads have norms of their own"
        if state.kept["queries"] == 1 < block.dimensions["queries"]:
            return f"layer {block.index} keeps one query head in each KV group, which it leaves alone without a word"
    return check_llama_like(subject)


def write(subject: Subject) -> Files:
    """Ratios by module name, for the snippet beside them: its keys are modules."""
    ratios: dict[str, float] = {}
    heads: dict[str, float] = {}
    numbers: dict[str, int] = {}
    groups: dict[str, int] = {}
    for block, state in zip(subject.anatomy.blocks, subject.states, strict=True):
        prefix = subject.anatomy.block_prefix(block.index)
        kv_heads, heads_per_group = block.dimensions["groups"], block.dimensions["queries"]
        for name, count in (("q_proj", block.dense_sizes["heads"]), ("k_proj", kv_heads), ("v_proj", kv_heads)):
            numbers[f"{prefix}self_attn.{name}"] = count
            if state.kept["queries"] < heads_per_group:
                # It removes ceil(ceil(ratio * heads) / groups) of each group.
                removed = (heads_per_group - state.kept["queries"]) * kv_heads
                heads[f"{prefix}self_attn.{name}"] = (removed - 0.25) / block.dense_sizes["heads"]
        if state.kept["queries"] < heads_per_group:
            groups[f"{prefix}self_attn"] = state.kept["queries"]
        if state.kept["channels"] < block.dimensions["channels"]:
            # It keeps int(channels * (1 - ratio)): a little more than the number, so that no rounding takes one away.
            ratios[f"{prefix}mlp.gate_proj"] = 1 - (state.kept["channels"] + 0.25) / block.dimensions["channels"]
    values = {
        "pruning_ratio_dict": ratios,
        "head_pruning_ratio_dict": heads,
        "num_heads": numbers,
        "num_key_value_groups": groups,
        "ignored_layers": ["lm_head"],
    }
    return {"ratios.json": json.dumps(values, indent=1) + "\n", "apply.py": snippet("torch_pruning")}


def reads(content: Content) -> bool:
    """A mapping with that key."""
    return "pruning_ratio_dict" in content.names


def read(content: Content, anatomy: Anatomy) -> Changes:
    """Ratios by module, rounded as the tool does: of MLP channels, and of query heads, as many of every group."""
    values, where = content.values, content.where
    changes = Changes()
    heads = values.get("head_pruning_ratio_dict") or {}
    for name, ratio in values["pruning_ratio_dict"].items():
        layer, inside = located(name, anatomy, where)
        if inside in ("mlp.gate_proj", "mlp.up_proj"):
            changes.kept["channels", layer] = int(anatomy.blocks[layer].dimensions["channels"] * (1 - float(ratio)))
        elif name not in heads:
            raise SecateurError(f"{where}: '{name}' is neither an MLP's input nor among the heads")
    for name, ratio in heads.items():
        layer, _ = located(name, anatomy, where)
        block = anatomy.blocks[layer]
        removed = math.ceil(math.ceil(float(ratio) * block.dense_sizes["heads"]) / block.dimensions["groups"])
        changes.kept["queries", layer] = block.dimensions["queries"] - removed
    return changes


TORCH_PRUNING = Format(
    "torch-pruning",
    "ratios by module, with a snippet",
    of("channels", "queries"),
    write,
    refuses=refuses,
    reads=reads,
    read=read,
    head=True,
    sublayers=TRANSFORMER,
)

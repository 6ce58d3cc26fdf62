"""MultiPruner's `pruning_config.json`."""

import json
from typing import Any

from ...space.anatomy import Anatomy, Block
from ..changes import Changes
from ..features import Subject
from .form import TRANSFORMER, UNITS, Content, Files, Format
from .linears import check_family, check_head_size

FAMILIES = ("llama", "mistral", "qwen2")
"""Those that it knows."""


def refuses(subject: Subject) -> str | None:
    """Why MultiPruner does not take the family; None where it does."""
    return check_family(subject, FAMILIES) or check_head_size(subject)


def write(subject: Subject) -> Files:
    """`pruning_config.json`: dropped sublayers, and what narrowed ones keep ("pruned" widths are what is left)."""
    values: dict[str, Any] = {
        "pruned_attn_idx": [index for index, state in enumerate(subject.states) if not state.kept["groups"]],
        "pruned_mlp_idx": [index for index, state in enumerate(subject.states) if not state.kept["channels"]],
        "pruned_attn_width": {},
        "pruned_mlp_width": {},
    }
    for block, state in zip(subject.anatomy.blocks, subject.states, strict=True):
        if 0 < state.kept["groups"] < block.dimensions["groups"]:
            values["pruned_attn_width"][str(block.index)] = state.sizes(block)["query"]
        if 0 < state.kept["channels"] < block.dimensions["channels"]:
            values["pruned_mlp_width"][str(block.index)] = state.kept["channels"]
    return {"pruning_config.json": json.dumps(values, indent=1) + "\n"}


def reads(content: Content) -> bool:
    """A mapping with one of its keys."""
    return bool({"pruned_attn_idx", "pruned_mlp_idx"} & content.names)


def read(content: Content, anatomy: Anatomy) -> Changes:
    """Dropped sublayers by index; "pruned" widths are what is left, in units of the attention's output and channels."""
    values = content.values
    changes = Changes()
    for index, width in (values.get("pruned_attn_width") or {}).items():
        block = _block(anatomy, int(index))
        groups, rest = divmod(int(width), block.segments["query"].unit * block.dimensions["queries"])
        if rest or not groups:
            raise ValueError(f"layer {index} keeps {width} of attention's outputs, which are no whole KV groups")
        changes.kept["groups", int(index)] = groups
    for index, width in (values.get("pruned_mlp_width") or {}).items():
        changes.kept["channels", int(index)] = int(width)
    changes.kept |= {("groups", int(index)): 0 for index in values.get("pruned_attn_idx") or ()}
    changes.kept |= {("channels", int(index)): 0 for index in values.get("pruned_mlp_idx") or ()}
    return changes


def _block(anatomy: Anatomy, index: int) -> Block:
    """The block, or the first where there is none: that a layer does not exist is said when all is put together."""
    return anatomy.blocks[index if 0 <= index < len(anatomy.blocks) else 0]


MULTIPRUNER = Format(
    "multipruner",
    "its pruning_config.json",
    UNITS,
    write,
    refuses=refuses,
    reads=reads,
    read=read,
    sublayers=TRANSFORMER,
    head=True,
)

"""`block_configs` of ModelOpt's Puzzletron."""

import json
from typing import Any

from ...space.anatomy import Anatomy
from ...space.errors import SecateurError
from ...space.state import BlockState
from ..changes import Changes
from ..features import Subject
from .form import DROPS, TRANSFORMER, Content, Files, Format, of
from .linears import check_family

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
"""Those that it knows."""


def refuses(subject: Subject) -> str | None:
    """Why Puzzletron does not take the family; None where it does."""
    return check_family(subject, FAMILIES)


def write(subject: Subject) -> Files:
    """One entry for each layer of the dense model (ModelOpt's Puzzletron); query heads stay, and so KV groups."""
    return {
        "block_configs.json": json.dumps({"block_configs": [_block(state) for state in subject.states]}, indent=1)
        + "\n"
    }


def _block(state: BlockState) -> dict[str, Any]:
    attention: dict[str, Any] = {"no_op": not state.kept["groups"]}
    mlp: dict[str, Any] = {"no_op": not state.kept["channels"]}
    if state.kept["groups"]:
        attention["num_key_value_heads"] = state.kept["groups"]
    if state.kept["channels"]:
        mlp["intermediate_size"] = state.kept["channels"]
    return {"attention": attention, "ffn": mlp}


def reads(content: Content) -> bool:
    """A mapping with that key: ModelOpt's, or the config.json of a DeciLM."""
    return "block_configs" in content.names


def read(content: Content, anatomy: Anatomy) -> Changes:
    """ModelOpt's entries, and DeciLM's older ones (`n_heads_in_group`) but for `ffn_mult`, which is rounded up.

    Raises:
        SecateurError: other numbers of KV heads: there the query heads stay, here they go with their group.
    """
    entries, where = content.values["block_configs"], content.where
    if len(entries) != len(anatomy.blocks):
        raise SecateurError(f"{where}: has {len(entries)} blocks, the model {len(anatomy.blocks)}")
    changes = Changes()
    for block, entry in zip(anatomy.blocks, entries, strict=True):
        attention, ffn = entry["attention"], entry["ffn"]
        if any(part.get("replace_with_linear") for part in (attention, ffn)) or ffn.get("ffn_mult") is not None:
            raise SecateurError(f"{where}: block {block.index}: 'replace_with_linear' and 'ffn_mult' are not read")
        groups = int(attention.get("num_key_value_heads", block.dimensions["groups"]))
        queries = int(attention.get("n_heads_in_group", block.dimensions["queries"]))
        dense = block.dimensions["groups"], block.dimensions["queries"]
        if not attention.get("no_op") and (groups, queries) != dense:
            raise SecateurError(
                f"{where}: block {block.index} has other KV heads and all query heads; ours go with their KV group"
            )
        changes.kept["groups", block.index] = 0 if attention.get("no_op") else block.dimensions["groups"]
        width = int(ffn.get("intermediate_size", block.dimensions["channels"]))
        changes.kept["channels", block.index] = 0 if ffn.get("no_op") else width
    return changes


BLOCK_CONFIGS = Format(
    "block_configs",
    "block_configs of ModelOpt's Puzzletron",
    DROPS | of("channels"),
    write,
    refuses=refuses,
    reads=reads,
    read=read,
    sublayers=TRANSFORMER,
    head=True,
)

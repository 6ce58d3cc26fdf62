"""DarwinLM's levels by projection, with the lists that they count in."""

import json

from ...space.anatomy import Anatomy, Block
from ...space.errors import SecateurError
from ...space.state import BlockState
from ..changes import Changes, located
from ..features import Subject
from .form import TRANSFORMER, UNITS, Content, Files, Format, of
from .linears import check_head_size, check_llama_like, named_levels


def refuses(subject: Subject) -> str | None:
    """It counts columns of the output projection, which says nothing of KV groups where several heads share one."""
    shared = any(block.dimensions["queries"] > 1 for block in subject.anatomy.blocks)
    narrowed = next(
        (
            block.index
            for block, state in zip(subject.anatomy.blocks, subject.states, strict=True)
            if 0 < state.kept["groups"] < block.dimensions["groups"]
        ),
        None,
    )
    if shared and narrowed is not None:
        return f"layer {narrowed} drops KV groups, and it counts query heads, several to a group here"
    return check_llama_like(subject) or check_head_size(subject)


def write(subject: Subject) -> Files:
    """`name: level` lines and the lists that levels count in: columns removed of o_proj and of down_proj."""
    attention, mlp = zip(
        *(_columns(block, state) for block, state in zip(subject.anatomy.blocks, subject.states, strict=True)),
        strict=True,
    )
    lists = {"cols_removed_attn": sorted({0, *attention}), "cols_removed_mlp": sorted({0, *mlp})}
    lines = []
    for block, heads, channels in zip(subject.anatomy.blocks, attention, mlp, strict=True):
        prefix = subject.anatomy.block_prefix(block.index)
        lines.append(f"{prefix}self_attn.o_proj: {lists['cols_removed_attn'].index(heads)}\n")
        lines.append(f"{prefix}mlp.down_proj: {lists['cols_removed_mlp'].index(channels)}\n")
    return {"darwinlm.txt": "".join(lines), "metadata.json": json.dumps(lists, indent=1) + "\n"}


def _columns(block: Block, state: BlockState) -> tuple[int, int]:
    """Columns that are removed of the attention's and the MLP's last projection."""
    attention = block.dense_sizes["query"] - state.sizes(block)["query"]
    return attention, block.dimensions["channels"] - state.kept["channels"]


def reads(content: Content) -> bool:
    """Levels by name that do not count in EvoPress's numbers."""
    return content.leveled and "weights_diff" not in content.numbers


def read(content: Content, anatomy: Anatomy) -> Changes:
    """Levels count in lists of columns removed of `o_proj` (whole heads) and of `down_proj`."""
    lines, numbers, where = content.lines, content.numbers, content.where
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
            changes.kept["channels", layer] = block.dimensions["channels"] - removed
            continue
        heads, rest = divmod(block.dense_sizes["query"] - removed, block.segments["query"].unit)
        groups = block.dimensions["groups"]
        if rest or (heads % groups and block.dimensions["queries"] > 1):
            raise SecateurError(f"{where}: '{name}' keeps {heads} heads, which do not go into {groups} KV groups")
        if block.dimensions["queries"] == 1:
            changes.kept["groups", layer] = heads
        elif heads:
            changes.kept["queries", layer] = heads // groups
        else:
            changes.kept["groups", layer] = 0
    return changes


DARWINLM = Format(
    "darwinlm",
    "its levels by projection",
    UNITS | of("queries"),
    write,
    refuses=refuses,
    reads=reads,
    read=read,
    sublayers=TRANSFORMER,
    head=True,
)

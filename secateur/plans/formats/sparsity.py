"""Shares of zeros for tools that prune by themselves: llm-compressor, torchao, torch.nn.utils.prune, AlphaPruning,
EvoPress.

All say how much, not which weights: the tool chooses those by its own scores on the dense model.
"""

import io
import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import yaml

from ...space.anatomy import Linear
from ...space.treatments import STEPS, Sparsity
from ..features import OTHER_ORDER, Source

Files = dict[str, str | bytes]
"""What an export consists of: contents by file name."""

SNIPPETS = Path(__file__).with_name("snippets")
"""What stands beside a list in an export and applies it; these files import nothing of ours."""


def snippet(name: str) -> str:
    return (SNIPPETS / f"{name}.py").read_text(encoding="utf8")


def linears(source: Source) -> Iterator[tuple[str, Linear, Sparsity]]:
    """Full name, shape and level of every linear, in module order."""
    for block, state in zip(source.anatomy.blocks, source.states, strict=True):
        for linear, level in zip(block.linears, state.sparsity, strict=True):
            yield source.anatomy.block_prefix(block.index) + linear.name, linear, level


def check_zeros(source: Source) -> str | None:
    return None if any(level for *_, level in linears(source)) else "no linear has zeros"


def check_linears(source: Source) -> str | None:
    """Besides that there is something to do: these tools know `nn.Linear` alone."""
    name = next((name for name, linear, _ in linears(source) if linear.transposed), None)
    return f"{name} is a Conv1D, and it prunes nn.Linear" if name else check_zeros(source)


def check_order(source: Source) -> str | None:
    """Besides that: these tools read shares by the position of a module."""
    if source.anatomy.family in OTHER_ORDER:
        return f"{source.anatomy.family} registers its linears in another order, by which it reads shares"
    return check_linears(source)


def llm_compressor(source: Source) -> Files:
    """One modifier for each mask structure, with names and shares in module order, in which it reads the list.

    Dense linears are not listed, and so nothing outside the blocks is either: not the head, tied or not.
    """
    modifier = "WandaPruningModifier" if source.plan.pruner == "wanda" else "SparseGPTModifier"
    groups: dict[str, list[tuple[str, Sparsity]]] = {}
    for name, _, level in linears(source):
        if level:
            # Its N is the number of zeros in M, ours that of what is kept.
            structure = f"{level.of - level.keep}:{level.of}" if level.of else "0:0"
            groups.setdefault(structure, []).append((name, level))
    # It reads keys that end in "_stage" and "_modifiers" alone.
    stage = {
        f"group{number}_modifiers": {
            modifier: {
                "sparsity": [level.share for _, level in group],
                "mask_structure": structure,
                "targets": [name for name, _ in group],
            }
        }
        for number, (structure, group) in enumerate(sorted(groups.items()))
    }
    return {"recipe.yaml": yaml.safe_dump({"pruning_stage": stage}, sort_keys=False)}


def torchao(source: Source) -> Files:
    """The list that torchao's sparsifiers take; shares are floats, since torch.nn.utils.prune counts with integers."""
    return {"sparsity.json": _tensors(source), "apply.py": snippet("torchao")}


def torch_prune(source: Source) -> Files:
    return {"sparsity.json": _tensors(source), "apply.py": snippet("torch_prune")}


def _tensors(source: Source) -> str:
    entries = []
    for name, _, level in linears(source):
        entry: dict[str, object] = {"tensor_fqn": f"{name}.weight", "sparsity_level": float(level.share)}
        if level.of:
            entry |= {
                "sparsity_level": 1.0,
                "sparse_block_shape": [1, level.of],
                "zeros_per_block": level.of - level.keep,
            }
        if level:
            entries.append(entry)
    return json.dumps(entries, indent=1) + "\n"


def alphapruning(source: Source) -> Files:
    """`profile.npy`, one float64 for each linear in module order, and the numbers that make its map return just these.

    epsilon = (max - min) / (max + min), and the overall ratio; with `--mapping_type layer_wise`. Where all shares are
    the same, its map would divide by nothing, and its uniform method does what is meant.
    """
    shares = np.array([level.share for _, _, level in linears(source)])
    weights = np.array([linear.weights for _, linear, _ in linears(source)], dtype=float)
    epsilon = float((shares.max() - shares.min()) / (shares.max() + shares.min()))
    ratio = float((weights @ shares) / weights.sum())
    buffer = io.BytesIO()
    np.save(buffer, shares, allow_pickle=False)
    profile = "wanda_ww --ww_metric profile --ww_metric_cache ."
    method = f"{profile} --epsilon {epsilon!r} --mapping_type layer_wise" if epsilon else "wanda"
    command = (
        f"python main.py --model {shlex.quote(source.plan.model.path)} --prune_method {method} "
        f"--sparsity_ratio {ratio!r} --save out\n"
    )
    values = {"sparsity_ratio": ratio, "epsilon": epsilon, "linears": [name for name, _, _ in linears(source)]}
    return {
        "profile.npy": buffer.getvalue(),
        "profile.json": json.dumps(values, indent=1) + "\n",
        "command.txt": command,
    }


def evopress_levels(source: Source) -> Files:
    """`name: level` lines, and what a level means: a share of sparsity + level * weights_diff / numel.

    EvoPress's level 0 is the overall sparsity, and its step a whole number of weights: here a quarter of a per cent of
    the smallest linear, so that no share is off by more than an eighth. Its database has to be made with these numbers,
    `num_levels` on either side.
    """
    found = [(name, linear.weights, level.steps) for name, linear, level in linears(source)]
    middle = round(sum(weights * steps for _, weights, steps in found) / sum(weights for _, weights, _ in found))
    step = max(1, min(weights for _, weights, _ in found) // (2 * STEPS))
    levels = {name: round((steps - middle) * weights / STEPS / step) for name, weights, steps in found}
    meta = {
        "sparsity": middle / STEPS,
        "weights_diff": step,
        "num_levels": max(map(abs, levels.values())),
        "shares": {name: steps / STEPS for name, _, steps in found},
    }
    lines = "".join(f"{name}: {level}\n" for name, level in levels.items())
    return {"levels.txt": lines, "metadata.json": json.dumps(meta, indent=1) + "\n"}

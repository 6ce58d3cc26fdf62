"""Shares of zeros for tools that prune by themselves: llm-compressor, torchao, torch.nn.utils.prune, AlphaPruning,
EvoPress.

All say how much, not which weights: the tool chooses those by its own scores on the dense model.
"""

import io
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import yaml

from ...space.anatomy import Linear
from ...space.gene import STEPS, Sparsity
from .features import Source

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


def llm_compressor(source: Source) -> Files:
    """One modifier for each mask structure, with names and shares in module order, in which it reads the list.

    Dense linears are not listed, and so nothing outside the blocks is either: not the head, tied or not.
    """
    modifier = "WandaPruningModifier" if source.plan.pruner == "wanda" else "SparseGPTModifier"
    groups: dict[str, list[tuple[str, Sparsity]]] = {}
    for name, _, level in linears(source):
        if level:
            groups.setdefault(str(level) if level.of else "0:0", []).append((name, level))
    recipe = {
        f"pruning_stage_{number}": {
            "pruning_modifiers": {
                modifier: {
                    "sparsity": [level.share for _, level in group],
                    "mask_structure": structure,
                    "targets": [name for name, _ in group],
                }
            }
        }
        for number, (structure, group) in enumerate(sorted(groups.items()))
    }
    return {"recipe.yaml": yaml.safe_dump(recipe, sort_keys=False)}


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


def check_profile(source: Source) -> str | None:
    """AlphaPruning maps its values between the least and the largest share, and divides by what lies between."""
    shares = {level.share for _, _, level in linears(source)}
    return "all linears have the same share; its uniform method does that" if len(shares) < 2 else None


def alphapruning(source: Source) -> Files:
    """`profile.npy`, one float64 for each linear in module order, and the numbers that make its map return just these.

    epsilon = (max - min) / (max + min), and the overall ratio; with `--mapping_type layer_wise`.
    """
    shares = np.array([level.share for _, _, level in linears(source)])
    weights = np.array([linear.weights for _, linear, _ in linears(source)], dtype=float)
    epsilon = float((shares.max() - shares.min()) / (shares.max() + shares.min()))
    ratio = float((weights @ shares) / weights.sum())
    buffer = io.BytesIO()
    np.save(buffer, shares, allow_pickle=False)
    command = (
        f"python main.py --model {source.plan.model.path} --prune_method wanda_ww --sparsity_ratio {ratio!r} "
        f"--ww_metric profile --ww_metric_cache . --epsilon {epsilon!r} --mapping_type layer_wise --save out\n"
    )
    values = {"sparsity_ratio": ratio, "epsilon": epsilon, "linears": [name for name, _, _ in linears(source)]}
    return {
        "profile.npy": buffer.getvalue(),
        "profile.json": json.dumps(values, indent=1) + "\n",
        "command.txt": command,
    }


def evopress_levels(source: Source) -> Files:
    """`name: level` lines, and what a level means: a share of sparsity + level * weights_diff / numel.

    EvoPress's level 0 is the overall sparsity. The step is the largest of which every linear's distance to that is a
    multiple, so that nothing is rounded; its database has to be made with these two numbers.
    """
    found = [(name, linear.weights, level.steps) for name, linear, level in linears(source)]
    middle = round(sum(weights * steps for _, weights, steps in found) / sum(weights for _, weights, _ in found))
    # In two-hundredths of a weight, in which shares are whole numbers.
    distances = [(steps - middle) * weights for _, weights, steps in found]
    step = math.gcd(*distances) or STEPS
    lines = [f"{name}: {distance // step}\n" for (name, *_), distance in zip(found, distances, strict=True)]
    meta = {
        "sparsity": middle / STEPS,
        "weights_diff": step / STEPS,
        "shares": {name: steps / STEPS for name, _, steps in found},
    }
    return {"levels.txt": "".join(lines), "metadata.json": json.dumps(meta, indent=1) + "\n"}

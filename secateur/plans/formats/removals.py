"""Dropped layers and sublayers for mergekit, llama-quantize, EvoPress, BlockPruner and SLEB.

All of these name layers of the dense model by its own indices and do the removing themselves.
"""

import json

import yaml

from ...space.state import BlockState
from ..features import Source
from .sparsity import Files

MERGED = ("llama", "mistral")
"""Families that mergekit copies as they are; it refuses configurations that list their layers (qwen, smollm3)."""
WORDS = {(False, False): "none", (True, False): "attn", (False, True): "mlp", (True, True): "attn+mlp"}


def check_mergekit(source: Source) -> str | None:
    if source.anatomy.family not in MERGED:
        return f"{source.anatomy.family} fails its check of the configuration ({', '.join(MERGED)} do not); use hf"
    path = source.plan.model.path
    if ":" in path or path.endswith(".gguf"):
        return f"it reads folders and names of a hub, and the model is {path}"
    return None if source.kept else "no layer is left"


def mergekit(source: Source) -> Files:
    """A passthrough of the runs of layers that are kept; ranges are half-open."""
    dtype = source.plan.model.dtype
    slices = [
        {"sources": [{"model": source.plan.model.path, "layer_range": [first, last + 1]}]}
        for first, last in runs(source.kept)
    ]
    recipe = {"merge_method": "passthrough", "dtype": dtype, "slices": slices}
    return {"mergekit.yaml": yaml.safe_dump(recipe, sort_keys=False)}


def runs(indices: tuple[int, ...]) -> list[tuple[int, int]]:
    """First and last of each run of consecutive indices, which ascend."""
    found: list[tuple[int, int]] = []
    for index in indices:
        if found and found[-1][1] == index - 1:
            found[-1] = (found[-1][0], index)
        else:
            found.append((index, index))
    return found


def llama_quantize(source: Source) -> Files:
    """The list of `--prune-layers`, for a GGUF of the dense model: on one with sizes per layer it breaks the arrays."""
    layers = ",".join(map(str, source.removed))
    command = f"llama-quantize --prune-layers {layers} dense.gguf smaller.gguf q8_0\n"
    return {"prune_layers.txt": f"{layers}\n", "command.txt": command}


def check_removed(source: Source) -> str | None:
    return None if source.removed else "no layer is dropped"


def _dropped(state: BlockState) -> tuple[bool, bool]:
    return not state.attention, not state.mlp


def evopress_drops(source: Source) -> Files:
    """A line for each layer of the dense model."""
    return {"layer_drop_config.txt": "".join(f"{WORDS[_dropped(state)]}\n" for state in source.states)}


def blockpruner(source: Source) -> Files:
    """Pairs of sublayer and layer, under their number (`--del-block-num`)."""
    pairs = [
        [kind, index]
        for index, state in enumerate(source.states)
        for kind, dropped in zip(("mha", "mlp"), _dropped(state), strict=True)
        if dropped
    ]
    return {"blockpruner.json": json.dumps({str(len(pairs)): pairs}) + "\n"}


def sleb(source: Source) -> Files:
    """The argument of `--removal_list`."""
    return {"removal_list.txt": json.dumps(list(source.removed)) + "\n"}

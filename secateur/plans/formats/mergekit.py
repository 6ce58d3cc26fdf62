"""Passthrough recipes for mergekit."""

import yaml

from ...space.anatomy import Anatomy
from ...space.errors import SecateurError
from ..changes import Changes
from ..features import Subject
from .form import Content, Files, Format, of

MERGED = ("llama", "mistral")
"""Families that mergekit copies as they are; it refuses configurations that list their layers (qwen, smollm3)."""
LAST = {"o_proj": "groups", "down_proj": "channels"}
"""Projections to the residual stream, and a dimension of their sublayer: scaled by zero, that does nothing."""


def refuses(subject: Subject) -> str | None:
    """Why mergekit could not merge the subnet; None where it can."""
    if subject.anatomy.family not in MERGED:
        return f"{subject.anatomy.family} fails its check of the configuration ({', '.join(MERGED)} do not); use hf"
    path = subject.path
    if ":" in path or path.endswith(".gguf"):
        return f"it reads folders and names of a hub, and the model is {path}"
    return None if subject.kept else "no layer is left"


def write(subject: Subject) -> Files:
    """A passthrough of the runs of layers that are kept; ranges are half-open."""
    dtype = subject.dtype
    slices = [
        {"sources": [{"model": subject.path, "layer_range": [first, last + 1]}]} for first, last in runs(subject.kept)
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


def reads(content: Content) -> bool:
    """A recipe with slices."""
    return "slices" in content.names


def read(content: Content, anatomy: Anatomy) -> Changes:
    """A passthrough of slices in the model's own order; what is in none of them is dropped.

    Layers whose `o_proj` or `down_proj` is scaled by zero have lost that sublayer.
    """
    values, where = content.values, content.where
    if values.get("merge_method") != "passthrough":
        raise SecateurError(f"{where}: the merge method is {values.get('merge_method')}; passthrough alone is a plan")
    if "parameters" in values:
        raise SecateurError(f"{where}: parameters of the whole merge are not read; give them to the sources")
    kept: list[int] = []
    models: set[str] = set()
    changes = Changes()
    for part in values["slices"]:
        [source] = part["sources"]
        models.add(str(source["model"]))
        first, stop = source.get("layer_range") or (0, len(anatomy.blocks))
        if stop > len(anatomy.blocks):
            raise SecateurError(f"{where}: layers up to {stop - 1}, but the model has {len(anatomy.blocks)}")
        kept += range(first, stop)
        rules = (source.get("parameters") or {}).get("scale") or ()
        for rule in rules:
            name, value = str(rule.get("filter", "")), float(rule["value"])
            if name in LAST and value == 0:
                changes.kept |= {(LAST[name], layer): 0 for layer in range(first, stop)}
            elif value != 1:
                raise SecateurError(f"{where}: a scale of {value} for '{name}'; o_proj or down_proj by 0 is a plan")
        if "parameters" in part:
            raise SecateurError(f"{where}: parameters of a whole slice are not read; give them to its source")
    if len(models) > 1:
        raise SecateurError(f"{where}: layers of {len(models)} models; that is no pruning")
    if kept != sorted(set(kept)):
        raise SecateurError(f"{where}: layers are repeated or in another order; that is no pruning")
    changes.removed = set(range(len(anatomy.blocks))) - set(kept)
    return changes


MERGEKIT = Format(
    "mergekit", "passthrough recipe", of("layers"), write, refuses=refuses, reads=reads, read=read, head=True
)

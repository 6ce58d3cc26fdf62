"""How a model makes one embedding of a text of what it says of every token: as its sentence-transformers files say."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ...files import read_json
from ...space.errors import SecateurError
from .files import read_object

MODULES, LARGEST = "modules.json", 2**20
POOLINGS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "mean": lambda hidden: hidden.mean(dim=0),
    "cls": lambda hidden: hidden[0],
    "max": lambda hidden: hidden.amax(dim=0),
    "lasttoken": lambda hidden: hidden[-1],
}
"""Of hidden states (time, hidden), after the final norm, one embedding (hidden,)."""
PREFIX = "pooling_mode_"
TOKENS = {"mean_tokens": "mean", "cls_token": "cls", "max_tokens": "max"}
"""What older files call them."""


def modules_of(folder: Path) -> dict[str, str]:
    """By their folders, the kinds of the modules that a model's sentence-transformers file names after the model."""
    modules = read_json(folder / MODULES, f"model '{folder}': {MODULES}", LARGEST)
    entries = [one for one in modules if isinstance(one, dict)] if isinstance(modules, list) else []
    return {str(one["path"]): str(one.get("type")) for one in entries if one.get("path")}


def pooling_of(folder: Path) -> str:
    """The name in `POOLINGS` of a model's pooling; the mean where it has no such files.

    Raises:
        SecateurError: they say something that is none of these, or several at once.
    """
    if not (folder / MODULES).is_file():
        return "mean"
    where = f"model '{folder}': {MODULES}"
    paths = [path for path, kind in modules_of(folder).items() if kind.endswith("Pooling")]
    if not paths:
        return "mean"
    inside = folder / paths[0]
    if not inside.resolve().is_relative_to(folder.resolve()):
        raise SecateurError(f"{where}: its pooling is outside the model's folder")
    return _named(read_object(inside / "config.json", f"model '{folder}': its pooling", LARGEST), str(folder))


def _named(values: Mapping[str, Any], folder: str) -> str:
    modes = [name.removeprefix(PREFIX) for name, on in values.items() if name.startswith(PREFIX) and on is True]
    if "pooling_mode" in values:
        modes.append(str(values["pooling_mode"]))
    found = {TOKENS.get(mode, mode) for mode in modes}
    if len(found) != 1 or not found <= POOLINGS.keys():
        raise SecateurError(
            f"model '{folder}': it pools by {' and '.join(sorted(found)) or 'nothing'}; embeddings by "
            f"{', '.join(POOLINGS)} are known"
        )
    return found.pop()

"""Files that a recipe names: relative names are looked for beside the recipe, then where the program was started."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...search.warm import is_plan_file

TEXTS = (".txt", ".jsonl", ".parquet", ".npy")


def located(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Values of a recipe with the files they name by absolute paths, so that the run they make can be gone on with from
    anywhere; names that are no files' stay as they are."""
    changed = dict(values)
    model = changed.get("model")
    if isinstance(model, Mapping):
        changed["model"] = {**model, "path": _one(model.get("path"), folder, (".gguf",))}
    for name in ("calibration", "prepare", "training"):
        if isinstance(changed.get(name), Mapping):
            changed[name] = _inside(changed[name], folder) if name == "training" else _text(changed[name], folder)
    if isinstance(changed.get("held_out"), list | tuple):
        changed["held_out"] = [_text(text, folder) for text in changed["held_out"]]
    tasks = changed.get("tasks")
    if isinstance(tasks, Mapping) and tasks.get("include") is not None:
        changed["tasks"] = {**tasks, "include": _one(tasks["include"], folder)}
    for name, ending in (("base", ".json"), ("importance", ".gguf")):
        if changed.get(name) is not None:
            changed[name] = _one(changed[name], folder, (ending,))
    changed |= {name: _plans(changed[name], folder) for name in ("baselines",) if name in changed}
    strategy = changed.get("strategy")
    if isinstance(strategy, Mapping) and "initial" in strategy:
        changed["strategy"] = {**strategy, "initial": _plans(strategy["initial"], folder)}
    return changed


def _inside(training: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    return {**training, "text": _text(training["text"], folder)} if "text" in training else dict(training)


def _text(text: Any, folder: Path) -> Any:
    if not isinstance(text, Mapping):
        return text
    parts = text.get("mixture")
    mixed = {"mixture": [_text(part, folder) for part in parts]} if isinstance(parts, list | tuple) and parts else {}
    return {**text, **mixed} if mixed else {**text, "source": _one(text.get("source"), folder, TEXTS)}


def _plans(names: Any, folder: Path) -> Any:
    if not isinstance(names, list | tuple):
        return names
    return [_one(name, folder) if isinstance(name, str) and is_plan_file(name) else name for name in names]


def _one(name: Any, folder: Path, endings: tuple[str, ...] = ()) -> Any:
    """The absolute path of a file or folder; `endings`: names that end so, or begin with a dot, can be nothing else."""
    if not isinstance(name, str) or not name or name.startswith(("package:", "~")) or Path(name).is_absolute():
        return name
    try:
        found = next((base / name for base in (folder, Path.cwd()) if (base / name).exists()), None)
    except (OSError, ValueError):  # no name of a file
        return name
    if found is None and (name.startswith(".") or name.endswith(endings)):
        found = folder / name
    return os.path.abspath(found) if found is not None else name

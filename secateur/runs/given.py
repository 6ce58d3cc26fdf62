"""Objects instead of paths: what Python users have loaded already is kept in the run's folder, so that a run that was
stopped can be gone on with, and workers can open it."""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import write_text
from ..fitness.model.given import keep_objects
from ..space.errors import SecateurError
from .asked.reading import read_recipe, written_recipe
from .asked.recipe import Recipe
from .asked.shipped import recipe_file
from .asked.shorthand import spelled_out
from .asked.values import read_values
from .record.folder import GIVEN, check_free

Asked = str | Path | Mapping[str, Any] | Recipe
"""A recipe: a YAML file, the name of one that ships with us, plain values, or the recipe itself."""


@dataclass(frozen=True, slots=True)
class Objects:
    """What is given besides a recipe that does not name it.

    Attributes:
        model, tokenizer: as transformers loads them.
        text: documents to score candidates on.
        held_out: documents that the search never sees; None: some of `text` are kept from it.
    """

    model: Any = None
    tokenizer: Any = None
    text: Iterable[str] | None = None
    held_out: Iterable[str] | None = None


def read(recipe: Asked) -> Recipe:
    """The recipe that is meant; raises SecateurError where it does not fit."""
    if isinstance(recipe, Recipe):
        return recipe
    return read_recipe(Path(recipe)) if isinstance(recipe, str | Path) else written_recipe(recipe, Path.cwd())


@contextmanager
def beginning(recipe: Asked, path: Path, objects: Objects) -> Iterator[Recipe]:
    """The recipe of a run that is begun in `path` while this is open, its objects kept there.

    Raises:
        SecateurError: recipe and objects do not fit together, or `path` is taken.
    """
    if all(one is None for one in (objects.model, objects.tokenizer, objects.text, objects.held_out)):
        yield read(recipe)
        return
    check_free(path)
    folder, there = path / GIVEN, path.exists()
    try:
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed before it had begun
        yield _with_objects(recipe, folder, objects)
    except BaseException:
        if not (path / "recipe.yaml").exists():
            shutil.rmtree(folder if there else path, ignore_errors=True)
        raise


def _with_objects(recipe: Asked, folder: Path, objects: Objects) -> Recipe:
    if isinstance(recipe, Recipe):
        raise SecateurError("recipe: a Recipe names its model and texts; give plain values or a file with objects")
    if isinstance(recipe, str | Path):
        file = recipe_file(Path(recipe))
        values, base, where = read_values(file, f"recipe {file}"), file.absolute().parent, f"recipe {file}"
    else:
        values, base, where = dict(recipe), Path.cwd(), "recipe"
    spelled = spelled_out(values)
    own_model = objects.model is not None or objects.tokenizer is not None
    if own_model:
        spelled["model"] = _section(spelled, "model", "path", str(folder.absolute() / "model"))
    if objects.text is not None:
        spelled["calibration"] = _section(spelled, "calibration", "source", _file(folder, "text"))
    if objects.held_out is not None:
        if isinstance(spelled.get("held_out"), list) and len(spelled["held_out"]) == 1:
            spelled["held_out"] = spelled["held_out"][0]
        spelled["held_out"] = [_section(spelled, "held_out", "source", _file(folder, "held-out"))]
    # Whatever is wrong with the recipe is said before anything is written.
    found = written_recipe(spelled, base, where=where)
    for name, documents in (("text", objects.text), ("held-out", objects.held_out)):
        if documents is not None:
            _write(Path(_file(folder, name)), name.replace("-", "_"), documents)
    if own_model:
        keep_objects(objects.model, objects.tokenizer, folder / "model")
    return found


def _file(folder: Path, name: str) -> str:
    return str(folder.absolute() / f"{name}.jsonl")


def _section(values: Mapping[str, Any], key: str, name: str, path: str) -> dict[str, Any]:
    """A section of the recipe whose `name` is what an object was written to."""
    section = values.get(key) or {}
    if not isinstance(section, Mapping) or name in section:
        raise SecateurError(f"{key}: the recipe names one, and an object is given too; leave one of them out")
    return {**section, name: path}


def _write(path: Path, name: str, documents: Iterable[str]) -> None:
    texts = [] if isinstance(documents, str) else list(documents)
    if not texts or not all(isinstance(one, str) for one in texts):
        raise SecateurError(f"{name}: give documents, as a list of texts")
    write_text(path, "".join(json.dumps({"text": one}) + "\n" for one in texts))

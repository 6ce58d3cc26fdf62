"""Reading a recipe: YAML and overrides in, a checked `Recipe` out, or every problem on a line of its own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ...space.errors import SecateurError
from ...space.kinds.table import KINDS
from .located import located
from .problems import problems
from .recipe import ASIDE, OF_ALL_KINDS, Recipe
from .shipped import recipe_file
from .shorthand import completed, spelled_out
from .training import TrainingSettings
from .values import apply, read_values


def read_recipe(path: Path, settings: Sequence[str] = (), kept: bool = False) -> Recipe:
    """Reads a recipe, or one that ships with us by its name, and applies `--set` overrides (`effort.tokens=50000`).

    `kept`: a run keeps it, see `kept_recipe`.

    Raises:
        SecateurError: the file cannot be read, is not YAML, or does not fit; every problem on a line of its own.
    """
    path = recipe_file(path)
    values = read_values(path, f"recipe {path}")
    if kept:
        for setting in settings:
            apply(values, setting)
        return kept_recipe(values, f"recipe {path}")
    return written_recipe(values, path.absolute().parent, settings, f"recipe {path}")


def written_recipe(
    values: Mapping[str, Any], folder: Path, settings: Sequence[str] = (), where: str = "recipe"
) -> Recipe:
    """A recipe as its author writes it: with words for sections (`shorthand`), and files named from `folder`.

    Raises:
        SecateurError: it does not fit; every problem on a line of its own.
    """
    try:
        whole = spelled_out(values)
        for setting in settings:
            section, inside, _ = setting.partition("=")[0].partition(".")
            if inside and section not in whole:  # a part of what is left to its default
                whole |= {key: value for key, value in completed(whole).items() if key == section}
            apply(whole, setting)
        whole = completed(spelled_out(whole))
    except SecateurError as error:
        raise SecateurError(f"{where}: {error}") from error
    return make_recipe(located(whole, folder), where)


def kept_recipe(values: Mapping[str, Any], where: str) -> Recipe:
    """A recipe that a run or a plan keeps whole; what an older version did not know means there what it did then.

    Raises:
        SecateurError: it is none.
    """
    changed: dict[str, Any] = dict(values)
    model = changed.get("model")
    if isinstance(model, Mapping) and "saved_dtype" not in model:
        changed["model"] = {**model, "saved_dtype": model.get("dtype", "float32")}

        def without_prefix(text: Any) -> Any:
            return {"prefix": False, **text} if isinstance(text, Mapping) else text

        changed["calibration"] = without_prefix(changed.get("calibration"))
        held_out, training = changed.get("held_out"), changed.get("training")
        if isinstance(held_out, list | tuple):
            changed["held_out"] = [without_prefix(text) for text in held_out]
        if isinstance(training, Mapping):
            changed["training"] = {**training, "text": without_prefix(training.get("text"))}
    return make_recipe(changed, where)


def _without_strangers(values: Any) -> Any:
    """A section of genes without settings of other kinds, where these say nothing."""
    kind = values.get("kind") if isinstance(values, Mapping) else None
    if not isinstance(kind, str) or kind not in KINDS:
        return values
    own = KINDS[kind].settings.model_fields
    plain = OF_ALL_KINDS.items()
    return {key: value for key, value in values.items() if key in own or (key, value) not in plain}


def make_recipe(values: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """Checks plain values; raises SecateurError with every problem on a line of its own."""
    changed, genes = dict(values), values.get("genes")
    if isinstance(genes, list | tuple):
        changed["genes"] = [_without_strangers(one) for one in genes]
    try:
        return Recipe.model_validate(changed)
    except ValidationError as error:
        raise SecateurError(f"{where}: {problems(error.errors())}") from error


def with_others(recipe: Recipe, changes: Sequence[str]) -> Recipe:
    """A run's recipe with other workers or logs, such as `workers=4`, on which its results do not depend.

    Raises:
        SecateurError: what does not fit, or is about something else.
    """
    kept = recipe.model_dump(mode="json")
    values: dict[str, Any] = {name: kept[name] for name in ASIDE}
    for change in changes:
        if change.partition("=")[0].partition(".")[0] not in ASIDE:
            raise SecateurError(
                f"--set {change}: a run keeps its recipe; only workers and log are set anew, such as workers=4"
            )
        apply(values, change)
    return make_recipe({**kept, **spelled_out(values)}) if changes else recipe


def training_settings(settings: TrainingSettings | None, changes: Sequence[str]) -> TrainingSettings:
    """How to train one plan, with changes such as training.what=full; of lists for stages the last entry holds.

    Raises:
        SecateurError: what does not fit, or is for the stages of a search.
    """
    for change in changes:
        if change.partition("=")[0].removeprefix("training.") in ("candidates", "stages", "sequences"):
            raise SecateurError(f"--set {change}: is for the stages of a search; here one plan is trained")
    values: dict[str, Any] = {"training": settings.model_dump(mode="json") if settings is not None else {}}
    for change in changes:
        if not change.startswith("training."):
            raise SecateurError(f"--set {change}: only training is set here, such as training.what=full")
        apply(values, change)
    try:
        found = TrainingSettings.model_validate(values["training"])
        lists = {"optimiser": found.optimiser, "learning_rate": found.learning_rate}
        return found.model_copy(update={name: value[-1] for name, value in lists.items() if isinstance(value, tuple)})
    except ValidationError as error:
        raise SecateurError(problems(error.errors(), ("training",))) from error

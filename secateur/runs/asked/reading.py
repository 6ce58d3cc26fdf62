"""Reading a recipe: YAML and overrides in, a checked `Recipe` out, or every problem on a line of its own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ...space.errors import SecateurError
from ...space.kinds.table import KINDS
from ...space.settings import UNKNOWN, Settings
from .located import located
from .recipe import OF_ALL_KINDS, Recipe
from .settings import EACH, ONE, TrainingSettings
from .values import apply, read_values

MEMBERS = ("literal[", "function-", "tuple[")
"""How pydantic's names for members of a union begin, besides those of classes."""
MOST, LONGEST = 8, 200
"""Problems that are told of a recipe, and characters of each."""


def read_recipe(path: Path, settings: Sequence[str] = (), kept: bool = False) -> Recipe:
    """Reads a recipe and applies `--set` overrides such as `effort.tokens=50000` or `genes.0.layers=1-28`.

    `kept`: a run keeps it, see `kept_recipe`.

    Raises:
        SecateurError: the file cannot be read, is not YAML, or does not fit; every problem on a line of its own.
    """
    values = read_values(path, f"recipe {path}")
    for setting in settings:
        apply(values, setting)
    if kept:
        return kept_recipe(values, f"recipe {path}")
    return make_recipe(located(values, path.absolute().parent), f"recipe {path}")


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
        # A list whose items are wrong is also reported as too short; the items say it better.
        found: list[dict[str, Any]] = [dict(one) for one in error.errors()]
        deeper = {tuple(one["loc"][:length]) for one in found for length in range(len(one["loc"]))}
        # Where a word or a section may stand and there is a section, only what is wrong with that is of use.
        found = [one for one in found if not (_is_word(one["loc"]) and isinstance(one["input"], Mapping))]
        found = [one for one in found if one["type"] != "too_short" or tuple(one["loc"]) not in deeper]
        raise SecateurError(f"{where}: {_problems(found)}") from error


def _problems(found: Sequence[dict[str, Any]]) -> str:
    """The first of them, each once and not too long."""
    problems = list(dict.fromkeys(_problem(one)[:LONGEST] for one in found[: 2 * MOST]))[:MOST]
    return "; ".join(problems) + (f"; and {len(found) - MOST:,} more" if len(found) > MOST else "")


def _is_word(location: Sequence[Any]) -> bool:
    """Whether an error is about the one of several kinds of value that is a word of a few."""
    return bool(location) and str(location[-1]).startswith("literal[")


def with_workers(recipe: Recipe, changes: Sequence[str]) -> Recipe:
    """A run's recipe with other workers, such as `workers=4`, on whom its results do not depend.

    Raises:
        SecateurError: what does not fit, or is not about workers.
    """
    values: dict[str, Any] = {"workers": recipe.workers.model_dump(mode="json")}
    for change in changes:
        if change.partition("=")[0].partition(".")[0] != "workers":
            raise SecateurError(f"--set {change}: a run keeps its recipe; only workers are set anew, such as workers=4")
        apply(values, change)
    return make_recipe({**recipe.model_dump(mode="json"), **values}) if changes else recipe


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
        raise SecateurError(_problems([{**one, "loc": ("training", *one["loc"])} for one in error.errors()])) from error


def _problem(error: dict[str, Any]) -> str:
    """One pydantic error as `where: what`.

    Classes, validators and tags, by which pydantic tells the members of a union apart, stand in its path like keys.
    """
    path, last = error["loc"], len(error["loc"]) - 1
    # A key that is not known is shown whatever it looks like.
    keys = [part for n, part in enumerate(path) if not _is_member(part) or (n == last and error["type"] == UNKNOWN)]
    where = ".".join(map(str, keys)) or "recipe"
    if error["type"] == "missing":
        return f"{where}: missing"
    return f"{where}: {str(error['msg']).removeprefix('Value error, ')}"


def _is_member(part: object) -> bool:
    """Whether a part of a path is no key, but says which member of a union was tried."""
    return isinstance(part, str) and (part in (ONE, EACH) or part in _sections(Settings) or part.startswith(MEMBERS))


def _sections(settings: type[Settings]) -> set[str]:
    """The names of all classes of settings."""
    return {settings.__name__}.union(*(_sections(one) for one in settings.__subclasses__()))

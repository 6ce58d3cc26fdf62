"""The plan that a recipe names as its base: read, and compared with the recipe."""

from collections.abc import Mapping
from pathlib import Path

from ..plans.plan import Plan, WidthIdentity, bare_plan, read_plan
from ..plans.reading import format_of, read_states
from ..space.anatomy import Anatomy
from ..space.base import Base, features_of_states
from ..space.errors import SecateurError
from ..space.names import PREPARE
from .asked.recipe import Recipe
from .record.facts import BASE
from .record.folder import RunFolder
from .record.journal import CALIBRATION


def base_of(recipe: Recipe, anatomy: Anatomy, noted: Plan | None = None) -> Plan | None:
    """The base of a recipe, of a run that has `noted` it that one; None where it names none.

    Raises:
        SecateurError: the file cannot be read, is for another model, or says how something was made that the recipe
            makes otherwise.
    """
    if recipe.base is None:
        return None
    if noted is not None:
        return noted
    path = Path(recipe.base)
    if not path.is_file():
        raise SecateurError(f"base: there is no file {path}")
    if format_of(path) == "plan":
        plan = read_plan(path)
    else:
        states = read_states(path, anatomy)
        plan = bare_plan(path.stem, recipe.model.path, recipe.model.dtype, anatomy, states, recipe.context)
    _check_made_so(recipe, anatomy, plan)
    return plan


def _check_made_so(recipe: Recipe, anatomy: Anatomy, plan: Plan) -> None:
    where, states = f"base {recipe.base}", plan.states(anatomy)
    features = features_of_states(anatomy, states)
    if not features:
        raise SecateurError(f"{where}: changes nothing; leave it out")
    if plan.training is not None:
        raise SecateurError(
            f"{where}: its weights have been trained, and a plan holds none; name the plan from before, and train what "
            "is found on top of it"
        )
    if plan.widths is not None and "widths" in features:
        own = WidthIdentity(**recipe.widths.model_dump())
        wanted = plan.widths if "stream" in features else plan.widths.model_copy(update={"hidden": own.hidden})
        if own != wanted:
            told = ", ".join(f"{name}: {value or 'null'}" for name, value in wanted.model_dump().items())
            raise SecateurError(f"{where}: its widths were made in another way; write widths: {{{told}}}")
    if "zeros" in features and plan.pruner not in (None, recipe.pruner):
        raise SecateurError(f"{where}: its zeros were made by {plan.pruner}; write pruner: {plan.pruner}")
    asked = plan.recipe.get("quantizer")
    if "bits" in features and asked not in (None, recipe.quantizer):
        raise SecateurError(f"{where}: its bits were made by {asked}; write quantizer: {asked}")
    if "stream" in features and (streams := recipe.of_streams(recipe.scores)):
        raise SecateurError(f"{where}: {streams[0]} needs residual streams of one width, and the plan's is narrower")


def told_of_texts(plan: Plan | None, texts: Mapping[str, str]) -> str:
    """That a base was made from another text than all is made from now, by the digests of both; else nothing."""
    if plan is None or not plan.texts:
        return ""
    below = {title: text.digest for title, text in plan.texts.items()}
    before, now = (known.get(PREPARE, known.get(CALIBRATION)) for known in (below, texts))
    if before == now:
        return ""
    return "the plan below was made from another text: how much it keeps stays, which channels and values may be others"


def base_noted(folder: RunFolder) -> Plan | None:
    """The plan below all genomes of a run, as its journal has it; None where there is none, or it is not noted yet."""
    noted = folder.journal.of(BASE)
    return Plan.model_validate(noted) if noted is not None else None


def check_model(plan: Plan | None, digest: str, path: str) -> None:
    """Raises SecateurError where a base is the plan of a model with other weights."""
    if plan is not None and plan.model.digest not in ("", digest):
        raise SecateurError(f"base: its model is not {path}, but one with other weights ({plan.model.path})")


def states_of(plan: Plan | None, anatomy: Anatomy) -> Base | None:
    """What a base makes of the blocks."""
    return plan.states(anatomy) if plan is not None else None

"""Plans of runs and of files, written for other tools and read from theirs."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import cast

from ...files import new_folder, write_bytes
from ...fitness.bench import Bench
from ...fitness.model.checkpoint import anatomy_of, load_model, load_tokenizer
from ...fitness.model.configuration import load_config, source_bytes
from ...fitness.model.dtypes import DTYPES
from ...fitness.model.examined import examine
from ...plans import formats
from ...plans.checkpoint.begin import Begin
from ...plans.features import Subject
from ...plans.formats.form import Format
from ...plans.formats.gguf import SMALLEST, quantised_bytes
from ...plans.formats.table import FORMATS, check, files, refusal
from ...plans.layers import layers, residual
from ...plans.plan import Plan, bare_plan, read_plan
from ...plans.reading import read_states
from ...space.errors import SecateurError, suggest
from ...space.families.table import anatomy, saved_dtype
from ...space.tables import load
from .. import problem, workplace
from ..asked.reading import kept_recipe
from ..asked.recipe import Recipe
from ..record.folder import RunFolder
from ..record.journal import FOUND
from ..report.front import summarise_front
from ..report.pick import pick_row
from ..report.plans import make_plan
from ..report.summary import summarise

CONTEXT: int = Recipe.model_fields["context"].default
"""Tokens at which the MACs and the KV cache of an imported plan are counted: where recipes count them."""


def pick_plan(folder: RunFolder, pick: str) -> Plan:
    """The plan of a choice; raises SecateurError when the run has none of that name."""
    folder.check_begun()
    space = problem.space_of(folder)
    front = summarise_front(folder, space)
    summary = front.summary if front is not None else summarise(folder, space)
    return make_plan(folder, space, summary, pick_row(pick, summary, front, space.dense_costs))


def plan_of(path: Path, pick: str | None) -> Plan:
    """The plan in a file, or of a run the one that `pick` means ("found" where that is None).

    Raises:
        SecateurError: `path` is neither, the run has no such plan, or something is picked from a file.
    """
    if path.is_file():
        if pick is not None:
            raise SecateurError(f"--pick {pick}: {path} is one plan; runs have several")
        return read_plan(path)
    with RunFolder.open(path, writing=False) as folder:
        return pick_plan(folder, pick or FOUND)


def subject_of(plan: Plan) -> Subject:
    """A plan with the shapes of its model, from the configuration alone."""
    config = load_config(plan.model.path)
    return Subject.of(plan, anatomy(config, plan.model.dtype), config)


def carriers(plan: Plan) -> list[tuple[Format, str | None]]:
    """Every format, and why it cannot carry this plan; None where it can."""
    subject = subject_of(plan)
    return [(form, refusal(form, subject)) for form in FORMATS.values()]


def export_plan(
    plan: Plan, to: str, out: Path, trusted: bool = False, options: Mapping[str, str | None] = MappingProxyType({})
) -> Path:
    """Writes a plan as `to` into the new folder `out`; returns what was written, the file where it is one.

    `trusted`: the recipe in the plan is the user's own, and what it says of remote code counts. `options`: what else is
    said of the writing, by the names that the format has for it (`vocabulary` of `gguf`).

    Raises:
        SecateurError: an unknown format or option, one that cannot carry this plan, a taken folder, or another model.
    """
    if to not in FORMATS:
        raise SecateurError(f"--to {to}; {suggest(to, FORMATS)}")
    if out.exists():
        raise SecateurError(f"{out} exists; --out names another folder")
    form = FORMATS[to]
    said = {name: value for name, value in options.items() if value is not None}
    for name, value in said.items():
        if name not in form.options:
            own = [other.name for other in FORMATS.values() if name in other.options]
            raise SecateurError(f"--{name} {value}: is for --to {' or '.join(own)}")
    subject = subject_of(plan)
    if form.weights:
        check(form, subject)
        begin = cast(Begin, load(form.weights, formats.__name__))
        finish = begin(subject, said, trusted and _remote(plan))
        finish(_bench(subject, plan, trusted), out)
        return out
    contents = files(form, subject)
    with new_folder(out) as folder:
        for name, content in contents.items():
            write_bytes(folder / name, content.encode() if isinstance(content, str) else content)
    return out / next(iter(contents)) if len(contents) == 1 else out


def _remote(plan: Plan) -> bool:
    """Whether the recipe of a plan lets code of the model's authors run."""
    return bool(plan.recipe) and kept_recipe(plan.recipe, "the plan's recipe").model.trust_remote_code


def larger_than_source(plan: Plan, written: Path, source: Path) -> str | None:
    """A warning where a checkpoint came out larger than the file that the model came from; None where it did not.

    `source`: the run or the plan file that was exported, as it is named in what would make it smaller.
    """
    if not written.is_dir():
        return None
    size = sum(file.stat().st_size for kind in ("*.safetensors", "*.gguf") for file in written.glob(kind))
    before = source_bytes(plan.model.path) if size else None
    if before is None or size <= before:
        return None
    told = (
        f"{written} holds {size:,} bytes of weights, {size / before:.1f} times as many as {plan.model.path}, which is "
        f"stored in fewer bits than {plan.model.dtype}"
    )
    quantised, costs = FORMATS["gguf"], plan.costs
    small = quantised_bytes(costs["parameters"], costs["block_parameters"], SMALLEST)
    if small >= size or refusal(quantised, subject_of(plan)) is not None:
        return f"{told}: quantise it as that one was, or leave model.saved_dtype at auto"
    pick = "" if plan.name == FOUND or source.is_file() else f" --pick {plan.name}"
    return (
        f"{told}; in about {small:,} bytes: secateur export {shlex.quote(str(source))}{pick} --to gguf "
        f"--quantize {SMALLEST} --out FOLDER"
    )


def _bench(subject: Subject, plan: Plan, trusted: bool) -> Bench:
    """The model with the levels and orders that the plan was found with.

    Raises:
        SecateurError: the plan, or the model, texts or order have changed since.
    """
    if not plan.recipe:
        return _bare_bench(subject)
    recipe = kept_recipe(plan.recipe, "the plan's recipe")
    if not trusted:
        recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"trust_remote_code": False})})
    # Which genome it is, and nothing of what it may cost, is what is compared.
    space = problem.build_space(recipe.model_copy(update={"budgets": {}}), base=plan.base)
    if space.states(space.from_json(plan.genome)) != subject.states:
        raise SecateurError("the plan's layers are not those of its genome: it was changed; export the run's own plan")
    loaded = workplace.workplace_of(recipe, space).load()
    if loaded.digest != plan.model.digest:
        raise SecateurError(f"model {plan.model.path} is not the one the run was made with; put that one back")
    for title, text in loaded.texts.items():
        if title in plan.texts and text.digest != plan.texts[title].digest:
            raise SecateurError(f"text '{title}' is not the one the run was made with; put that one back")
    if loaded.importances is not None and loaded.importances.digest != plan.importance:
        raise SecateurError(f"importance {recipe.importance} is not the file the run was made with; put that one back")
    bench = loaded.prepared(space)
    orders = bench.kept_orders() if bench.orders else None
    found = layers(subject.anatomy, subject.states, orders), residual(subject.anatomy, subject.states, orders)
    if orders is not None and found != (plan.layers, plan.hidden):
        raise SecateurError("heads and channels come in another order than when the run was made; resume it first")
    return bench


def _bare_bench(subject: Subject) -> Bench:
    """The model for a plan of another tool's that drops or keeps things whole: no text, level or order is needed."""
    path = subject.path
    model = load_model(path)
    shape = anatomy_of(model, subject.dtype)
    return Bench(model, load_tokenizer(path), shape, examine(model, shape, path).digest, {}, None)


def import_plan(path: Path, model: str, out: Path, dtype: str = "auto") -> Plan:
    """Reads another tool's file as a plan for `model`, and writes that to the new file `out`.

    `dtype`: that bytes are counted, and a checkpoint is written in; "auto" is the model's own.

    Raises:
        SecateurError: the file is of no known format or for another model, `out` exists, or the dtype is unknown.
    """
    if out.exists():
        raise SecateurError(f"{out} exists; --out names another file")
    if dtype not in ("auto", *DTYPES):
        raise SecateurError(f"--dtype {dtype}; {suggest(dtype, ('auto', *DTYPES))}")
    config = load_config(model)
    dtype = saved_dtype(dtype, config)
    shape = anatomy(config, dtype)
    if Path(model).expanduser().exists():
        model = str(Path(model).expanduser().absolute())
    plan = bare_plan(path.stem, model, dtype, shape, read_states(path, shape), CONTEXT)
    plan.write(out)
    return plan

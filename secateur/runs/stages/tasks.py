"""Downstream tasks on plans of a run, on its dense model, and on checkpoints."""

from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import cast

from ...fitness.bench import Bench
from ...fitness.cache import digest
from ...fitness.model.checkpoint import load_model, load_tokenizer
from ...fitness.model.configuration import load_config
from ...fitness.scores.tasks import TaskRun, check_tasks, definitions, run_task
from ...fitness.subnets.subnet import pointed
from ...fitness.training import TrainingError
from ...search.steps import Chain
from ...space.errors import SecateurError
from ...space.families.table import is_encoder
from ...space.genome import Genome
from ...space.space import Space
from ...space.task_result import TaskResult
from .. import problem, workplace
from ..record.facts import TASK, TaskFact
from ..record.folder import RunFolder
from ..report.front import summarise_front
from ..report.pick import pick_row
from ..report.summary import summarise
from ..watcher import Watcher
from ..workplace import trainer_of
from .trained import trained_finalists


def is_run(target: str) -> bool:
    """Whether a path is the folder of a run."""
    return (Path(target) / "recipe.yaml").is_file()


def picked(folder: RunFolder, space: Space, picks: Sequence[str]) -> dict[str, Genome]:
    """Genomes by the names of their plans; "all" is every one of the run, "dense" the dense model.

    Raises:
        SecateurError: the run has no such plan.
    """
    folder.check_begun()
    front = summarise_front(folder, space)
    summary = front.summary if front is not None else summarise(folder, space)
    genomes: dict[str, Genome] = {}
    for pick in picks:
        if pick == "all":
            genomes |= {row.name: row.genome for row in summary.rows}
        elif pick == "dense":
            genomes["dense"] = space.dense
        else:
            row = pick_row(pick, summary, front, space.dense_costs)
            genomes[row.name] = row.genome
    return genomes


def evaluate_run(
    folder: RunFolder,
    picks: Sequence[str],
    tasks: Sequence[str],
    include: str | None,
    how: TaskRun,
    trained: bool = False,
    watcher: Watcher | None = None,
) -> None:
    """Notes in the run what tasks say of its plans, on the live subnet; what is noted already is not evaluated again.

    `trained`: after the training that candidates had in the search, which the recipe then has to ask for.

    Raises:
        SecateurError: no such plan or task, or a run without training; before the model is loaded.
    """
    watcher = watcher or Watcher()
    space = problem.space_of(folder)
    genomes = picked(folder, space, picks)
    if not space.anatomy.causal:
        raise SecateurError(f"eval: {space.anatomy.family} is an encoder; lm-eval's tasks are for causal models")
    check_tasks(include, tasks, how.code)
    _, chain = trained_finalists(folder.journal)
    if trained and not chain:
        raise SecateurError(f"--trained: {folder.path} trained no candidates; write 'training' into its recipe")
    chain = chain if trained else ()
    bench, defined = None, definitions(include)
    for name, genome in genomes.items():
        for task in tasks:
            values = {"task": task, "stages": chain if genome != space.dense else (), **asdict(how)}
            del values["batch"], values["code"]
            about = f"{space.key(genome)} {digest(values, *defined)}"
            if folder.journal.of(TASK, about) is not None:
                continue
            if bench is None:
                watcher.phase("loading the model and its texts", None)
                bench = workplace.workplace_of(folder.recipe, space).open(space, watcher.blocks)
                workplace.check_same(folder, bench, training=bool(chain))
            watcher.phase(f"{name}: {task}", None)
            try:
                result = _of_subnet(folder, space, bench, genome, values["stages"], include, task, how)
            except TrainingError as error:
                watcher.say(f"{name}: {error}")
                continue
            noted = {"documents": result.documents, "metrics": result.metrics, "lm_eval": version("lm_eval")}
            noted |= {"fewshot": result.shots, "definitions": digest(*defined)}
            folder.journal.note(TASK, cast(TaskFact, values | noted), about, what=f"task '{task}' on {name}")


def _of_subnet(
    folder: RunFolder,
    space: Space,
    bench: Bench,
    genome: Genome,
    chain: Chain,
    include: str | None,
    task: str,
    how: TaskRun,
) -> TaskResult:
    training = folder.recipe.training
    trainer = trainer_of(training, folder.recipe.seed, space, bench) if chain and training is not None else None
    parameters = trainer(genome, chain) if trainer is not None else {}
    with bench.subnet as subnet:
        subnet.apply(space.states(genome))
        with pointed(bench.model, parameters):
            return run_task(bench.model, bench.tokenizer, include, task, how)


def evaluate_checkpoint(
    target: str, tasks: Sequence[str], include: str | None, how: TaskRun, dtype: str, watcher: Watcher | None = None
) -> list[TaskResult]:
    """Tasks on a checkpoint of anybody's: a folder, ours included, a GGUF, or `package:NAME`.

    Raises:
        SecateurError: no such task or model.
    """
    watcher = watcher or Watcher()
    if is_encoder(load_config(target)):
        raise SecateurError(f"eval: {target} is an encoder; lm-eval's tasks are for causal models")
    check_tasks(include, tasks, how.code)
    tokenizer = load_tokenizer(target)
    model = load_model(target, dtype)
    results = []
    for task in tasks:
        watcher.phase(task, None)
        results.append(run_task(model, tokenizer, include, task, how))
    return results

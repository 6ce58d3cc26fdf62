"""Downstream tasks on plans of a run, on its dense model, and on checkpoints."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

from ...fitness.bench import Bench
from ...fitness.cache import digest
from ...fitness.model.checkpoint import load_model, load_tokenizer
from ...fitness.model.configuration import load_config
from ...fitness.scores.tasks import TaskRun, check_tasks, definitions, run_task
from ...fitness.subnets.subnet import pointed
from ...fitness.training import TrainingError
from ...search.memo import Remembered
from ...space.errors import SecateurError
from ...space.families.table import is_encoder
from ...space.genome import Genome
from ...space.question import WHOLE, Chain, Question, Told
from ...space.space import Space
from ...space.tasks import TaskAnswer, TaskQuestion, TaskResult
from .. import problem, workplace
from ..record.folder import RunFolder
from ..record.journal import Journal
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
    evaluation = TaskEvaluation(folder, space, include, how, chain if trained else (), watcher)
    for name, genome in genomes.items():
        for task in tasks:
            try:
                evaluation.carry_out(name, genome, task)
            except TrainingError as error:
                watcher.say(f"{name}: {error}")


class TaskJournal:
    """The answers to one task in the settings of a question, which stand for what they were made with."""

    def __init__(self, journal: Journal, task: str, settings: str) -> None:
        self._journal, self._task, self._settings = journal, task, settings

    def answers(self, question: Question[Told]) -> Iterator[Told]:
        """What is kept."""
        return (answer for _, answer in self._journal.answers(question, self._task))

    def append(self, question: Question[Told], answer: Told) -> None:
        """Keeps one that is new."""
        self._journal.append(self._task, question, self._settings, answer)


class TaskEvaluation:
    """Tasks put to the subnets of a run: the model is loaded for the first answer that is not on record."""

    def __init__(
        self, folder: RunFolder, space: Space, include: str | None, how: TaskRun, chain: Chain, watcher: Watcher
    ) -> None:
        self.folder, self.space, self.include, self.how, self.chain = folder, space, include, how, chain
        self.watcher = watcher
        self.definitions = definitions(include)

    @cached_property
    def bench(self) -> Bench:
        """The run's, with its training text where plans are trained."""
        self.watcher.phase("loading the model and its texts", None)
        bench = workplace.workplace_of(self.folder.recipe, self.space).open(self.space, self.watcher.blocks)
        workplace.check_same(self.folder, bench, training=bool(self.chain))
        return bench

    def carry_out(self, name: str, genome: Genome, task: str) -> None:
        """Has what a task says of a plan in the journal; raises TrainingError where its training fails."""
        chain = self.chain if genome != self.space.dense else ()
        values = {"task": task, "stages": chain, **asdict(self.how)}
        del values["batch"], values["code"]
        question = TaskQuestion(digest(values, *self.definitions))
        journal = TaskJournal(self.folder.journal, task, question.settings)

        def ask(genomes: Sequence[Genome], _: range) -> Iterator[TaskAnswer]:
            for one in genomes:
                yield self._answer(name, one, chain, task)

        Remembered(self.space, question, ask, journal)([genome], WHOLE)

    def _answer(self, name: str, genome: Genome, chain: Chain, task: str) -> TaskAnswer:
        recipe, space, bench = self.folder.recipe, self.space, self.bench
        self.watcher.phase(f"{name}: {task}", None)
        started = time.perf_counter()
        training = recipe.training if chain else None
        parameters = {} if training is None else trainer_of(training, recipe.seed, space, bench)(genome, chain)
        with bench.subnet as subnet:
            subnet.apply(space.states(genome))
            with pointed(bench.model, parameters):
                result = run_task(bench.model, bench.tokenizer, self.include, task, self.how)
        return TaskAnswer(
            genome=genome,
            key=space.key(genome),
            result=result,
            trained=chain,
            limit=self.how.limit,
            seed=self.how.seed,
            lm_eval=version("lm_eval"),
            definitions=digest(*self.definitions),
            seconds=time.perf_counter() - started,
        )


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

"""Downstream tasks on plans of a run, on its dense model, and on checkpoints."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path

from ...fitness.answers import Answers
from ...fitness.cache import digest
from ...fitness.model.checkpoint import load_model, load_tokenizer
from ...fitness.model.configuration import load_config
from ...fitness.model.device import with_threads
from ...fitness.scores.tasks import TaskRun, check_tasks, definitions, run_task
from ...fitness.workers import calls
from ...fitness.workers.hand import Lost
from ...fitness.workers.team import Team
from ...search.memo import Remembered
from ...space.errors import SecateurError
from ...space.families.table import is_encoder, is_headless
from ...space.genome import Genome
from ...space.question import WHOLE, Chain, Question, Told
from ...space.space import Space
from ...space.tasks import TaskAnswer, TaskQuestion, TaskResult
from .. import problem, workplace
from ..record.folder import RunFolder
from ..record.journal import Journal
from ..report.front import summarise_front
from ..report.pick import pick_row
from ..report.rows import origin_of
from ..report.summary import summarise
from ..watcher import Watcher
from ..workers import check_workers, team_of, threads_of
from ..workplace import trainer_of
from .trained import trained_finalists


def is_run(target: str) -> bool:
    """Whether a path is the folder of a run."""
    return (Path(target) / "recipe.yaml").is_file()


def picked(folder: RunFolder, space: Space, picks: Sequence[str]) -> dict[str, Genome]:
    """Genomes by the names of their plans; "all" is every one of the run, "dense" the dense model (or "base" the plan
    below).

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
        elif pick == origin_of(folder.recipe):
            genomes[pick] = space.dense
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
    if space.anatomy.headless:
        raise SecateurError(f"eval: {folder.recipe.model.path} has no head; lm-eval's tasks are for language models")
    if not space.anatomy.causal:
        raise SecateurError(f"eval: {space.anatomy.family} is an encoder; lm-eval's tasks are for causal models")
    check_tasks(include, tasks, how.code)
    _, chain = trained_finalists(folder.journal)
    if trained and not chain:
        raise SecateurError(f"--trained: {folder.path} trained no candidates; write 'training' into its recipe")
    check_workers(folder.recipe)
    threads = threads_of(folder)
    with with_threads(threads), team_of(folder.recipe, space, workplace.papers_noted(folder), threads) as team:
        evaluation = TaskEvaluation(folder, space, include, how, chain if trained else (), watcher, team)
        for task in tasks:
            evaluation.carry_out(genomes, task)


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
    """Tasks put to the subnets of a run, by workers if there are some; the model is loaded for the first answer that is
    not on record."""

    def __init__(
        self,
        folder: RunFolder,
        space: Space,
        include: str | None,
        how: TaskRun,
        chain: Chain,
        watcher: Watcher,
        team: Team | None,
    ) -> None:
        self.folder, self.space, self.include, self.how, self.chain = folder, space, include, how, chain
        self.watcher, self.team = watcher, team
        self.definitions = definitions(include)

    @cached_property
    def answers(self) -> Answers:
        """On the run's bench, with its training text where plans are trained."""
        self.watcher.phase("loading the model and its texts", None)
        recipe = self.folder.recipe
        bench = workplace.workplace_of(recipe, self.space).open(self.space, self.watcher.blocks)
        workplace.check_same(self.folder, bench, training=bool(self.chain))
        training = recipe.training if self.chain else None
        trainer = trainer_of(training, recipe.seed, self.space, bench) if training is not None else None
        return Answers(bench, self.space, trainer)

    def carry_out(self, genomes: Mapping[str, Genome], task: str) -> None:
        """Has what a task says of plans, by their names, in the journal; says of whom it says nothing, and why."""
        for chain in dict.fromkeys(self._chain(genome) for genome in genomes.values()):
            some = [genome for genome in genomes.values() if self._chain(genome) == chain]
            values = {"task": task, "stages": chain, **asdict(self.how)}
            del values["batch"], values["code"]
            question = TaskQuestion(digest(values, *self.definitions))
            journal = TaskJournal(self.folder.journal, task, question.settings)
            try:
                Remembered(self.space, question, partial(self._ask, task, chain, genomes), journal)(some, WHOLE)
            except _UnansweredError as error:
                self.watcher.say(str(error))

    def _chain(self, genome: Genome) -> Chain:
        return self.chain if genome != self.space.dense else ()

    def _ask(
        self, task: str, chain: Chain, names: Mapping[str, Genome], genomes: Sequence[Genome], _: range
    ) -> Iterator[TaskAnswer]:
        """Raises _UnansweredError where trainings fail, once all others have their answers."""
        keys = {self.space.key(genome): name for name, genome in names.items()}
        failed = []
        started = time.perf_counter()
        for genome, result in self._results(task, chain, genomes, keys):
            seconds, started = time.perf_counter() - started, time.perf_counter()
            key = self.space.key(genome)
            if isinstance(result, str):
                failed.append(f"{keys[key]}: {result}")
                continue
            how, found = self.how, digest(*self.definitions)
            yield TaskAnswer(genome, key, result, chain, how.limit, how.seed, version("lm_eval"), found, seconds)
        if failed:
            raise _UnansweredError("; ".join(failed))

    def _results(
        self, task: str, chain: Chain, genomes: Sequence[Genome], names: Mapping[str, str]
    ) -> Iterator[tuple[Genome, TaskResult | str]]:
        """As they come: what the task says, or why a training failed."""
        if self.team is None:
            for genome in genomes:
                answers = self.answers
                self.watcher.phase(f"{names[self.space.key(genome)]}: {task}", None)
                yield genome, answers.task_or_why(genome, chain, task, self.include, self.how)
            return
        self.watcher.phase(f"{task}, by {self.team.count} workers", None)
        self.team.expect(workplace.papers_noted(self.folder, training=bool(chain)))
        include = str(Path(self.include).absolute()) if self.include is not None else None
        asked = [partial(calls.task, genome, chain, task, include, self.how) for genome in genomes]
        for number, value in self.team.each(asked, patient=True):
            yield genomes[number], f"workers were lost with it: {value.reason}" if isinstance(value, Lost) else value


class _UnansweredError(Exception):
    """Some plans have no answer, for reasons of their own."""


def evaluate_checkpoint(
    target: str, tasks: Sequence[str], include: str | None, how: TaskRun, dtype: str, watcher: Watcher | None = None
) -> list[TaskResult]:
    """Tasks on a checkpoint of anybody's: a folder, ours included, a GGUF, or `package:NAME`.

    Raises:
        SecateurError: no such task or model.
    """
    watcher = watcher or Watcher()
    values = load_config(target)
    values |= {"model_type": str(values.get("model_type")).removeprefix("secateur_")}
    if is_headless(values):
        raise SecateurError(f"eval: {target} has no head; lm-eval's tasks are for language models")
    if is_encoder(values):
        raise SecateurError(f"eval: {target} is an encoder; lm-eval's tasks are for causal models")
    check_tasks(include, tasks, how.code)
    tokenizer = load_tokenizer(target)
    model = load_model(target, dtype)
    results = []
    for task in tasks:
        watcher.phase(task, None)
        results.append(run_task(model, tokenizer, include, task, how))
    return results

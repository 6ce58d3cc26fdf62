"""An lm-eval task as a score of the live subnet, document by document (an optional extra).

Sequence i of the calibration text stands for documents i * n to (i + 1) * n - 1 of the task, so that more fidelity adds
documents, repeats none, and the differences of two candidates are paired, as with every other score. Examples before
a question, where a task has them, are drawn anew for each sequence from its own number, so that all candidates see the
same.
"""

import contextlib
import difflib
import hashlib
import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ...space.errors import SecateurError, border, suggest
from ...space.objective import task_weights
from ...space.tasks import TaskResult
from .task_files import check_code, sandbox_templates

METRICS = ("acc_norm", "acc", "exact_match")
"""The first of these that a task has counts; all are shares of documents that are right."""


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """Task definitions in the folder `include` (YAML), `documents` of them for each calibration sequence.

    `code`: definitions may name functions in Python files (`!function`), which are then run. `timeout`: seconds for a
    function of the user's on one sequence; None: as long as it takes.
    """

    include: str | None
    documents: int
    benchmarks: bool = False
    code: bool = False
    timeout: float | None = None


NO_TASKS = TaskRequest(None, 1)


@dataclass(frozen=True, slots=True)
class TaskRun:
    """How tasks are evaluated: on the first `limit` documents (None: all), after `fewshot` examples (None: as the task
    says), `batch` requests at once; `seed` draws the examples; `code`: definitions may run Python."""

    limit: int | None = None
    fewshot: int | None = None
    batch: int = 16
    seed: int = 0
    code: bool = False


def definitions(include: str | None) -> tuple[list[str], str]:
    """What names the tasks in a folder (the files in it, their data among them) and whoever evaluates them."""
    folder = Path(include) if include else None
    files = sorted(file for file in folder.rglob("*") if file.is_file()) if folder is not None else []
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files], version("lm_eval")


def task_manager(
    include: str | None, where: str, code: bool, allow: str = "'tasks: {code: true}'", own: bool = True
) -> Any:
    """lm-eval's manager of the tasks in `include`; `own`: of these alone, else of all that lm-eval has too.

    Raises:
        SecateurError: there is no such folder, or a definition in it runs `code` that nobody has allowed.
    """
    from lm_eval.tasks import TaskManager

    if include is not None and not Path(include).is_dir():
        raise SecateurError(f"{where}: {include} is no folder of task definitions")
    check_code(include, code, where, allow)
    sandbox_templates(not code)
    with border(f"{where}: lm-eval cannot read {include}"):
        return TaskManager(include_path=include, include_defaults=not own)


def lm_eval_tasks(request: TaskRequest, names: tuple[str, ...]) -> Mapping[str, Any]:
    """Loads tasks by name, to search on them.

    Raises:
        SecateurError: there is no such task, its data cannot be read, or it is a published benchmark and nobody said
            that it may be searched on.
    """
    manager = task_manager(request.include, "tasks.include", request.code)
    known = [str(name) for name in manager.all_tasks]
    foreign = [name for name in names if name not in known]
    if not request.benchmarks and (published := [name for name in names if _published(name)]):
        raise SecateurError(
            f"objectives: '{published[0]}' is the name of a published benchmark, which cannot be reported honestly "
            "after a search has seen it; give a task of your own another name, or take it all the same by "
            "'tasks: {benchmarks: true}'"
        )
    if foreign and not request.benchmarks:
        raise SecateurError(
            f"objectives: there is no task '{foreign[0]}' in tasks.include; "
            f"{suggest(foreign[0], known or ['none'])}. A published benchmark that a search has seen cannot be "
            "reported honestly after; 'tasks: {benchmarks: true}' takes one all the same"
        )
    if foreign:
        manager = task_manager(request.include, "tasks.include", request.code, own=False)
    return _loaded(manager, names, "objectives")


@cache
def _definitions() -> tuple[Path, ...]:
    """The files in which lm-eval defines its tasks."""
    import lm_eval.tasks

    return tuple(Path(lm_eval.tasks.__file__).parent.rglob("*.yaml"))


def _published(name: str) -> bool:
    """Whether lm-eval has a task in a file of this name."""
    return any(file.stem == name for file in _definitions())


def _mentioned(name: str) -> bool:
    """Whether any of lm-eval's definitions has this name in it: what has not need not be looked for in all of them."""
    return any(name.encode(errors="replace") in file.read_bytes() for file in _definitions())


def _loaded(manager: Any, names: Sequence[str], where: str) -> Mapping[str, Any]:
    from lm_eval.tasks import get_task_dict

    with _quiet():
        try:
            tasks: Mapping[str, Any] = get_task_dict(list(names), manager)
        except Exception as error:
            raise SecateurError(f"{where}: lm-eval cannot load {', '.join(names)}: {error}") from error
    return tasks


def check_tasks(include: str | None, names: Sequence[str], code: bool) -> None:
    """Raises SecateurError for tasks that do not exist, whose data cannot be read, or that run `code` unasked."""
    loaded = _loaded(_manager_of(include, names, code), names, "--tasks")
    for name in names:
        if name not in loaded:
            tasks = ", ".join(sorted(str(one) for one in loaded if isinstance(one, str))[:8])
            raise SecateurError(
                f"--tasks {name}: is a group of tasks; name those you want, such as {tasks or 'one of it'}"
            )


def _manager_of(include: str | None, names: Sequence[str], code: bool) -> Any:
    """The manager that has all of these tasks; raises SecateurError for those that nobody has."""
    known: list[str] = []
    if include is not None:
        manager = task_manager(include, "--include", code, "--allow-code")
        known = [str(name) for name in manager.all_tasks]
        if set(names) <= set(known):
            return manager
    for name in names:
        if name not in known and not _mentioned(name):
            published = [file.stem for file in _definitions() if not file.stem.startswith("_")]
            close = difflib.get_close_matches(name[:80], [*known, *published], n=1)
            has = f"--include has {', '.join(known[:20])}" if known else "'lm-eval ls tasks' lists them"
            raise SecateurError(
                f"--tasks {name[:80]}: there is no such task; " + (f"did you mean '{close[0]}'?" if close else has)
            )
    manager = task_manager(include, "--include", code, "--allow-code", own=False)
    for name in names:
        if name not in manager.all_tasks:
            raise SecateurError(f"--tasks {name[:80]}: {suggest(name[:80], list(manager.all_tasks))}")
    return manager


def run_task(model: Any, tokenizer: Any, include: str | None, name: str, how: TaskRun) -> TaskResult:
    """One task on a live model, through lm-eval's own evaluation; metrics by lm-eval's names."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    manager = _manager_of(include, (name,), how.code)
    with _quiet():
        lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=how.batch, device=str(model.device))
    # What a definition asks for is the user's: whatever lm-eval says of it.
    with _quiet(), border(f"task '{name}': lm-eval cannot carry it out"):
        found = simple_evaluate(
            lm,
            tasks=[name],
            task_manager=manager,
            limit=how.limit,
            num_fewshot=how.fewshot,
            random_seed=how.seed,
            numpy_random_seed=how.seed,
            torch_random_seed=how.seed,
            fewshot_random_seed=how.seed,
            log_samples=False,
        )
    assert found is not None
    values = found["results"][name]
    metrics = {}
    for key, value in values.items():
        metric, _, kind = key.partition(",")
        if kind and not metric.endswith("_stderr") and isinstance(value, int | float):
            error = values.get(f"{metric}_stderr,{kind}")
            shown = metric if kind == "none" else f"{metric} ({kind})"
            metrics[shown] = float(value), float(error) if isinstance(error, int | float) else None
    counts = found.get("n-samples", {}).get(name, {})
    shots = int(found.get("n-shot", {}).get(name) or 0)
    return TaskResult(name, int(counts.get("effective", 0)), shots, metrics)


def check_task(mixture: str, request: TaskRequest, sequences: int) -> None:
    """Raises SecateurError for tasks that cannot be scored, or have too few documents for so many sequences."""
    names = tuple(task_weights(mixture))
    for name, task in lm_eval_tasks(request, names).items():
        count, wanted = len(list(task.eval_docs)), request.documents * sequences
        if count < wanted:
            raise SecateurError(
                f"objectives: lm-eval task '{name}' has {count} documents, {wanted} are wanted; lower tasks.documents "
                "or strategy.sequences"
            )
        metrics = [one["metric"] for one in task.config.metric_list or ()]
        if not set(metrics) & set(METRICS):
            raise SecateurError(
                f"objectives: lm-eval task '{name}' has the metrics {', '.join(map(str, metrics))}; one of "
                f"{', '.join(METRICS)} is needed"
            )


class TaskScore:
    """Share of a task's documents that the live model gets wrong, on the documents of a range of sequences.

    `mixture`: one task, or several with weights (`space.objective.task_weights`), of which it is the weighted mean.
    """

    def __init__(self, mixture: str, request: TaskRequest, model: Any, tokenizer: Any) -> None:
        from lm_eval.models.huggingface import HFLM

        self._weights, self._documents = task_weights(mixture), request.documents
        self._tasks = lm_eval_tasks(request, tuple(self._weights))
        with _quiet():
            self._lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=16, device=str(model.device))

    def __call__(self, sequences: range) -> list[float]:
        """One loss in [0, 1] for each sequence."""
        if not any(task.config.num_fewshot for task in self._tasks.values()):
            return self._scored(sequences)
        losses = []
        for sequence in sequences:
            for task in self._tasks.values():
                task.set_fewshot_seed(sequence)
            losses += self._scored(range(sequence, sequence + 1))
        return losses

    def _scored(self, sequences: range) -> list[float]:
        from lm_eval.evaluator import evaluate

        per = self._documents
        wanted = list(range(sequences.start * per, sequences.stop * per))
        with _quiet():
            result = evaluate(self._lm, self._tasks, samples=dict.fromkeys(self._weights, wanted), bootstrap_iters=0)
        assert result is not None
        losses = [0.0] * len(sequences)
        for name, weight in self._weights.items():
            rows = {row["doc_id"]: row for row in result["samples"][name]}
            metric = next(one for one in METRICS if one in rows[wanted[0]])
            for place, index in enumerate(wanted):
                losses[place // per] += weight * (1.0 - float(rows[index][metric])) / per
        return losses


@contextlib.contextmanager
def _quiet() -> Any:
    """Without what lm-eval prints and warns about."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield

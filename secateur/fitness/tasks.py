"""An lm-eval task as a score of the live subnet, document by document (an optional extra).

Sequence i of the calibration text stands for documents i * n to (i + 1) * n - 1 of the task, so that more fidelity adds
documents, repeats none, and the differences of two candidates are paired, as with every other score.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..space.errors import SecateurError, suggest

METRICS = ("acc_norm", "acc", "exact_match")
"""The first of these that a task has counts; all are shares of documents that are right."""


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """Task definitions in the folder `include` (YAML), `documents` of them for each calibration sequence."""

    include: str | None
    documents: int
    benchmarks: bool = False


NO_TASKS = TaskRequest(None, 1)


def lm_eval_tasks(request: TaskRequest, names: tuple[str, ...]) -> Mapping[str, Any]:
    """Loads tasks by name.

    Raises:
        SecateurError: lm-eval is not installed, there is no such task, its data cannot be read, or it is a published
            benchmark and nobody said that it may be searched on.
    """
    try:
        from lm_eval.tasks import TaskManager, get_task_dict
    except ImportError:
        raise SecateurError("objectives: lm-eval tasks need lm-eval; pip install 'secateur[tasks]'") from None
    if request.include is not None and not Path(request.include).is_dir():
        raise SecateurError(f"tasks.include: {request.include} is no folder")
    own = TaskManager(include_path=request.include, include_defaults=False) if request.include else None
    known = list(own.all_tasks) if own is not None else []
    foreign = [name for name in names if name not in known]
    if foreign and not request.benchmarks:
        raise SecateurError(
            f"objectives: there is no task '{foreign[0]}' in tasks.include; "
            f"{suggest(foreign[0], known or ['none'])}. A published benchmark that a search has seen cannot be "
            "reported honestly after; 'tasks: {benchmarks: true}' takes one all the same"
        )
    manager = TaskManager(include_path=request.include) if foreign else own
    with _quiet():
        try:
            tasks: Mapping[str, Any] = get_task_dict(list(names), manager)
        except Exception as error:
            raise SecateurError(f"objectives: lm-eval cannot load {', '.join(names)}: {error}") from error
    return tasks


def check_task(name: str, request: TaskRequest, sequences: int) -> None:
    """Raises SecateurError for a task that cannot be scored, or has too few documents for so many sequences."""
    task = lm_eval_tasks(request, (name,))[name]
    count, wanted = len(list(task.eval_docs)), request.documents * sequences
    if count < wanted:
        raise SecateurError(
            f"objectives: lm-eval task '{name}' has {count} documents, {wanted} are wanted; lower tasks.documents or "
            "strategy.sequences"
        )
    metrics = [one["metric"] for one in task.config.metric_list or ()]
    if not set(metrics) & set(METRICS):
        raise SecateurError(
            f"objectives: lm-eval task '{name}' has the metrics {', '.join(map(str, metrics))}; one of "
            f"{', '.join(METRICS)} is needed"
        )


class TaskScore:
    """Share of a task's documents that the live model gets wrong, on the documents of a range of sequences."""

    def __init__(self, name: str, request: TaskRequest, model: Any, tokenizer: Any) -> None:
        from lm_eval.models.huggingface import HFLM

        self._name, self._documents = name, request.documents
        self._tasks = lm_eval_tasks(request, (name,))
        with _quiet():
            self._lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=16, device=str(model.device))

    def __call__(self, sequences: range) -> list[float]:
        """One loss in [0, 1] for each sequence."""
        from lm_eval.evaluator import evaluate

        per = self._documents
        last = sequences.stop * per
        wanted = list(range(sequences.start * per, last))
        with _quiet():
            result = evaluate(self._lm, self._tasks, samples={self._name: wanted}, bootstrap_iters=0)
        assert result is not None
        rows = {row["doc_id"]: row for row in result["samples"][self._name]}
        metric = next(one for one in METRICS if one in rows[wanted[0]])
        wrong = [1.0 - float(rows[index][metric]) for index in wanted]
        return [sum(wrong[start : start + per]) / per for start in range(0, len(wrong), per)]


@contextlib.contextmanager
def _quiet() -> Any:
    """Without what lm-eval prints and warns about."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield

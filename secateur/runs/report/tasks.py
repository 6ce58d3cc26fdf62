"""Downstream tasks beside each other: what a run has noted of its plans, the baselines and the dense model."""

from collections.abc import Mapping

from ...space.genome import Genome
from ...space.objective import task_weights
from ...space.space import Space
from ...space.tasks import TASKS
from ..record.folder import RunFolder

Grid = tuple[tuple[str, ...], ...]
"""Rows of cells, the first one headings; empty where no task was evaluated."""


def task_grid(folder: RunFolder, space: Space, genomes: Mapping[str, Genome]) -> Grid:
    """One row for each plan (and each training of it) with tasks, one column for each task, setting and metric."""
    names = [name.partition(":")[2] for name in folder.recipe.scores if name.startswith("lm-eval:")]
    searched = {task for name in names for task in task_weights(name)}
    cells: dict[tuple[str, str], str] = {}
    plans: dict[str, None] = {}
    columns: dict[str, None] = {}
    by_key: dict[str, list[str]] = {}
    for plan, genome in genomes.items():
        by_key.setdefault(space.key(genome), []).append(plan)
    answers = [answer for _, answer in folder.journal.answers(TASKS)]
    # Of a task whose definition has changed, what was evaluated before stands for another one.
    latest = {answer.result.task: answer.definitions for answer in answers}
    for answer in answers:
        result = answer.result
        if answer.definitions != latest[result.task]:
            continue
        trained = f", trained on {sum(answer.trained):,} tokens" if answer.trained else ""
        task = result.task + (" (searched on)" if result.task in searched else "")
        shots = f", {result.shots} shots (seed {answer.seed})" if result.shots else ""
        for metric, (value, error) in result.metrics.items():
            column = f"{task} {metric}, {result.documents:,} documents{shots}"
            columns[column] = None
            for plan in by_key.get(answer.key, [answer.key]):
                plans[plan + trained] = None
                cells[plan + trained, column] = f"{value:.4f}" + (f" ± {error:.4f}" if error is not None else "")
    if not cells:
        return ()
    order = {plan: place for place, plan in enumerate(genomes)}
    names = sorted(plans, key=lambda plan: (order.get(plan.partition(",")[0], len(order)), plan))
    return (
        ("plan", *columns),
        *((plan, *(cells.get((plan, column), "") for column in columns)) for plan in names),
    )

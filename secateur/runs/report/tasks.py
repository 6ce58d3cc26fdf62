"""Downstream tasks beside each other: what a run has noted of its plans, the baselines and the dense model."""

from collections.abc import Mapping

from ...space.genome import Genome
from ...space.objective import task_weights
from ...space.space import Space
from ..record.facts import TASK
from ..record.folder import RunFolder

Grid = tuple[tuple[str, ...], ...]
"""Rows of cells, the first one headings; empty where no task was evaluated."""


def task_grid(folder: RunFolder, space: Space, genomes: Mapping[str, Genome]) -> Grid:
    """One row for each plan (and each training of it) with tasks, one column for each task, setting and metric."""
    names = [name.partition(":")[2] for name in folder.recipe.objectives if name.startswith("lm-eval:")]
    searched = {task for name in names for task in task_weights(name)}
    cells: dict[tuple[str, str], str] = {}
    plans: dict[str, None] = {}
    columns: dict[str, None] = {}
    by_key: dict[str, list[str]] = {}
    for plan, genome in genomes.items():
        by_key.setdefault(space.key(genome), []).append(plan)
    facts = folder.journal.all(TASK)
    # Of a task whose definition has changed, what was evaluated before stands for another one.
    latest = {values["task"]: values.get("definitions") for values in facts.values()}
    for name, values in facts.items():
        if values.get("definitions") != latest[values["task"]]:
            continue
        key = name.split(" ")[0]
        trained = f", trained on {sum(values['stages']):,} tokens" if values["stages"] else ""
        task = values["task"] + (" (searched on)" if values["task"] in searched else "")
        shots = f", {values['fewshot']} shots (seed {values['seed']})" if values["fewshot"] else ""
        for metric, (value, error) in values["metrics"].items():
            column = f"{task} {metric}, {values['documents']:,} documents{shots}"
            columns[column] = None
            for plan in by_key.get(key, [key]):
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

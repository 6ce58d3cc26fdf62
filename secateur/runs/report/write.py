"""Writes a run's report: pictures, page and plans, all of which can be deleted and rebuilt."""

from ...files import write_bytes, write_text
from ...space.space import Space
from ..record.folder import RunFolder
from ..record.journal import FOUND
from .figures import figures
from .front import FrontSummary
from .front_figures import pictures
from .front_page import front_page
from .page import rendered
from .plan_page import plan_page
from .plans import make_plan
from .rows import ORIGINS
from .summary import Summary


def shown_costs(folder: RunFolder, space: Space) -> tuple[str, ...]:
    """The costs that tables show: those that are minimised or budgeted."""
    score = folder.recipe.score
    wanted = [*([score] if folder.recipe.smallest else []), *(budget.cost for budget in space.budgets)]
    return tuple(dict.fromkeys(wanted)) or ("parameters",)


def estimated(space: Space) -> bool:
    """Whether latencies are an estimate."""
    return space.latency is not None and space.latency.estimate


def write_report(folder: RunFolder, space: Space, summary: Summary | FrontSummary) -> None:
    """Writes what a run has come to into `report/` and `plans/` of its folder.

    Raises:
        StorageError: the folder cannot be written.
    """
    if isinstance(summary, FrontSummary):
        _write_front(folder, space, summary)
        return
    for name, content in figures(folder, space, summary).items():
        write_bytes(folder.inside("report", f"{name}.png"), content)
    page = plan_page(folder, space, summary, shown_costs(folder, space), estimated(space))
    write_text(folder.inside("report", "index.html"), rendered(page))
    _write_plans(folder, space, summary)


def _write_plans(folder: RunFolder, space: Space, summary: Summary, without: tuple[str, ...] = ()) -> None:
    for row in summary.rows:
        if row.name not in ORIGINS and row.name not in without:
            make_plan(folder, space, summary, row).write(folder.inside("plans", f"{row.name}.json"))


def _write_front(folder: RunFolder, space: Space, front: FrontSummary) -> None:
    for name, content in pictures(front, space).items():
        write_bytes(folder.inside("report", f"{name}.png"), content)
    write_text(folder.inside("report", "index.html"), rendered(front_page(folder, space, front)))
    _write_plans(folder, space, front.summary, (FOUND,))
    knee = next((row for row in front.summary.rows if row.name == front.knee), None)
    if knee is not None:
        make_plan(folder, space, front.summary, knee).write(folder.inside("plans", "knee.json"))

"""Writes a run's report: pictures, page and plans, all of which can be deleted and rebuilt."""

from pathlib import Path

from ...space.space import Space
from ..folder import RunFolder, write_bytes, write_text
from .figures import figures
from .page import page
from .summary import Summary, make_plan, summarise


def shown_cost(space: Space) -> str:
    """The cost that tables show: the first that is budgeted."""
    return space.budgets[0].cost if space.budgets else "parameters"


def write_report(folder: RunFolder, space: Space) -> Summary:
    """Writes `report/` and `plans/` into the run's folder; returns what they say.

    Raises:
        SecateurError: the folder cannot be written.
    """
    summary = summarise(folder, space)
    pictures = figures(folder, space, summary)
    report: Path = folder.path / "report"
    for name, content in pictures.items():
        write_bytes(report / f"{name}.png", content)
    budgets = [str(budget) for budget in space.budgets]
    html = page(
        folder.path.name,
        folder.recipe.model.path,
        budgets,
        shown_cost(space),
        summary,
        pictures,
        folder.recipe.to_yaml(),
    )
    write_text(report / "index.html", html)
    for row in summary.rows:
        if row.name != "dense":
            make_plan(folder, space, summary, row).write(folder.path / "plans" / f"{row.name}.json")
    return summary

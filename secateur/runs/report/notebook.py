"""How runs show themselves in a notebook, and as a table of pandas."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...plans.html import html_table
from .front import FrontSummary
from .front_page import table
from .plan_page import compared
from .summary import Summary

if TYPE_CHECKING:
    from pandas import DataFrame


def run_html(summary: Summary | FrontSummary, costs: Sequence[str]) -> str:
    """Verdict and comparison of a run; `costs`: those that are shown of one plan."""
    if isinstance(summary, FrontSummary):
        return html_table(summary.verdict, *table(summary, brief=True))
    grid = compared(summary, costs, estimate=False)
    return html_table(summary.verdict, grid.headings, grid.rows)


def frame_of(summary: Summary | FrontSummary) -> "DataFrame":
    """One row for each plan: costs, mean and standard error of every score on every text, and how much lower what was
    found is, with the 95 % interval `from` and `to`.

    Raises:
        ImportError: pandas is not installed.
    """
    from pandas import DataFrame

    whole = summary.summary if isinstance(summary, FrontSummary) else summary
    rows: list[dict[str, Any]] = []
    for row in whole.rows:
        values: dict[str, Any] = {"plan": row.name, "tokens": row.tokens, "evaluations": row.evaluations, **row.costs}
        for text, scores in row.scores.items():
            for name, score in scores.items():
                values |= {f"{text} {name}": score.mean, f"{text} {name} error": score.standard_error}
        if row.against is not None:
            difference = row.against
            values |= {"found minus this": difference.mean, "from": difference.low, "to": difference.high}
        rows.append(values)
    return DataFrame(rows).set_index("plan")

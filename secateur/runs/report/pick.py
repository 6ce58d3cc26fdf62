"""Which plan of a run is meant: by its name, by its rank on the front, the knee, or the best within a limit."""

import re

from ...space.budget import parse_limit
from ...space.costs import Costs
from ...space.errors import SecateurError, suggest
from ..record.journal import FOUND
from .front import FrontSummary, Point
from .rows import ORIGINS, Row
from .summary import Summary

LIMIT = re.compile(r"\s*([\w:.-]+)\s*<=?\s*(.+?)\s*")


def pick_row(pick: str, summary: Summary, front: FrontSummary | None, dense: Costs) -> Row:
    """The row that `pick` means.

    For a front: "knee" or "found", both the knee as measured, a rank such as "3", or a limit such as "latency<=0.6x",
    "weight_bytes<=300MB" or "kl<=0.5": of the members that keep it the one of least loss, or for a limit on a score the
    one of least cost. Latency is the measured one where it was measured.

    Raises:
        SecateurError: there is no such plan, or no member keeps the limit.
    """
    rows = {row.name: row for row in summary.rows if row.name not in ORIGINS}
    if front is not None and pick in (FOUND, "knee"):
        if not front.knee:
            raise SecateurError(f"--pick {pick}: {front.verdict}")
        return rows[front.knee]
    if pick in rows:
        return rows[pick]
    if not summary.rows or summary.rows[0].name != FOUND:
        raise SecateurError(
            f"nothing is found yet, since the search has not finished: 'secateur resume RUN' goes on; there is "
            f"{', '.join(rows) or 'no other plan either'}"
        )
    if front is None:
        raise SecateurError(f"--pick {pick}: this run has no such plan; {suggest(pick, rows)}")
    alive = [point for point in front.members if not point.fault]
    if pick.isascii() and pick.isdecimal() and len(pick) < 9:
        if not 1 <= int(pick) <= len(front.members):
            raise SecateurError(f"--pick {pick}: ranks go from 1 to {len(front.members)}")
        return front.members[int(pick) - 1].row
    match = LIMIT.fullmatch(pick)
    cost = next((objective.name for objective in front.objectives if objective.is_cost), "parameters")
    if match is None:
        raise SecateurError(
            f'--pick {pick}: write knee, a rank from 1 to {len(front.members)}, a limit such as "{cost}<=0.6x", '
            f"or a name; {suggest(pick, rows)}"
        )
    return _within(match[1], match[2], front, alive, dense).row


def _cost(point: Point, name: str, dense: Costs) -> float:
    """As measured, where it was."""
    if point.measured is not None and point.reliable(name):
        return point.measured.ratios[name].median * float(getattr(dense, name))
    return float(point.row.costs[name])


def _within(name: str, text: str, front: FrontSummary, alive: list[Point], dense: Costs) -> Point:
    scores = [objective.name for objective in front.objectives if not objective.is_cost]
    costs = [objective.name for objective in front.objectives if objective.is_cost]
    if name in scores:
        try:
            limit = float(text)
        except ValueError:
            raise SecateurError(f"--pick {name}<={text}: write a number, such as {name}<=0.5") from None
        kept = [point for point in alive if point.values[name] <= limit]
        if kept and costs:
            return min(kept, key=lambda point: point.values[costs[0]])
    else:
        if name not in dense.to_json():
            raise SecateurError(f"--pick {name}: {suggest(name, [*scores, *dense.to_json()])}")
        whole = parse_limit(name, text, dense, f"--pick {name}")
        assert whole is not None
        kept = [point for point in alive if _cost(point, name, dense) <= whole]
        if kept:
            return min(kept, key=lambda point: point.values[scores[0]])
    if not kept:
        raise SecateurError(f"--pick {name}<={text}: no member of the front keeps that; 'secateur report' lists them")
    return kept[0]

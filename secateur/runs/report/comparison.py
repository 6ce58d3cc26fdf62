"""The table that every report of one plan has: what was found beside the baselines and the dense model."""

from collections.abc import Mapping, Sequence

from ...space.budget import labelled
from ...space.costs import LATENCIES
from ...space.latency import Measured
from .fitting import Column
from .rows import SHOWN, Row
from .summary import Summary
from .units import human, perplexity, rounded, size_cost


def comparison(
    summary: Summary, costs: Sequence[str], estimate: bool, digits: int
) -> tuple[list[Column], list[list[str]]]:
    """Columns, the least important of which a narrow terminal leaves out, and a row of cells for each plan.

    `costs`: those that are shown, relative to dense; `estimate`: latency is one; `digits`: of losses.
    """
    timed = [name for name in costs if name in LATENCIES and any(_timed(row, name) for row in summary.rows)]
    columns = [Column("plan", text=True)]
    for place, cost in enumerate(costs):
        how = " by table" if cost in timed else ""
        columns.append(Column(f"{labelled(cost, estimate)}{how}\nof dense", 3 * bool(place)))
        columns += [Column(f"{cost}\nas timed, 95 %", 2)] if cost in timed else []
    columns.append(Column("size", 6))
    for place, text in enumerate(summary.held_out):
        first, *others = _shown(summary)
        columns.append(Column(f"{text}\n{SHOWN.get(first, first)}", 2 * bool(place)))
        for number, one in enumerate(others):
            last = number == len(others) - 1
            columns.append(Column(f"{text}\n{SHOWN.get(one, one)}", 5 if last and place else 4))
    columns += [Column("found minus this\n95 % interval", 1), Column("search\ntokens", 7), Column("evaluations", 8)]
    return columns, [_cells(row, summary, costs, timed, digits) for row in summary.rows]


def _shown(summary: Summary) -> list[str]:
    """The scores that each held-out text has a column for: what plans are compared by first, where that is another."""
    known = summary.judged in summary.always
    return [*([] if known else [summary.judged]), *summary.always]


def _cells(row: Row, summary: Summary, costs: Sequence[str], timed: Sequence[str], digits: int) -> list[str]:
    cells = [f"{row.name}{' *' * (row.slack or row.broken)}"]
    for cost in costs:
        dense = summary.dense_costs[cost]
        cells.append(f"{row.costs[cost] / max(1, dense):.4f}")
        if cost in timed:
            cells.append(
                human(cost, dense) if row.name == "dense" else as_timed(summary.dense_costs, row.measured, cost)
            )
    size = size_cost(row.costs)
    cells.append(human(size, row.costs[size]))
    for text in summary.held_out:
        scores = row.scores.get(text)
        for one in _shown(summary):
            if scores is None:
                cells.append("")
            elif one == "cross_entropy":
                cells.append(perplexity(scores[one].mean))
            else:
                cells.append(f"{rounded(scores[one].mean, digits)} ± {scores[one].standard_error:.{digits}f}")
    difference = row.against
    cells.append(f"{difference.mean:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]" if difference else "")
    return [*cells, f"{row.tokens:,}" if row.tokens else "", f"{row.evaluations:,}" if row.evaluations else ""]


def _timed(row: Row, cost: str) -> bool:
    return row.measured is not None and cost in row.measured.ratios


def as_timed(dense_costs: Mapping[str, int], measured: Measured | None, cost: str) -> str:
    """A latency as timed end to end, in milliseconds: the ratio to dense, on the scale of the table's dense model."""
    ratio = measured.ratios.get(cost) if measured is not None else None
    if ratio is None:
        return ""
    dense = dense_costs[cost]
    return f"{human(cost, ratio.median * dense)} ± {ratio.spread * dense / 1e6:.1f}"

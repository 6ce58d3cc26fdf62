"""Tables fit the terminal: columns go, least important first, and no number is cut."""

import io
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from secateur.runs.report.fitting import Column, fitting, print_table
from secateur.runs.report.tables import _rank
from secateur.runs.stages.searching import Pace
from secateur.space.objective import Objective

COLUMNS = [Column("plan", text=True), Column("loss"), Column("second\nloss", 2), Column("tokens", 3), Column("size", 1)]
ROW = ["found", "0.1234 ± 0.001", "0.5678 ± 0.001", "123,456,789", "0.7000"]


def printed(width: int, rows: list[list[str]]) -> str:
    out = io.StringIO()
    print_table(Console(file=out, width=width, markup=False, highlight=False), "Budget", COLUMNS, rows)
    return out.getvalue()


def test_the_least_important_go_first_and_are_named() -> None:
    assert fitting(COLUMNS, [ROW], 200) == [0, 1, 2, 3, 4]
    assert fitting(COLUMNS, [ROW], 60) == [0, 1, 2, 4]
    assert fitting(COLUMNS, [ROW], 40) == [0, 1, 4]
    assert fitting(COLUMNS, [ROW], 10) == [0, 1], "what a table is about stays"
    text = printed(40, [ROW])
    assert "no room for: second loss, tokens" in " ".join(text.split())
    assert "no room" not in printed(200, [ROW])


@given(
    st.integers(40, 160),
    st.lists(st.lists(st.integers(0, 10**14).map(lambda n: f"{n:,}"), min_size=4, max_size=4), min_size=1, max_size=4),
)
def test_what_is_shown_is_whole(width: int, numbers: list[list[str]]) -> None:
    rows = [[f"plan {place}", *cells] for place, cells in enumerate(numbers)]
    text = printed(width, rows)
    kept = fitting(COLUMNS, rows, width)
    for row in rows:
        assert all(row[index] in text for index in kept)
    assert "…" not in text
    assert all(len(line) <= width for line in text.splitlines())


def test_pace_forgets_what_a_journal_answered() -> None:
    now = [0.0]
    pace = Pace(lambda: now[0])
    assert pace.at(10**6) == 0.0, "no time has passed"
    for second in range(1, 12):
        now[0] = float(second)
        rate = pace.at(10**6 + 100 * second)
    assert rate == 100.0


def test_a_front_in_eighty_columns_keeps_costs_and_losses() -> None:
    headings = ["rank", "plan", "latency\nof dense", "latency\nms", "by table", "kl\ncalibration", "KL\nheld-out"]
    headings += ["mine:f\nheld-out", "parameters\nof dense", "prefill\nms", "decode\ntokens/s"]
    front = SimpleNamespace(objectives=(Objective("kl"), Objective("latency")))
    ranks = {heading: _rank(heading, front) for heading in headings}  # type: ignore[arg-type]
    assert [ranks[one] for one in headings[:3]] == [0, 0, 0]
    assert ranks["kl\ncalibration"] == ranks["KL\nheld-out"] == 0
    assert ranks["by table"] < ranks["parameters\nof dense"] < ranks["prefill\nms"] == ranks["decode\ntokens/s"]
    sized = SimpleNamespace(objectives=(Objective("kl"), Objective("parameters")))
    assert _rank("parameters\nof dense", sized) == 0  # type: ignore[arg-type]

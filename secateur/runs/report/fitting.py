"""Tables that fit the terminal: of too many columns the least important are left out, so that no number is cut.

Only a terminal that is too narrow even for the columns that always stay breaks their cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

BORDER = 3
"""Cells between two columns, and one more at the end."""
NARROWEST = 12
"""Cells that a column of text, which may be broken into lines, needs at least."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        heading: in one line or several.
        rank: columns of the highest are left out first; those of rank 0 never are.
        text: it has words, which stand at the left and may be broken into lines.
    """

    heading: str
    rank: int = 0
    text: bool = False

    @property
    def name(self) -> str:
        """The heading in one line."""
        return " ".join(self.heading.split())


def print_table(
    console: Console,
    title: str,
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    bold: Sequence[int] = (),
    whole: str = "--json",
) -> None:
    """Prints a table without the columns there is no room for, which it names; rows that are `bold` stand out.

    `whole`: what shows all columns.
    """
    kept = fitting(columns, rows, console.width)
    grid = Table(title=title or None, title_justify="left")
    for index in kept:
        column = columns[index]
        grid.add_column(
            column.heading,
            justify="left" if column.text or index == 0 else "right",
            no_wrap=not column.text,
            overflow="fold",
        )
    for number, row in enumerate(rows):
        grid.add_row(*(row[index] for index in kept), style="bold" if number in bold else "")
    console.print(grid)
    left_out = [column.name for index, column in enumerate(columns) if index not in kept]
    if left_out:
        console.print(f"no room for: {', '.join(left_out)} ({whole} has all)")


def fitting(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """The columns, by their places, that fit into `width` cells."""
    needed = [_width(column, [row[index] for row in rows]) for index, column in enumerate(columns)]
    kept = list(range(len(columns)))
    # Of the same rank the last goes first.
    for index in sorted(kept, key=lambda index: (columns[index].rank, index), reverse=True):
        if sum(needed[one] + BORDER for one in kept) + 1 <= width or not columns[index].rank:
            break
        kept.remove(index)
    # One that is narrower than the last that went may fit again, the most important first.
    for index in sorted(set(range(len(columns))) - set(kept), key=lambda index: (columns[index].rank, index)):
        if sum(needed[one] + BORDER for one in (*kept, index)) + 1 <= width:
            kept = sorted([*kept, index])
    return kept


def _width(column: Column, cells: Sequence[str]) -> int:
    longest = max((cell_len(line) for text in (column.heading, *cells) for line in text.splitlines()), default=0)
    return min(longest, NARROWEST) if column.text else longest

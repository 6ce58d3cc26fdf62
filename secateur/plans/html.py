"""Tables for notebooks."""

from collections.abc import Sequence
from html import escape


def html_table(heading: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A heading and a table; all text is escaped."""
    head = "".join(f"<th>{escape(' '.join(cell.split()))}</th>" for cell in headings)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<p><b>{escape(heading)}</b></p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

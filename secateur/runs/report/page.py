"""The page of a report: self-contained HTML, the same for one plan and for a front."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import plotly.graph_objects as go
import plotly.io
import plotly.offline
from jinja2 import Environment
from markupsafe import Markup

ASSETS = Path(__file__).parent / "assets"
CONFIG = {"responsive": True, "displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"]}


@dataclass(frozen=True, slots=True)
class Card:
    """A headline: what it is about, its value, and a word beside it."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure with a heading.

    Attributes:
        name: of the element that holds it.
        front: a click on its points chooses a plan.
        choices: what it shows of each plan, by name, where one can be chosen.
    """

    heading: str
    name: str
    figure: go.Figure
    notes: Sequence[str] = ()
    front: bool = False
    choices: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    kind: ClassVar[str] = "chart"

    def html(self) -> Markup:
        """The element; plotly escapes what it is given."""
        return Markup(
            plotly.io.to_html(self.figure, full_html=False, include_plotlyjs=False, div_id=self.name, config=CONFIG)
        )


@dataclass(frozen=True, slots=True)
class Grid:
    """A table with a heading; rows that are `bold` stand out."""

    heading: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    bold: Collection[int] = ()
    notes: Sequence[str] = ()
    kind: ClassVar[str] = "grid"


@dataclass(frozen=True, slots=True)
class Page:
    """What is on a page, from above: title and a line under it, verdict, cards, charts and grids, notes, the recipe."""

    title: str
    under: str
    verdict: str
    cards: Sequence[Card]
    parts: Sequence[Chart | Grid]
    notes: Sequence[str] = ()
    recipe: str = ""


def rendered(page: Page) -> str:
    """The page as HTML with everything embedded; all text from outside is escaped."""
    environment = Environment(autoescape=True, trim_blocks=True)
    return environment.from_string(_asset("page.html")).render(
        page=page,
        css=Markup(_asset("page.css")),
        js=Markup(_asset("page.js")),
        plotly=Markup(plotly.offline.get_plotlyjs()) if any(part.kind == "chart" for part in page.parts) else "",
        json=_json,
    )


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf8")


def _json(values: object) -> Markup:
    """JSON inside a script element, which nothing in it can end."""
    text = json.dumps(values, allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))

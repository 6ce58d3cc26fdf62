"""The page of a report as people see it: in headless Chromium, as wide as a phone and as a desk."""

from pathlib import Path
from typing import Any

import pytest

import secateur
from tests.browser import PROGRAM, asked
from tests.tiny import tiny_recipe

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs Chromium")

LOOK = """
const boxes = selector => [...document.querySelectorAll(selector)].map(one => one.getBoundingClientRect());
const meet = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
const overlapping = list => list.filter((one, n) => list.some((other, m) => m > n && meet(one, other))).length;
const ticks = [...document.querySelectorAll(".js-plotly-plot")].flatMap(figure =>
  ["x", "y"].map(axis => [...figure.querySelectorAll(`.${axis}tick text`)].map(t => t.getBoundingClientRect())))
  .map(overlapping);
const wide = [...document.querySelectorAll("body *")].filter(one =>
  !one.closest(".table, pre, .figure, script, svg") && one.getBoundingClientRect().right > innerWidth + 1);
const used = [...document.querySelectorAll("button, select, input, .table, summary")];
return {
  overflow: document.documentElement.scrollWidth - innerWidth,
  wide: wide.map(one => one.tagName + "." + one.className),
  figures: boxes(".js-plotly-plot .main-svg").map(box => Math.round(box.right - innerWidth)),
  parts: overlapping(boxes("body > *")),
  cards: overlapping(boxes(".card")),
  ticks: ticks.reduce((sum, one) => sum + one, 0),
  unreachable: used.filter(one => one.tabIndex < 0).length,
  reachable: used.length,
  drawn: document.querySelectorAll(".js-plotly-plot").length,
  verdict: document.querySelector(".verdict").textContent,
};
"""
USE = """
const before = getComputedStyle(document.body).backgroundColor;
document.getElementById("theme").click();
const after = getComputedStyle(document.body).backgroundColor;
const profile = document.getElementById("profile"), choice = document.getElementById("choice");
const first = JSON.stringify(profile.data[0].z);
const shown = [...choice.options].map(option => option.value);
choice.value = shown[shown.length - 1];
choice.dispatchEvent(new Event("change"));
await new Promise(done => setTimeout(done, 200));
const last = JSON.stringify(profile.data[0].z);
const table = document.querySelector("table.sorts"), column = table.rows[0].cells.length - 1;
const cells = () => [...table.tBodies[0].rows].map(row => row.cells[column].textContent);
table.rows[0].cells[column].querySelector("button").click();
const up = cells();
table.rows[0].cells[column].querySelector("button").click();
const down = cells();
let clicked = null;
const front = document.querySelector(".front .js-plotly-plot");
if (front) {
  front.emit("plotly_click", {points: [{customdata: shown[0]}]});
  await new Promise(done => setTimeout(done, 200));
  clicked = choice.value;
}
return {before, after, shown, changed: first !== last, up, down, clicked,
  sorted: table.querySelector("[aria-sort]") !== null,
  colour: document.querySelector(".js-plotly-plot").layout.font.color};
"""


@pytest.fixture(scope="module")
def pages(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    recipe = tiny_recipe(tiny / "model", tiny / "calibration.txt", tiny / "held.txt")
    genes = [{"kind": "attention"}, {"kind": "mlp", "levels": [48, 32, 16, 0]}]
    plan: dict[str, Any] = {"genes": genes, "baselines": "all", "strategy": {"name": "greedy", "sequences": 2}}
    front: dict[str, Any] = {
        "genes": genes,
        "objectives": ["kl", "parameters"],
        "budgets": {},
        "strategy": {"name": "nsga2", "population": 6, "sequences": 2},
        "effort": {"evaluations": 40},
        "baselines": ["uniform-width", "shortgpt"],
    }
    for name, changes in (("plan", plan), ("front", front)):
        secateur.run(recipe | changes, folder / name)
    return {name: folder / name / "report" / "index.html" for name in ("plan", "front")}


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("kind", ["plan", "front"])
def test_it_fits_and_nothing_overlaps(pages: dict[str, Path], tmp_path: Path, kind: str, width: int) -> None:
    told = asked(pages[kind], LOOK, width, tmp_path)
    assert told["faults"] == []
    assert told["overflow"] <= 0
    assert told["wide"] == []
    assert all(right <= 1 for right in told["figures"])
    assert (told["parts"], told["cards"], told["ticks"], told["unreachable"]) == (0, 0, 0, 0)
    assert told["reachable"] > 10
    assert told["drawn"] == 3
    assert told["verdict"]


@pytest.mark.parametrize("kind", ["plan", "front"])
def test_it_can_be_used(pages: dict[str, Path], tmp_path: Path, kind: str) -> None:
    told = asked(pages[kind], USE, 1280, tmp_path)
    assert told["faults"] == []
    assert told["before"] != told["after"], "dark and light"
    assert told["changed"], "another plan, another profile"
    assert told["up"] == list(reversed(told["down"])) or sorted(told["up"]) == sorted(told["down"])
    assert told["sorted"]
    assert told["clicked"] == (told["shown"][0] if kind == "front" else None)
    assert told["colour"].startswith("#")

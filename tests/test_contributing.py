"""CONTRIBUTING's recipes, followed to the letter: its files where it puts them, its lines in the tables it names."""

import importlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import secateur
from secateur.runs.asked.reading import make_recipe
from secateur.runs.record.folder import RunFolder
from secateur.runs.stages.exporting import export_plan, import_plan
from secateur.search.problem import Problem
from secateur.search.steps import Steps, noted
from secateur.space.errors import SecateurError
from secateur.space.evaluation import Evaluation
from tests.tiny import save_tiny, tiny_recipe

TEXT = Path(__file__).with_name("..").resolve().joinpath("CONTRIBUTING.md").read_text()
FILE = re.compile(r"```python\n# (secateur/\S+\.py)\n(.*?)```", re.S)
LINE = re.compile(
    r"`(secateur/\S+/?table\.py|secateur/space/(?:scores|treatments|question)\.py)`[^`]*?:\n\n```python\n(.*?)```", re.S
)
TABLES = ("STRATEGIES", "RULES", "KINDS", "TREATMENTS", "QUESTIONS", "SCORES", "FORMATS", "FAMILIES")


def module_of(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".")


def put(path: str, code: str) -> ModuleType:
    """A file of the package that exists in memory alone."""
    name = module_of(path)
    module = ModuleType(name)
    module.__package__, module.__file__ = name.rpartition(".")[0], path
    sys.modules[name] = module
    exec(compile(code, path, "exec"), module.__dict__)
    return module


@pytest.fixture(scope="module", autouse=True)
def followed() -> Iterator[dict[str, list[str]]]:
    """What was entered, by table."""
    made = [put(*match.groups()) for match in FILE.finditer(TEXT)]
    entered: list[tuple[dict[str, Any], str]] = []
    found: dict[str, list[str]] = {}
    for path, line in LINE.findall(TEXT):
        table = importlib.import_module(module_of(path))
        names = {**vars(table)}
        for module in made:  # beside its import
            names |= {name: value for name, value in vars(module).items() if name.isupper()}
            names[module.__name__.rpartition(".")[2]] = module
        entries = eval(f"{{{line}}}", names)  # noqa: S307 - our own text
        [name] = [one for one in TABLES if hasattr(table, one)]
        getattr(table, name).update(entries)
        entered += [(getattr(table, name), key) for key in entries]
        found.setdefault(name, []).extend(entries)
    yield found
    for rows, key in entered:
        rows.pop(key)
    for module in made:
        sys.modules.pop(module.__name__)


def test_there_is_a_recipe_for_every_table(followed: dict[str, list[str]]) -> None:
    assert sorted(followed) == sorted(TABLES)
    assert {name: len(entries) for name, entries in followed.items() if len(entries) > 1} == {"KINDS": 2}


def test_what_they_add_runs_together(tiny: Path, tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "model", "helium", head_dim=8)
    recipe = tiny_recipe(
        model,
        tiny / "calibration.txt",
        tiny / "held.txt",
        genes=[
            {"kind": "halves"},
            {"kind": "block", "layers": "1-3"},
            {"kind": "rounding", "levels": [8], "per": "block", "layers": "0"},
        ],
        budgets={"block_parameters": "0.7x"},
        strategy={"name": "first-come"},
        score="other_tokens",
        baselines=["every-other"],
    )
    run = secateur.run(recipe, tmp_path / "run")
    assert {row.name for row in run.summary.rows} >= {"found", "every-other", "dense"}
    dropped = run.plan("every-other")
    export_plan(dropped, "kept-layers", tmp_path / "kept")
    kept = json.loads((tmp_path / "kept" / "kept.json").read_text())["kept_layers"]
    assert len(kept) < 4
    back = import_plan(tmp_path / "kept" / "kept.json", str(model), tmp_path / "back.json")
    assert [bool(layer.kept["channels"].kept) for layer in back.layers] == [index in kept for index in range(4)]


def test_what_is_asked_is_kept(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The strategy of these recipes, asking what the recipe of a question says."""
    confidence = sys.modules["secateur.space.confidence"].CONFIDENCE
    strategy = sys.modules["secateur.search.strategies.first_come"].FirstCome
    plain, told = strategy.steps, list[Evaluation]()

    def asking(self: Any, problem: Problem) -> Steps:
        assert confidence.name in problem.questions
        asked = partial(replace, also=(confidence,))
        return noted(plain(self, problem), lambda _, some: told.extend(some), asked)

    monkeypatch.setattr(strategy, "steps", asking)
    recipe = tiny_recipe(tiny / "model", tiny / "calibration.txt", strategy={"name": "first-come"})
    run = secateur.run(recipe, tmp_path / "run")
    assert all(0 < value < 1 for one in told for value in one.answer(confidence).values)
    with RunFolder.open(run.path, writing=False) as folder:
        choice = folder.journal.choices()["found"]
        assert len(list(folder.journal.answers(confidence, "calibration"))) == choice.evaluations == len(told)
        assert choice.tokens == sum(one.tokens + one.answer(confidence).tokens for one in told)


def test_a_mistyped_key_is_answered_with_the_strategys_own(tiny: Path) -> None:
    values = tiny_recipe(tiny / "model", tiny / "calibration.txt", strategy={"name": "first-come", "cuont": 3})
    with pytest.raises(SecateurError, match=r"strategy\.cuont: unknown key; did you mean 'count'\?"):
        make_recipe(values)

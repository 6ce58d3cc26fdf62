"""The JSON Schema of recipes says what the settings say."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from secateur.runs.asked.reading import read_recipe, written_recipe
from secateur.runs.asked.schema import schema
from secateur.runs.asked.shipped import shipped
from secateur.search.strategies.table import STRATEGIES
from secateur.space.errors import SecateurError
from secateur.space.kinds.table import KINDS

SCHEMA = schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
SHORT: dict[str, Any] = {"model": "tiny", "calibration": "package:quac", "budgets": "parameters <= 0.7x"}


def sections() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "", SCHEMA
    yield from SCHEMA["$defs"].items()


def test_it_is_a_schema_and_every_key_says_what_it_is() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    silent = [
        f"{name}.{key}"
        for name, section in sections()
        for key, one in section.get("properties", {}).items()
        if not one.get("description") and name != "budgets"
    ]
    assert not silent
    assert {*KINDS, *STRATEGIES} <= set(SCHEMA["$defs"])


@pytest.mark.parametrize("name", sorted(shipped()))
def test_recipes_that_ship_are_valid_as_written_and_in_full(name: str) -> None:
    file = shipped()[name]
    VALIDATOR.validate(yaml.safe_load(file.read_text()))
    VALIDATOR.validate(yaml.safe_load(read_recipe(file).to_yaml()))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"genes": "mlp", "strategy": "greedy", "effort": "20 minutes", "held_out": "x.txt", "workers": 4},
        {"genes": ["attention", {"kind": "sparsity", "levels": [0.5, "2:4"]}], "budgets": ["macs <= 0.7x"]},
        {"budgets": {"latency": "40ms"}, "latency": "quick", "baselines": "none"},
        {"strategy": {"name": "evopress", "warm": "knapsack", "initial": "knapsack"}, "effort": {"tokens": 5}},
        {"training": "lora", "effort": {"minutes": 3}},
        {"calibration": [{"source": "a.txt", "weight": 2, "length": 64}, "b.txt"], "prepare": ["b.txt", "c.txt"]},
        {"calibration": {"mixture": ["a.txt", {"source": "b.txt", "weight": 0.5}], "sequences": 8}},
        {"objectives": ["kl", "macs"], "strategy": {"name": "nsga2", "population": 8}, "effort": {"evaluations": 9}},
    ],
)
def test_what_is_read_is_valid(changes: dict[str, Any]) -> None:
    written_recipe({**SHORT, **changes}, Path.cwd())
    VALIDATOR.validate({**SHORT, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"modle": "tiny"},
        {"model": {"pth": "tiny"}},
        {"genes": "mpl"},
        {"genes": [{"kind": "mlp", "layer": 3}]},
        {"strategy": {"name": "surrogate", "batch": 1}},
        {"strategy": {"name": "greedy", "population": 4}},
        {"effort": "long"},
        {"budgets": {"parameter": "0.7x"}},
        {"calibration": {"source": "x", "sequences": 0}},
        {"calibration": {"sequences": 4}},
        {"calibration": {"source": "x", "weight": 2}},
        {"calibration": [{"weight": 2}]},
        {"seed": -1},
    ],
)
def test_what_is_refused_is_not(changes: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid({**SHORT, **changes})
    with pytest.raises(SecateurError):
        recipe = written_recipe({**SHORT, **changes}, Path.cwd())
        # Names of costs are looked at when there is a model.
        if "parameter" in recipe.budgets:
            raise SecateurError("unknown cost")


def test_examples_and_defaults_are_valid() -> None:
    """Every value that the schema shows fits where it is shown."""
    for name, section in sections():
        for key, one in section.get("properties", {}).items():
            shown = [*one.get("examples", ()), *([one["default"]] if "default" in one else [])]
            rule = {**one, "$defs": SCHEMA["$defs"]}
            for value in shown:
                assert jsonschema.Draft202012Validator(rule).is_valid(value), (name, key, value)

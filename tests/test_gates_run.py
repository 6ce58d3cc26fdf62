"""Gates on a model: by slopes where there are some, by the scores of samples where not."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

import secateur
from tests.tiny import tiny_recipe


@pytest.mark.parametrize(
    ("genes", "budgets", "sloping"),
    [
        ([{"kind": "sparsity", "levels": [0.0, 0.4, 0.6], "per": "sublayer"}], {"linear_weights": "<= 0.55x"}, True),
        ([{"kind": "attention"}, {"kind": "mlp", "levels": "4 levels"}], {"block_parameters": "<= 0.7x"}, False),
    ],
)
def test_a_search_by_gates(
    tiny: Path, tmp_path: Path, genes: list[dict[str, Any]], budgets: dict[str, str], sloping: bool
) -> None:
    recipe: dict[str, Any] = tiny_recipe(tiny / "model", tiny / "calibration.txt", tiny / "held.txt")
    recipe |= {"genes": genes, "budgets": budgets, "baselines": ["random"]}
    recipe |= {"strategy": {"name": "gates", "sequences": 2, "samples": 4}, "effort": {"evaluations": 60}}
    run = secateur.run(recipe, tmp_path / "run")
    found = run.summary.rows[0]
    assert found.name == "found"
    [cost] = budgets
    share = float(budgets[cost].strip("<= x"))  # of zeros, whole numbers of each row's weights
    assert found.costs[cost] <= 1.01 * share * run.summary.rows[-1].costs[cost]
    with sqlite3.connect(tmp_path / "run" / "journal.sqlite") as journal:
        asked = {question for (question,) in journal.execute("SELECT DISTINCT question FROM answers")}
    assert ("slopes" in asked) == sloping
    assert secateur.resume(tmp_path / "run").summary.verdict == run.summary.verdict

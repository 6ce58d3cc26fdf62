"""Runs of objects that are loaded already: they are kept with the run, which is one like any other."""

from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import secateur
from secateur.runs.watcher import Progress
from secateur.space.errors import SecateurError
from tests.test_cli import command
from tests.tiny import tiny_recipe


@pytest.fixture
def objects(tiny: Path) -> dict[str, Any]:
    documents = (tiny / "calibration.txt").read_text().split("\n\n")
    model = AutoModelForCausalLM.from_pretrained(tiny / "model")
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight.mul_(0.5)  # another one than that on disk
    return {
        "model": model,
        "tokenizer": AutoTokenizer.from_pretrained(tiny / "model"),
        "text": documents,
        "held_out": (tiny / "held.txt").read_text().split("\n\n"),
    }


def recipe_of(tiny: Path, **changes: Any) -> dict[str, Any]:
    """A recipe that names neither model nor texts."""
    recipe = tiny_recipe(tiny / "model", tiny / "calibration.txt", tiny / "held.txt", baselines=["random"]) | changes
    del recipe["model"], recipe["calibration"]["source"], recipe["held_out"]
    return recipe | {"held_out": {"sequences": 4, "length": 32}}


def test_a_run_of_objects_is_that_of_their_files(tiny: Path, tmp_path: Path, objects: dict[str, Any]) -> None:
    out, progress = tmp_path / "run", list[Progress]()

    def stop(now: Progress) -> None:
        progress.append(now)
        if "loss" in now.values:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        secateur.run(recipe_of(tiny), out, watch=stop, **objects)
    run = secateur.resume(out)
    objects["model"].save_pretrained(tmp_path / "changed")
    objects["tokenizer"].save_pretrained(tmp_path / "changed")
    recipe = recipe_of(tiny, seed=0)
    recipe["model"] = str(tmp_path / "changed")
    recipe["calibration"]["source"] = str(tiny / "calibration.txt")
    recipe["held_out"]["source"] = str(tiny / "held.txt")
    named = secateur.run(recipe, tmp_path / "named")
    one, two = run.summary.rows, named.summary.rows
    assert [(row.name, row.costs, row.tokens) for row in one] == [(row.name, row.costs, row.tokens) for row in two]
    assert [list(row.scores.values()) for row in one] == [list(row.scores.values()) for row in two]
    exported = command("export", out, "--to", "hf", "--out", tmp_path / "smaller")
    assert exported.returncode == 0, exported.stderr
    AutoModelForCausalLM.from_pretrained(tmp_path / "smaller")


@pytest.mark.parametrize(
    ("changes", "recipe", "message"),
    [
        ({"tokenizer": None}, {}, "tokenizer: missing"),
        ({"model": "a name"}, {}, "model: a str; give a model and its tokenizer"),
        ({"text": "one text"}, {}, "text: give documents, as a list of texts"),
        ({"held_out": []}, {}, "held_out: give documents"),
        ({}, {"model": "my-model"}, "model: the recipe names one, and an object is given too"),
        ({}, {"budgets": "parameters <= 0.0001x"}, "budget parameters"),
        ({"text": ["the king"]}, {}, "is too short"),
    ],
)
def test_objects_that_do_not_fit_leave_nothing(
    tiny: Path,
    tmp_path: Path,
    objects: dict[str, Any],
    changes: dict[str, Any],
    recipe: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(SecateurError, match=message):
        secateur.run(recipe_of(tiny) | recipe, tmp_path / "run", **(objects | changes))
    assert not (tmp_path / "run").exists()


def test_documents_may_be_any_series_and_a_run_may_move(tiny: Path, tmp_path: Path, objects: dict[str, Any]) -> None:
    documents, held_out = objects["text"], pandas.Series(objects["held_out"])
    lists = secateur.run(recipe_of(tiny), tmp_path / "lists", **objects)
    other = objects | {"text": (one for one in documents), "held_out": held_out}
    series = secateur.run(recipe_of(tiny), tmp_path / "series", **other)
    assert series.summary.rows[0].scores == lists.summary.rows[0].scores
    (tmp_path / "series").rename(tmp_path / "moved")
    moved = secateur.resume(tmp_path / "moved")
    assert moved.summary.verdict == lists.summary.verdict
    moved.export("hf", tmp_path / "smaller")


def test_a_folder_of_somebody_else_is_left_alone(tiny: Path, tmp_path: Path, objects: dict[str, Any]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    with pytest.raises(SecateurError, match="is not empty"):
        secateur.run(recipe_of(tiny), tmp_path / "run", **objects)
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["mine.txt"]

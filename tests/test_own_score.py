"""A search for one budget by a score of the user's own: what it finds is best by that, and is compared by it."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

import secateur
from secateur.runs.asked.reading import make_recipe
from secateur.runs.problem import space_of
from secateur.runs.record.folder import RunFolder
from secateur.runs.report.summary import Summary
from secateur.runs.workplace import workplace_of
from secateur.space.errors import SecateurError
from secateur.space.genome import Genome
from tests.tasks import task_folder
from tests.tiny import tiny_recipe

MINE = """
def wrong(model, ids):
    return float((model(ids).logits[0, :-1].argmax(-1) != ids[0, 1:]).float().mean())
"""


def recipe_of(tiny: Path, **changes: Any) -> dict[str, Any]:
    recipe: dict[str, Any] = tiny_recipe(tiny / "model", tiny / "calibration.txt", tiny / "held.txt")
    recipe |= {"genes": [{"kind": "attention"}, {"kind": "mlp"}], "budgets": {"sublayers": 6}}
    return recipe | {"strategy": {"name": "exhaustive", "sequences": 2}, "baselines": ["shortgpt", "random"]} | changes


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)


@pytest.mark.usefixtures("mine")
def test_a_function_decides_what_is_found_and_how_it_is_judged(tiny: Path, tmp_path: Path) -> None:
    run = secateur.run(recipe_of(tiny, score="mine:wrong"), tmp_path / "run")
    summary = run.summary
    sys.path.append(str(tmp_path))
    import mine  # type: ignore[import-not-found]

    with RunFolder.open(run.path, writing=False) as folder:
        space = space_of(folder)
        texts = workplace_of(folder.recipe, space).load().texts
        scored = {one.genome: one for _, one in folder.journal.evaluations("calibration")}
    best = min(one.loss for one in scored.values() if space.feasible(one.genome))
    assert scored[summary.rows[0].genome].loss == best, "the best of all that keep the budget"
    assert all(isinstance(genome, Genome) for genome in scored)
    model = AutoModelForCausalLM.from_pretrained(run.export("hf", tmp_path / "smaller"))
    calibration = [mine.wrong(model, ids[None]) for ids in texts["calibration"].ids[:2]]
    assert sum(calibration) / 2 == pytest.approx(best)
    held = [mine.wrong(model, ids[None]) for ids in texts["held"].ids]
    assert summary.rows[0].scores["held"]["mine:wrong"].mean == pytest.approx(sum(held) / len(held))
    assert summary.judged == "mine:wrong"
    assert re.search(r"on held-out text: mine:wrong [+-]0\.\d+, 95 %|is that of the best baseline", summary.verdict)
    page = (run.path / "report" / "index.html").read_text()
    assert "held<br>mine:wrong" in page or "mine:wrong" in page
    again = secateur.resume(run.path)
    assert isinstance(again.summary, Summary)
    assert again.summary.verdict == summary.verdict


def test_a_plan_that_is_nearly_a_rules_is_told_as_such(tiny: Path, tmp_path: Path) -> None:
    """ShortGPT drops whole blocks: of eight sublayers six are left, and what is found may be one exchange away."""
    run = secateur.run(recipe_of(tiny), tmp_path / "run")
    found, rule = run.summary.rows[0].genome, run.summary.rows[1].genome
    assert run.summary.rows[1].name == "shortgpt"
    changes = len(found.changed(rule))
    assert changes == 2
    wanted = "The found plan is shortgpt's but for 2 of 7 genes."
    assert run.summary.kin == wanted
    assert wanted in (run.path / "report" / "index.html").read_text().replace("&#39;", "'").replace("&#x27;", "'")


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize("strategy", ["surrogate", "evopress", "greedy"])
def test_strategies_search_by_it(tiny: Path, tmp_path: Path, strategy: str) -> None:
    effort = {"tokens": 6000}
    run = secateur.run(
        recipe_of(tiny, score="mine:wrong", strategy=strategy, effort=effort, baselines=["random"]), tmp_path / "run"
    )
    assert run.summary.finished
    assert run.summary.rows[0].scores["calibration"].keys() == {"mine:wrong"}


def test_perplexity_and_tasks_are_scores_of_one_budget(tiny: Path, tmp_path: Path) -> None:
    by_loss = secateur.run(recipe_of(tiny, score="perplexity"), tmp_path / "loss")
    assert by_loss.summary.judged == "cross_entropy"
    assert "calibration" in by_loss.summary.rows[0].scores
    tasks = {"include": str(task_folder(tmp_path / "tasks")), "documents": 3}
    calibration = {"source": str(tiny / "calibration.txt"), "sequences": 12, "length": 32, "windows_per_document": 4}
    run = secateur.run(
        recipe_of(tiny, score="lm-eval:guess", tasks=tasks, calibration=calibration), tmp_path / "tasks-run"
    )
    with RunFolder.open(run.path, writing=False) as folder:
        scored = {one.genome: one.loss for _, one in folder.journal.evaluations("calibration")}
        space = space_of(folder)
    best = min(loss for genome, loss in scored.items() if space.feasible(genome))
    assert scored[run.summary.rows[0].genome] == best
    assert run.summary.judged == "kl", "tasks have documents of their own"


@pytest.mark.usefixtures("mine")
def test_a_function_that_fails_on_held_out_text_costs_only_its_own_column(tiny: Path, tmp_path: Path) -> None:
    held = {"source": str(tiny / "held.txt"), "sequences": 4, "length": 24, "windows_per_document": 4, "name": "held"}
    (tmp_path / "picky.py").write_text(
        MINE + "\n\ndef picky(model, ids):\n    assert ids.shape[1] == 32\n    return wrong(model, ids)\n"
    )
    recipe = recipe_of(tiny, score="picky:picky", held_out=[held])
    recipe["calibration"]["length"] = 32
    summary = secateur.run(recipe, tmp_path / "run").summary
    assert summary.finished
    assert summary.judged == "kl"
    assert summary.rows[0].scores["held"].keys() == {"kl", "cross_entropy"}
    assert any("AssertionError" in reason for reason in summary.failures)


def test_what_a_task_is_asked_is_part_of_the_recipe(tiny: Path) -> None:
    few, many = (
        make_recipe(recipe_of(tiny, strategy={"name": "greedy"}, score="lm-eval:guess", tasks={"documents": count}))
        for count in (8, 64)
    )
    assert few.digest() != many.digest()


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score": "parameters"}, "score: parameters alone is least for the smallest plan"),
        ({"score": "perplexty"}, "score: unknown 'perplexty'; did you mean 'perplexity'?"),
        ({"score": "mine:right"}, "score 'mine:right' cannot be imported"),
        ({"score": "mine:wrong", "training": "lora"}, "score: mine:wrong is none that candidates are trained with"),
        ({"score": "lm-eval:nosuch"}, "nosuch"),
        ({"score": "mine:wrong", "objectives": ["kl", "parameters"]}, "score: objectives say what is scored"),
    ],
)
def test_what_is_no_score_is_refused(tiny: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SecateurError, match=re.escape(message)):
        secateur.run(recipe_of(tiny, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "strategy",
    [
        {"name": "ga", "population": 6, "sequences": 2},
        {"name": "de", "population": 6, "sequences": 2},
        {"name": "tpe", "population": 4, "sequences": 2, "initial": ["shortgpt"]},
        {"name": "gp", "population": 4, "sequences": 2, "initial": []},
        {"name": "cma-es", "population": 4, "sequences": 2, "encoding": "shares"},
    ],
    ids=lambda strategy: strategy["name"],
)
def test_libraries_drive_a_search_for_one_budget(tiny: Path, tmp_path: Path, strategy: dict[str, Any]) -> None:
    recipe = recipe_of(tiny, strategy=strategy, effort={"evaluations": 40}, baselines=[])
    run = secateur.run(recipe, tmp_path / "run")
    found = run.summary.rows[0]
    assert found.costs["sublayers"] <= 6
    assert 0 < found.evaluations <= 40
    again = secateur.run(recipe, tmp_path / "again")
    assert again.summary.rows[0].genome == found.genome, "the same seed, the same answer"


@pytest.mark.parametrize(
    ("strategy", "changes", "message"),
    [
        ({"name": "ga", "population": 30, "sequences": 2}, {}, "fewer than its population of 30"),
        ({"name": "de", "encoding": "levels"}, {}, "encoding: de varies real numbers"),
        ({"name": "cma-es"}, {"objectives": ["kl", "parameters"], "budgets": {}}, "cma-es minimises one score"),
        ({"name": "nsga2"}, {}, "nsga2 searches for a front"),
        ({"name": "tpe", "initial": ["owl"]}, {}, "strategy.initial: 'owl'"),
        ({"name": "ga", "initial": ["nosuch"]}, {}, "initial: 'nosuch' is no plan file"),
        (
            {"name": "tpe", "initial": ["shortgpt"]},
            {"objectives": ["kl", "parameters"], "budgets": {}},
            "a front starts",
        ),
    ],
)
def test_what_cannot_drive_a_search_is_refused(
    tiny: Path, strategy: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    recipe = recipe_of(tiny, strategy=strategy, effort={"evaluations": 40}, baselines=[], **changes)
    with pytest.raises(SecateurError, match=re.escape(message)):
        secateur.describe(recipe)

"""Budgets on scores, and the smallest plan that keeps one, from recipe to report."""

import re
from pathlib import Path
from typing import Any

import pytest

import secateur
from secateur.runs.asked.reading import make_recipe
from secateur.runs.problem import space_of
from secateur.runs.record.folder import RunFolder
from secateur.runs.report.summary import Summary
from secateur.space.errors import SecateurError
from secateur.space.evaluation import Evaluation
from secateur.space.space import Space
from tests.program import forked
from tests.tiny import tiny_recipe

GAP = """
def gap(model, ids):
    return float(model(ids).logits[0, :-1].float().softmax(-1).pow(2).sum(-1).mean())
"""


def recipe_of(tiny: Path, **changes: Any) -> dict[str, Any]:
    recipe: dict[str, Any] = tiny_recipe(tiny / "model", tiny / "calibration.txt", tiny / "held.txt")
    recipe |= {"genes": [{"kind": "attention"}, {"kind": "mlp"}], "baselines": ["shortgpt", "random"]}
    return recipe | {"strategy": {"name": "exhaustive", "sequences": 2}} | changes


def scored(run: Path) -> tuple[Space, list[Evaluation]]:
    """What was evaluated on the first two calibration sequences."""
    with RunFolder.open(run, writing=False) as folder:
        space = space_of(folder)
        found = [one for _, one in folder.journal.evaluations("calibration")]
    return space, [one for one in found if one.sequences == range(2)]


def test_another_score_within_bounds(tiny: Path, tmp_path: Path) -> None:
    """By cross-entropy, of all that keep a size, the best that keeps a KL: exactly what brute force says."""
    first = secateur.run(recipe_of(tiny, score="cross_entropy", budgets={"sublayers": 6}), tmp_path / "free")
    space, rows = scored(first.path)
    with_kl = secateur.run(
        recipe_of(tiny, score="cross_entropy", budgets={"sublayers": 6, "kl": 1e6}), tmp_path / "loose"
    )
    assert with_kl.summary.rows[0].genome == first.summary.rows[0].genome
    _, rows = scored(with_kl.path)
    feasible = [one for one in rows if space.feasible(one.genome)]
    divergence = {one.genome: sum(one.losses["kl"]) / 2 for one in feasible}
    most = sorted(divergence.values())[2]
    run = secateur.run(
        recipe_of(tiny, score="cross_entropy", budgets={"sublayers": 6, "kl": f"<= {most}"}), tmp_path / "kept"
    )
    summary = run.summary
    kept = [one for one in feasible if divergence[one.genome] <= most]
    assert len(kept) == 3
    best = min(kept, key=lambda one: sum(one.losses["cross_entropy"]))
    assert summary.rows[0].genome == best.genome
    assert len(summary.limits) == 1
    wanted = (
        r"kl <= 0\.\d+: on the calibration text NOT kept by shortgpt \([0-9.]+\) and kept by found .*on held-out held"
    )
    assert re.match(wanted, summary.limits[0])
    assert [row.name for row in summary.rows if row.broken] == ["shortgpt"]
    assert "do not keep the budgets on scores there: shortgpt." in summary.slack
    assert summary.limits[0] in (run.path / "report" / "index.html").read_text().replace("&lt;", "<")
    assert secateur.resume(run.path).summary.verdict == summary.verdict
    with pytest.raises(SecateurError, match=r"nothing it came to keeps kl <= 1e-06 \(the nearest is \d+ %"):
        secateur.run(recipe_of(tiny, score="cross_entropy", budgets={"sublayers": 6, "kl": 1e-6}), tmp_path / "none")
    with pytest.raises(SecateurError, match=r"budgets.kl: 1e-12, but the dense model has .*; write more"):
        secateur.run(recipe_of(tiny, score="cross_entropy", budgets={"sublayers": 6, "kl": 1e-12}), tmp_path / "less")


@pytest.mark.parametrize("strategy", ["exhaustive", "surrogate", "nsga2"])
def test_the_smallest_plan_that_keeps_a_score(tiny: Path, tmp_path: Path, strategy: str) -> None:
    text = {"source": str(tiny / "calibration.txt"), "sequences": 2, "length": 16}
    truth = secateur.run(recipe_of(tiny, budgets={"sublayers": 7}, calibration=text), tmp_path / "all")
    space, rows = scored(truth.path)
    most = sorted(one.loss for one in rows if space.costs(one.genome).sublayers == 6)[1]
    least = min(space.costs(one.genome).block_parameters for one in rows if one.loss <= most)
    effort: dict[str, Any] = {} if strategy == "exhaustive" else {"effort": {"evaluations": 120}}
    recipe = recipe_of(
        tiny,
        objectives=["block_parameters"],
        budgets={"kl": f"<= {most}"},
        strategy={"name": strategy, "sequences": 2},
        calibration=text,
        **effort,
    )
    run = secateur.run(recipe, tmp_path / "run")
    summary = run.summary
    assert isinstance(summary, Summary)
    found = summary.rows[0]
    assert found.costs["block_parameters"] == least
    assert found.scores["calibration"]["kl"].mean <= most
    wanted = r"The smallest plan found that keeps kl <= 0\.\d+ on the calibration text takes 0\.\d{4} of the dense"
    assert re.match(wanted, summary.verdict)
    assert "block_parameters" in (run.path / "report" / "index.html").read_text()
    assert all(row.against is None for row in summary.rows), "sides of other sizes are not compared"
    assert run.export("hf", tmp_path / "smaller").exists()
    assert secateur.resume(run.path).summary.verdict == summary.verdict


def test_it_is_checked_on_all_of_the_text(tiny: Path, tmp_path: Path) -> None:
    """Candidates are compared on two sequences, the answer keeps the score on eight."""
    recipe = recipe_of(
        tiny,
        score="block_parameters",
        budgets={"kl": "<= 0.2"},
        calibration={"source": str(tiny / "calibration.txt"), "sequences": 8, "length": 16},
    )
    run = secateur.run(recipe, tmp_path / "run")
    score = run.summary.rows[0].scores["calibration"]["kl"]
    assert score.sequences == 8
    assert score.mean <= 0.2
    baseline = next(row for row in run.summary.rows if row.name == "shortgpt")
    assert baseline.scores["calibration"]["kl"].mean <= 0.2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"score": "parameters"}, "score: parameters alone is least for the smallest plan; say what has to be kept"),
        ({"budgets": {"kl": 0.5, "sublayers": 6}}, "budgets: kl is what the search minimises"),
        ({"score": "cross_entropy", "budgets": {"kl": 0.5}}, "with scores alone the dense model has the least"),
        ({"score": "parameters", "budgets": {"kl": "2x"}}, "budgets.kl: it is 0 for the dense model"),
        ({"budgets": {"kll": 0.5}}, "budgets: unknown cost 'kll'"),
        (
            {"score": "parameters", "budgets": {"kl": 0.5}, "strategy": {"name": "evopress"}},
            "score: parameters is a cost, and evopress minimises scores; take one of surrogate",
        ),
        (
            {"score": "parameters", "budgets": {"kl": 0.5}, "training": "lora", "strategy": {"name": "surrogate"}},
            "score: parameters is a cost, for which candidates are not trained",
        ),
        ({"score": "kv_bytes", "budgets": {"kl": 0.5}, "genes": ["mlp"]}, "score: kv_bytes is the same for every"),
    ],
)
def test_what_cannot_be_searched_is_refused(tiny: Path, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    import yaml

    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe_of(tiny) | {"budgets": {}} | changes))
    ended = forked("space", path)
    assert ended.returncode == 2
    assert said in " ".join(ended.stderr.split())


def test_a_limit_below_the_dense_model(tiny: Path, tmp_path: Path) -> None:
    """Known once the dense model has been scored."""
    recipe = make_recipe(recipe_of(tiny, score="parameters", budgets={"perplexity": "<= 1.5"}))
    with pytest.raises(SecateurError, match=r"budgets.perplexity: 1.5, but the dense model has \d+\.\d+; write more"):
        secateur.run(recipe.model_dump(mode="json"), tmp_path / "run")


def test_a_search_that_stops_amid_a_race_is_judged_by_the_longest_look(tiny: Path, tmp_path: Path) -> None:
    """Races look at their incumbent on one sequence again; what it keeps on all of them is what counts."""
    recipe = recipe_of(
        tiny,
        score="cross_entropy",
        strategy={"name": "surrogate", "first": 1, "sequences": 4},
        calibration={"source": str(tiny / "calibration.txt"), "sequences": 4, "length": 16},
        baselines=[],
    )
    loose = {"budgets": {"sublayers": 6, "kl": 1e6}, "effort": {"tokens": 4000}}
    free = secateur.run(recipe | loose, tmp_path / "free")
    most = 1.05 * free.summary.rows[0].scores["calibration"]["kl"].mean
    ended = 0
    for number, tokens in enumerate(range(2000, 3600, 160)):
        changed = {"budgets": {"sublayers": 6, "kl": most}, "effort": {"tokens": tokens}}
        try:
            run = secateur.run(recipe | changed, tmp_path / str(number))
        except SecateurError as error:
            assert "nothing it came to keeps" in str(error)
            continue
        ended += 1
        assert run.summary.rows[0].scores["calibration"]["kl"].mean <= most
    assert ended > 5


@pytest.mark.parametrize("strategy", ["greedy", "multipruner", "knapsack"])
def test_what_goes_by_the_loss_alone_is_refused(tiny: Path, tmp_path: Path, strategy: str) -> None:
    recipe = recipe_of(tiny, score="cross_entropy", budgets={"sublayers": 6, "kl": 0.5}, strategy={"name": strategy})
    with pytest.raises(SecateurError, match=rf"{strategy} goes by the loss alone and heeds no budget on a score"):
        secateur.run(recipe, tmp_path / "run")


def test_a_limit_on_a_score_that_held_out_text_is_not_scored_by_otherwise(tiny: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tiny, score="block_parameters", budgets={"hidden_error": "<= 0.9"})
    run = secateur.run(recipe, tmp_path / "run")
    assert "hidden_error" in run.summary.rows[0].scores["held"]
    assert "on held-out held" in run.summary.limits[0]
    assert run.summary.finished

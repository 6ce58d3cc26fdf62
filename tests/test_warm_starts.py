"""Searches that start from others, and efforts that do not reach for the start."""

import re
from pathlib import Path
from typing import Any

import pytest

from secateur.runs.asked.reading import make_recipe
from secateur.runs.problem import build_space
from secateur.search.loop import Allowance, Spending, run
from secateur.search.memo import Memo
from secateur.search.steps import AskTell, Batch, noted
from secateur.space.errors import SecateurError
from secateur.space.evaluation import Evaluation
from tests.tiny import ListJournal, TableEvaluator, steps_of, tiny_recipe


@pytest.mark.parametrize("first", [["greedy"], ["knapsack"], ["knapsack", "greedy"]])
@pytest.mark.parametrize("limit", ["tokens", "evaluations"])
def test_half_of_the_effort_is_left_for_the_search(tiny: Path, first: list[str], limit: str) -> None:
    length = 16
    # Settings of the first do not raise its share.
    warm = {"name": first[0], **({"evaluations": 1000} if first == ["greedy"] else {})}
    effort = {"tokens": 80 * 4 * length} if limit == "tokens" else {"tokens": 10**6, "evaluations": 80}
    changes: dict[str, Any] = {
        "genes": [{"kind": "sparsity", "per": "sublayer", "levels": [round(0.07 * step, 2) for step in range(1, 13)]}],
        "budgets": {"linear_weights": "0.6x"},
        "strategy": {"name": "evopress", "initial": first, "warm": warm},
        "effort": effort,
    }
    recipe = make_recipe(tiny_recipe(tiny / "model", tiny / "calibration.txt", **changes))
    space = build_space(recipe)
    own = Spending(length)

    def note(batch: Batch, _: list[Evaluation]) -> None:
        # The first that knows a best answer is the search itself.
        if batch.incumbent is not None:
            own.add(batch)

    steps = noted(steps_of(recipe), note)
    memo, spending = Memo(space, TableEvaluator(space), ListJournal()), Spending(length)
    allowance = Allowance(tokens=recipe.effort.tokens, evaluations=recipe.effort.evaluations)
    assert run(AskTell(steps), memo, spending, allowance) is not None
    assert len(own.genomes) >= 6


def test_what_half_of_the_effort_does_not_reach_for_is_refused(tiny: Path) -> None:
    strategy = {"name": "evopress", "initial": ["knapsack"]}
    effort = {"tokens": 12 * 4 * 16}  # a sweep takes 9 evaluations on 4 sequences
    recipe = make_recipe(tiny_recipe(tiny / "model", tiny / "calibration.txt", strategy=strategy, effort=effort))
    with pytest.raises(
        SecateurError, match=r"effort: knapsack needs 9 .*knapsack before evopress, with half of the effort"
    ):
        steps_of(recipe)


def test_a_schedule_that_nothing_sizes_is_refused(tiny: Path) -> None:
    strategy = {"name": "evopress"}
    values = tiny_recipe(tiny / "model", tiny / "calibration.txt", strategy=strategy, effort={"evaluations": 90})
    with pytest.raises(SecateurError, match="effort: schedule 'auto' is sized from"):
        steps_of(make_recipe(values))
    assert steps_of(make_recipe(values | {"effort": {"minutes": 1}})), "tokens are known when it begins"


@pytest.mark.parametrize("name", ["knapsack", "greedy"])
def test_tokens_for_not_even_one_evaluation_are_refused_whatever_evaluations_there_are(tiny: Path, name: str) -> None:
    effort = {"tokens": 3 * 16, "evaluations": 1000}  # an evaluation takes 4 sequences
    recipe = make_recipe(tiny_recipe(tiny / "model", tiny / "calibration.txt", strategy={"name": name}, effort=effort))
    with pytest.raises(SecateurError, match=f"effort: {name} needs"):
        steps_of(recipe)


@pytest.mark.parametrize("lazy", [3, 4, 5, 6])
def test_what_a_refusal_asks_for_is_enough(tiny: Path, lazy: int) -> None:
    def steps(effort: dict[str, int]) -> Any:
        strategy = {"name": "surrogate", "lazy": lazy}
        recipe = make_recipe(tiny_recipe(tiny / "model", tiny / "calibration.txt", strategy=strategy, effort=effort))
        return steps_of(recipe)

    with pytest.raises(SecateurError, match="effort: surrogate needs") as refusal:
        steps({"evaluations": 2})
    tokens, evaluations = re.findall(r"[\d,]+(?= evaluations| tokens)", str(refusal.value))
    assert steps({"evaluations": int(evaluations)})
    assert steps({"tokens": int(tokens.replace(",", ""))})

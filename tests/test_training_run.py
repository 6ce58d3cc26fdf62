"""Runs that train their candidates: what is chosen, what is said of it, and what a kill leaves."""

from pathlib import Path
from typing import Any

import pytest

import secateur
from secateur.fitness.training import Trainer
from secateur.runs.asked.reading import make_recipe
from secateur.runs.problem import build_space
from secateur.runs.record.facts import SELECTION
from secateur.runs.record.folder import RunFolder
from secateur.runs.record.journal import CALIBRATION, FOUND
from secateur.runs.workplace import workplace_of
from secateur.search.trained import training_chains
from secateur.space.errors import SecateurError
from secateur.space.losses import Losses
from tests.tiny import tiny_recipe

TRAINING = {
    "what": "lora",
    "rank": 2,
    "learning_rate": 0.01,
    "batch": 2,
    "candidates": 4,
    "sequences": 4,
    "stages": [{"tokens": 32, "survivors": 2}, {"tokens": 64, "survivors": 1}],
}


def recipe_of(tiny: Path, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "training": TRAINING,
        "strategy": {"name": "random", "sequences": 2},
        "effort": {"tokens": 4000},
        **changes,
    }
    return tiny_recipe(tiny / "model", tiny / "calibration.txt", tiny / "held.txt", **values)


def facts(path: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, int]]:
    """What is noted of training, the choices, and how many evaluations there are on each text."""
    with RunFolder.open(path, writing=False) as folder:
        counts: dict[str, int] = {}
        for text, _ in folder.journal.evaluations():
            counts[text] = counts.get(text, 0) + 1
        return dict(folder.journal.of(SELECTION) or {}), dict(folder.journal.choices()), counts


def test_the_best_few_are_trained_and_chosen_among(tiny: Path, tmp_path: Path) -> None:
    run = secateur.run(recipe_of(tiny), tmp_path / "run")
    values, choices, counts = facts(run.path)
    first, second = Losses((32,)).on(CALIBRATION), Losses((32, 64)).on(CALIBRATION)
    assert counts[first] == 4
    assert counts[second] == 2
    assert values["trained"] == 4 * 32 + 2 * 64
    assert [len(one["trained"]) for one in values["candidates"]].count(2) == 2
    finished = [one for one in values["candidates"] if len(one["trained"]) == 2]
    best = min(finished, key=lambda one: one["trained"][-1])
    assert tuple(best["genome"]) == choices[FOUND].genome.levels
    first_stage = sorted(values["candidates"], key=lambda one: one["trained"][0])[:2]
    assert {tuple(one["genome"]) for one in first_stage} == {tuple(one["genome"]) for one in finished}
    assert choices[FOUND].tokens <= 4000
    assert counts[Losses((32, 64)).on("held")] >= 1
    page = (run.path / "report" / "index.html").read_text()
    for words in ("256 trained tokens", "before and after stage 1", "the winner", "found after training, held-out"):
        assert words in page


def test_stages_in_steps_and_with_rates_of_their_own(tiny: Path, tmp_path: Path) -> None:
    """A step is a batch of two sequences of 16 tokens."""
    stages = [{"steps": 1, "survivors": 2}, {"steps": 2, "survivors": 1}]
    one = secateur.run(recipe_of(tiny, training={**TRAINING, "stages": stages}), tmp_path / "steps")
    two = secateur.run(recipe_of(tiny), tmp_path / "tokens")
    assert facts(one.path)[0] == facts(two.path)[0]
    rates = {**TRAINING, "learning_rate": [0.01, 0.001], "optimiser": ["adamw", "sgd"]}
    three = secateur.run(recipe_of(tiny, training=rates), tmp_path / "rates")
    first, other = facts(two.path)[0]["candidates"], facts(three.path)[0]["candidates"]
    assert [row["trained"][0] for row in first] == [row["trained"][0] for row in other]
    assert [row["trained"][1:] for row in first] != [row["trained"][1:] for row in other]


def test_training_may_change_the_winner_and_says_so(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever was best before is spoilt by its training here."""
    whole, spoilt = Trainer.__call__, list[str]()

    def spoil(self: Trainer, genome: Any, chain: Any) -> Any:
        parameters = whole(self, genome, chain)
        spoilt.append(self.space.key(genome))
        if spoilt[0] == self.space.key(genome):
            parameters = {name: 3 * tensor for name, tensor in parameters.items()}
        return parameters

    monkeypatch.setattr(Trainer, "__call__", spoil)
    recipe = recipe_of(tiny, strategy={"name": "random", "sequences": 4})
    run = secateur.run(recipe, tmp_path / "run")
    _, choices, _ = facts(run.path)
    assert choices["untrained"].genome != choices[FOUND].genome
    assert "Training changed the winner" in (run.path / "report" / "index.html").read_text()


@pytest.mark.parametrize("strategy", ["evolution", "random"])
def test_killed_while_training_it_goes_on_with_the_stage_it_was_in(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    recipe = recipe_of(tiny)
    if strategy == "evolution":
        schedule = {"generations": 2, "offspring": 3, "survivors": [2, 1], "tokens": [32, 64], "training": [32, 96]}
        training = {name: TRAINING[name] for name in ("what", "rank", "learning_rate", "batch")}
        recipe |= {"strategy": {"name": "darwin", "schedule": schedule}, "training": training}
        recipe["effort"] = {}
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path / "one"))
    secateur.run(recipe, tmp_path / "whole")
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path / "two"))
    train, left = Trainer._train, [5]

    def interrupted(self: Trainer, *arguments: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return train(self, *arguments)

    monkeypatch.setattr(Trainer, "_train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        secateur.run(recipe, tmp_path / "cut")
    stages: list[int] = []

    def counted(self: Trainer, genome: Any, before: Any, chain: Any) -> Any:
        stages.append(len(chain))
        return train(self, genome, before, chain)

    monkeypatch.setattr(Trainer, "_train", counted)
    secateur.resume(tmp_path / "cut")
    whole, cut = facts(tmp_path / "whole"), facts(tmp_path / "cut")
    assert whole[0] == cut[0]
    assert whole[1][FOUND].genome == cut[1][FOUND].genome
    assert whole[2] == cut[2]
    # The sixth training was cut; what had been trained before is not trained again.
    assert len(stages) == len(list((tmp_path / "one").glob("training/*.safetensors"))) - 5


def test_darwin_trains_in_every_stage(tiny: Path, tmp_path: Path) -> None:
    schedule = {"generations": 3, "offspring": 4, "survivors": [2, 1], "tokens": [32, 64], "training": [32, 96]}
    recipe = recipe_of(tiny, training={"what": "full", "learning_rate": 1e-3}, effort={})
    run = secateur.run(recipe | {"strategy": {"name": "darwin", "schedule": schedule}}, tmp_path / "run")
    values, choices, counts = facts(run.path)
    assert values["chain"] == [32, 64]
    first, second = Losses((32,)).on(CALIBRATION), Losses((32, 64)).on(CALIBRATION)
    assert counts[first] >= 4
    assert counts[second] >= 3
    assert values["candidates"]
    assert choices[FOUND].tokens > 3 * 3 * 4 * 32
    assert "Training of candidates took" in (run.path / "report" / "index.html").read_text()
    # Finished, and resumed: replay comes to the same answer, comparisons and all.
    secateur.resume(run.path)
    assert facts(run.path) == (values, choices, counts)
    again = secateur.run(recipe | {"strategy": {"name": "darwin", "schedule": schedule}}, tmp_path / "again")
    assert facts(again.path)[1][FOUND].genome == choices[FOUND].genome


def test_darwin_starts_from_other_searches_and_races(tiny: Path, tmp_path: Path) -> None:
    schedule = {"generations": 2, "offspring": 4, "survivors": [4, 1], "tokens": [64, 96], "training": [32, 64]}
    strategy: dict[str, Any] = {"name": "darwin", "schedule": schedule, "minibatches": "nested", "race": 0.2}
    strategy |= {"initial": ["knapsack"], "warm": {"name": "knapsack"}}
    recipe = recipe_of(tiny, training={"what": "norms", "learning_rate": 1e-3}, effort={}, strategy=strategy)
    run = secateur.run(recipe, tmp_path / "run")
    values, choices, counts = facts(run.path)
    assert values["chain"] == [32, 32]
    assert counts[CALIBRATION] > 0, "the sweep's"
    first, second = Losses((32,)).on(CALIBRATION), Losses((32, 32)).on(CALIBRATION)
    # In a generation half of four children go on, and the parent, which has been trained but once.
    assert counts[first] >= 5
    assert counts[second] <= 2 * 2 + 1
    secateur.resume(run.path)
    assert facts(run.path) == (values, choices, counts)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"training": {"what": "norms"}, "strategy": {"name": "darwin", "schedule": "published", "race": 0.2}},
            "minibatches: nested",
        ),
        ({"effort": {"tokens": 900}}, "raise 'effort'"),
        ({"training": {**TRAINING, "stages": [{"tokens": 32, "survivors": 2}]}}, "the last one keeps 1"),
        ({"training": {**TRAINING, "sequences": 99}}, "calibration has 6"),
        ({"score": "kl_full"}, "to train, use kl"),
        ({"training": {**TRAINING, "what": "adapters"}}, "lora"),
        (
            {"training": {**TRAINING, "learning_rate": [0.1, -1]}},
            "training.learning_rate.1: must be more than 0.0, not -1",
        ),
        ({"training": {**TRAINING, "learning_rate": [0.1]}}, "1 values for 2 stages"),
        ({"training": {**TRAINING, "stages": [{"survivors": 1}]}}, "'tokens' or 'steps'"),
        ({"training": None, "strategy": {"name": "darwin", "schedule": "published"}}, "darwin trains its candidates"),
        ({"strategy": {"name": "darwin", "schedule": "published"}}, "darwin has its own stages"),
        (
            {
                "training": {"what": "norms"},
                "strategy": {
                    "name": "darwin",
                    "schedule": {"generations": 1, "offspring": 2, "survivors": [1], "tokens": [32], "training": [0]},
                },
            },
            "training",
        ),
        (
            {
                "training": {"what": "norms"},
                "strategy": {
                    "name": "darwin",
                    "schedule": {
                        "generations": 1,
                        "offspring": 2,
                        "survivors": [1, 1],
                        "tokens": [32, 32],
                        "training": [32, 32],
                    },
                },
            },
            "rising numbers",
        ),
        ({"training": {**TRAINING, "learning_rate": float("inf")}}, "finite"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_any_long_work(
    tiny: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SecateurError, match=message):
        secateur.run(recipe_of(tiny, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_totals_of_darwin_are_rounded_to_sequences() -> None:
    assert training_chains((10, 30, 64), 16) == ((16,), (16, 16), (16, 16, 32))
    with pytest.raises(SecateurError, match="by a sequence of 16 or more"):
        training_chains((4, 8), 16)


def test_trainings_that_fail_are_told_of(tiny: Path, tmp_path: Path) -> None:
    spoilt = {"what": "full", "learning_rate": 1e38, "optimiser": "sgd", "batch": 1}
    run = secateur.run(recipe_of(tiny, training={**TRAINING, **spoilt}), tmp_path / "run")
    page = (run.path / "report" / "index.html").read_text()
    assert "In stage 1 training failed for 4" in page
    assert "No candidate came through" in page
    assert "did not change the winner" not in page
    schedule = {"generations": 2, "offspring": 3, "survivors": [2, 1], "tokens": [32, 64], "training": [64, 96]}
    recipe = recipe_of(tiny, training=spoilt, effort={})
    with pytest.raises(SecateurError, match=r"not finite.*mend what fails"):
        secateur.run(recipe | {"strategy": {"name": "darwin", "schedule": schedule}}, tmp_path / "darwin")


def test_training_looks_at_every_position_of_other_documents(tiny: Path) -> None:
    recipe = make_recipe(recipe_of(tiny))
    calibration = recipe.calibration.model_copy(update={"positions": 4})
    text = recipe.model_copy(update={"calibration": calibration}).training_text
    assert text is not None
    assert text.positions is None
    assert text.sequences == 6
    space = build_space(recipe)
    texts = workplace_of(recipe, space).load().texts
    assert not texts["training"].documents & (texts["calibration"].documents | texts["held"].documents)
    plain = workplace_of(recipe.model_copy(update={"training": None}), space).load().texts
    assert {name: text.digest for name, text in plain.items()} == {
        name: text.digest for name, text in texts.items() if name != "training"
    }

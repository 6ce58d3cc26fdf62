"""The answer chosen on text that the search has not seen, by the one-standard-error rule."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import secateur
from secateur.runs.asked.reading import make_recipe
from secateur.runs.record.facts import VALIDATION
from secateur.runs.record.folder import RunFolder
from secateur.search.loop import Allowance, Spending, run
from secateur.search.memo import Memo
from secateur.search.steps import AskTell, Pool
from secateur.search.strategies.exhaustive import exhaustive
from secateur.search.validated import Validated, as_good
from secateur.space.budget import Budget
from secateur.space.errors import SecateurError
from secateur.space.evaluation import Evaluation
from secateur.space.genome import Genome
from secateur.space.space import Space
from tests.tiny import ListJournal, TableEvaluator, drop_space, tiny_recipe

POOL, KEPT = Pool(2, 16), 6


class Lucky(TableEvaluator):
    """One genome is the best by far on the first two sequences, and the worst on all others."""

    lucky: Genome

    def __call__(self, genomes: Sequence[Genome], sequences: range) -> Iterator[Evaluation]:
        for one in super().__call__(genomes, sequences):
            if one.genome == self.lucky:
                yield replace(one, losses={"kl": tuple(0.001 if place < 2 else 50.0 for place in sequences)})
            else:
                yield one


def searched(evaluator: TableEvaluator, validated: Validated) -> Genome | None:
    space = evaluator.space
    steps = validated.steps(exhaustive(space, POOL, 2), Allowance())
    return run(AskTell(steps), Memo(space, evaluator, ListJournal()), Spending(POOL.tokens_per_sequence), Allowance())


def spaced() -> Space:
    space = drop_space(4)
    return space.with_budgets((Budget("block_parameters", space.dense_costs.block_parameters * 7 // 10, "0.7x"),))


def test_who_was_lucky_on_the_text_of_the_search_is_found_out() -> None:
    space = spaced()
    evaluator = Lucky(space, interaction=0.02, noise=0.01)
    feasible = [genome for genome in space.all() if space.feasible(genome)]
    evaluator.lucky = max(feasible, key=evaluator.loss)
    validated = Validated(space, POOL, KEPT, 4)
    answer = searched(evaluator, validated)
    assert validated.searched == evaluator.lucky
    assert answer != evaluator.lucky
    assert [one.sequences for one in validated.told] == [range(2, 8)] * 4
    assert validated.cost() == 4 * KEPT * POOL.tokens_per_sequence


def test_of_those_that_are_as_good_the_cheapest_is_taken() -> None:
    space = drop_space(4)
    evaluator = TableEvaluator(space)
    genomes = [space.dense.with_level(place, 1) for place in range(3)]
    sizes = [space.costs(genome).parameters for genome in genomes]
    rows = {genomes[0]: [1.0, 1.2, 0.9, 1.1], genomes[1]: [1.1, 1.1, 1.0, 1.0], genomes[2]: [2.0, 2.1, 2.0, 2.2]}
    told = [
        replace(next(evaluator([genome], range(4))), losses={"kl": tuple(row)}, status="ok")
        for genome, row in rows.items()
    ]
    assert [one.genome for one in as_good(told)] == genomes[:2]
    validated = Validated(space, POOL, 4, 4)
    validated.told = told
    assert validated.chosen() == min(
        genomes[:2], key=lambda genome: (sizes[genomes.index(genome)], genomes.index(genome))
    )
    difference = np.subtract(rows[genomes[1]], rows[genomes[0]])
    assert difference.mean() <= difference.std(ddof=1) / 2


def recipe_of(tiny: Path, **changes: Any) -> dict[str, Any]:
    recipe: dict[str, Any] = tiny_recipe(tiny / "model", tiny / "calibration.txt", tiny / "held.txt")
    recipe["calibration"] = {"source": str(tiny / "calibration.txt"), "sequences": 8, "length": 16}
    recipe |= {"genes": [{"kind": "attention"}, {"kind": "mlp"}], "budgets": {"sublayers": 6}}
    return (
        recipe | {"strategy": {"name": "random", "sequences": 6}, "baselines": ["greedy"], "validation": 0.25} | changes
    )


def test_a_run_chooses_on_what_the_search_did_not_see(tiny: Path, tmp_path: Path) -> None:
    effort = {"effort": {"tokens": 16 * 6 * 20 + 4 * 2 * 16}}
    run = secateur.run(recipe_of(tiny, **effort), tmp_path / "run")
    with RunFolder.open(run.path, writing=False) as folder:
        noted = folder.journal.known(VALIDATION)
        rows = [one for _, one in folder.journal.evaluations("calibration")]
    finalists = [Genome(tuple(levels)) for levels in noted["finalists"]]
    assert noted["first"] == 6
    assert {one.genome for one in rows if one.sequences.stop > 6} >= set(finalists)
    losses = {one.genome: one.loss for one in rows if one.sequences == range(6, 8)}
    assert run.summary.rows[0].genome in [Genome(tuple(levels)) for levels in noted["good"]]
    assert min(losses[genome] for genome in finalists) in [losses[Genome(tuple(levels))] for levels in noted["good"]]
    assert run.summary.validation.startswith("Overfitting: KL 0.")
    assert "on 2 that were kept from the search" in run.summary.validation
    assert "Overfitting: KL" in (run.path / "report" / "index.html").read_text()
    again = secateur.resume(run.path)
    assert (again.summary.verdict, again.summary.validation) == (run.summary.verdict, run.summary.validation)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"validation": 0.1}, "validation: 0.1 of 8 sequences are too few; raise calibration.sequences"),
        ({"validation": 0.9}, "validation.share"),
        ({"validation": {"share": 0.25, "finalists": 1}}, "validation.finalists"),
        ({"objectives": ["kl", "parameters"], "budgets": {}}, "validation: is for the answer of a search for one plan"),
        ({"training": "lora"}, "leave it or training out"),
        ({"score": "parameters", "budgets": {"kl": 0.3}}, "validation: the smallest plan is chosen on all"),
        ({"effort": {"tokens": 100}}, "of which validating 4 finalists takes 128"),
    ],
)
def test_what_cannot_be_validated_is_refused(tiny: Path, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SecateurError) as caught:
        secateur.run(recipe_of(tiny, **{"effort": {"evaluations": 20}, **changes}), tmp_path / "run")
    assert said in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_recipe_without_it_has_the_name_it_had(tiny: Path) -> None:
    recipe = recipe_of(tiny, effort={"evaluations": 20})
    del recipe["validation"]
    assert make_recipe(recipe).digest() == make_recipe(recipe | {"validation": None, "prepare": None}).digest()


def test_overfitting_of_another_score(tiny: Path, tmp_path: Path) -> None:
    """By the score that was searched by, whatever held-out text is judged by."""
    recipe = recipe_of(tiny, effort={"evaluations": 20}, score="hidden_error", baselines=[])
    run = secateur.run(recipe, tmp_path / "run")
    assert run.summary.validation.startswith("Overfitting: hidden_error 0.")

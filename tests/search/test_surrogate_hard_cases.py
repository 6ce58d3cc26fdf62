"""Our own strategy where losses tie, candidates fail, and pruning helps."""

import numpy as np
import pytest

from secateur.operators.sampling import on_budget
from secateur.search.archive import Archive, Goal
from secateur.search.model.known import Known
from secateur.search.model.options import Options
from secateur.search.steps import noted
from secateur.search.strategies.surrogate import surrogate, surrogate_front
from secateur.space.genome import Genome
from secateur.space.objective import parse_objectives
from tests.search.quadratic import POOL, Breaking, Quadratic, answered, masks


def test_a_target_where_everything_fails_takes_nothing_from_the_others() -> None:
    space = masks(12, 0).with_budgets(())
    goal = Goal(parse_objectives(("kl", "sublayers")), 4)
    limits = [("sublayers", 2 * (12 - dropped)) for dropped in (2, 4, 8)]
    evaluator, archive = Breaking(space, 0, lambda genome, _: sum(genome.levels) >= 8), Archive(goal)
    steps = surrogate_front(space, goal, POOL, 0, limits, Options(sequences=4, first=4))
    noting = noted(steps, lambda batch, told: archive.add(told, space.dense))
    _, spending = answered(space, noting, evaluator, 2000)
    assert spending.evaluations < 600, "it ends"
    for dropped in (2, 4):
        best = min((g for g in space.all() if sum(g.levels) == dropped), key=evaluator.loss)
        assert best in archive.members


@pytest.mark.parametrize("sweeping", [True, False])
def test_where_all_but_the_dense_model_fail_it_is_the_answer(sweeping: bool) -> None:
    space = masks(12, 0)
    evaluator = Breaking(space, 0, lambda genome, _: genome != space.dense)
    answer, spending = answered(space, surrogate(space, POOL, 0, [space], Options(sweeping=sweeping)), evaluator, 2000)
    assert answer == space.dense
    assert spending.evaluations < 2000, "it ends"


@pytest.mark.parametrize("seed", range(3))
def test_who_fails_on_more_text_is_not_the_answer(seed: int) -> None:
    space = masks()
    best = min(filter(space.feasible, space.all()), key=Quadratic(space, seed).loss)
    removed = [index for index, level in enumerate(best.levels) if level][:2]
    evaluator = Breaking(
        space, seed, lambda genome, used: used.stop > 8 and any(genome.levels[i] for i in removed), 0.4
    )
    failed: set[Genome] = set()
    steps = noted(
        surrogate(space, POOL, seed, [space], Options(sequences=8)),
        lambda _, told: failed.update(one.genome for one in told if one.status == "failed"),
    )
    answer, _ = answered(space, steps, evaluator)
    assert failed
    assert answer is not None
    assert answer not in failed


@pytest.mark.parametrize("seed", range(3))
def test_where_everything_fails_on_more_text_there_is_no_answer(seed: int) -> None:
    space = masks()
    evaluator = Breaking(space, seed, lambda genome, used: used.stop > 8 and genome != space.dense, 0.4)
    answer, _ = answered(space, surrogate(space, POOL, seed, [space], Options(sequences=8)), evaluator, 2000)
    assert answer is None


@pytest.mark.parametrize("seed", range(3))
def test_the_dense_model_takes_the_place_of_who_fails_on_more_text(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    space = masks(12, 0)
    evaluator = Breaking(space, seed, lambda genome, used: used.stop > 8 and genome != space.dense, 0.4)
    # Every single drop is better than the dense model, as far as it can be scored.
    monkeypatch.setattr(evaluator, "loss", Helping(space, seed).loss)
    answer, _ = answered(space, surrogate(space, POOL, seed, [space], Options(sequences=8)), evaluator, 2000)
    assert answer == space.dense


def test_where_all_are_equal_it_ends() -> None:
    class Flat(Quadratic):
        def loss(self, genome: Genome) -> float:
            return 1.0

    space = masks()
    steps = surrogate(space, POOL, 0, [space], Options(sequences=4, first=4))
    answer, spending = answered(space, steps, Flat(space, 0), 2000)
    assert answer is not None
    assert spending.evaluations < 300, "of 792 that keep the budget"


class Helping(Quadratic):
    """Removing some blocks is better than the dense model."""

    def loss(self, genome: Genome) -> float:
        return 3.0 + super().loss(genome) - 0.5 * sum(genome.levels[::2])


@pytest.mark.parametrize("seed", range(3))
def test_where_pruning_helps_it_finds_what_helps_most(seed: int) -> None:
    space = masks(12, 3)
    evaluator = Helping(space, seed)
    answer, _ = answered(space, surrogate(space, POOL, seed, [space], Options(sequences=4, first=4)), evaluator, 300)
    assert answer is not None
    losses = sorted(map(evaluator.loss, filter(space.feasible, space.all())))
    assert evaluator.loss(answer) <= losses[len(losses) // 100]


def test_who_loses_less_than_nothing_is_a_lesson() -> None:
    space = masks(12, 3)
    evaluator = Helping(space, 0)
    rng = np.random.default_rng(0)
    known = Known()
    genomes = sorted({on_budget(space, rng) for _ in range(60)}, key=evaluator.loss)
    known.add(list(evaluator([space.dense, *genomes], range(4))))
    assert evaluator.loss(genomes[0]) < evaluator.loss(space.dense) < evaluator.loss(genomes[-1])
    fitted, losses, _ = known.rows(space.dense, [genomes[0]])
    assert set(fitted) == set(genomes)
    assert min(losses) < 0 < max(losses)

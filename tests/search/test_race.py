"""Races against an incumbent and against a front: the promised risk, who goes on, and what it costs."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.operators.sampling import on_budget
from secateur.search.archive import Archive, Goal
from secateur.search.loop import Allowance, Charge, Spending, run
from secateur.search.memo import Memo
from secateur.search.race import Outcome, looks, race, race_front, spent, worse
from secateur.search.steps import AskTell, Batch, Steps
from secateur.search.strategies.darwin import darwin
from secateur.search.strategies.evopress import Schedule
from secateur.space.evaluation import Evaluation
from secateur.space.genome import Genome
from secateur.space.objective import parse_objectives
from tests.search.quadratic import POOL, Quadratic, masks
from tests.tiny import ListJournal, TableEvaluator, drop_space


def test_looks_double_up_to_the_last() -> None:
    assert looks(2, 16) == (2, 4, 8, 16)
    assert looks(3, 10) == (3, 6, 10)
    assert looks(5, 5) == looks(9, 5) == (5,)


@given(st.floats(0.01, 0.9), st.integers(1, 60))
def test_all_looks_together_spend_less_than_the_risk(risk: float, count: int) -> None:
    assert sum(spent(risk, look) for look in range(1, count + 1)) < risk


@pytest.mark.parametrize("risk", [0.05, 0.2])
def test_an_equal_challenger_is_dropped_as_seldom_as_promised(risk: float) -> None:
    """4,000 races of normal differences without a difference, stopped by the test at any look."""
    rng, dropped, races = np.random.default_rng(0), 0, 4000
    for _ in range(races):
        difference = rng.normal(0.0, 1.0, 64)
        zeros = np.zeros(64)
        dropped += any(
            worse(difference[:count].tolist(), zeros[:count].tolist(), spent(risk, look))
            for look, count in enumerate(looks(4, 64), 1)
        )
    assert dropped / races < risk + 3 * math.sqrt(risk / races)
    assert dropped / races > risk / 3, "a test that never drops anybody keeps every promise"


def test_who_is_clearly_worse_costs_one_look_and_the_incumbent_nothing() -> None:
    space = masks()
    evaluator = Quadratic(space, 0, 0.05)
    memo = Memo(space, evaluator, ListJournal())
    ranked = sorted({on_budget(space, np.random.default_rng(seed)) for seed in range(40)}, key=evaluator.loss)
    best, bad = ranked[0], ranked[-4:]
    memo(Batch((best,), range(16)))
    evaluator.calls = 0
    strategy = AskTell(_race(bad, best))
    while (batch := strategy.ask()) is not None:
        strategy.tell(memo(batch))
    assert strategy.incumbent == best
    assert evaluator.calls <= 4 * 4, "dropped at the first look but for chance, and the incumbent was known"


def _race(challengers: Sequence[Genome], incumbent: Genome) -> Steps:
    won = yield from race(challengers, incumbent, (4, 8, 16), 0.2, answer=incumbent)
    return won.genome if won else None


def test_a_race_finds_the_better_one_and_halves_the_field() -> None:
    space = masks()
    evaluator = Quadratic(space, 1, 0.05)
    memo = Memo(space, evaluator, ListJournal())
    ranked = sorted({on_budget(space, np.random.default_rng(seed)) for seed in range(40)}, key=evaluator.loss)
    strategy, sizes = AskTell(_race(ranked[:8], ranked[20])), []
    while (batch := strategy.ask()) is not None:
        sizes.append(len(batch.genomes) - 1)
        strategy.tell(memo(batch))
    assert strategy.incumbent in ranked[:2]
    assert sizes[0] == 8
    assert all(size <= 8 / 2**look for look, size in enumerate(sizes))


def test_of_equals_the_incumbent_wins() -> None:
    space = drop_space(3)
    evaluator = TableEvaluator(space)
    genomes = [space.dense.with_level(index, 1) for index in range(4)]
    same = [replace(one, losses={"kl": (1.0,) * 16}) for one in evaluator(genomes, range(16))]
    memo = Memo(space, evaluator, ListJournal(same))
    strategy = AskTell(_race(genomes[:3], genomes[3]))
    while (batch := strategy.ask()) is not None:
        strategy.tell(memo(batch))
    assert strategy.incumbent == genomes[3]


def test_a_race_over_equal_stages_goes_through_all_of_them() -> None:
    """Stages of 200 and 256 tokens are both one sequence of 256; the second is trained further."""
    space = masks()
    evaluator = Quadratic(space, 0)
    memo = Memo(space, evaluator, ListJournal(), lambda _: evaluator)
    chains, schedule = ((32,), (32, 64)), Schedule(generations=2, offspring=8, survivors=(4, 1), tokens=(16, 16))
    strategy = AskTell(darwin(space, POOL, 0, schedule, chains, fresh=False, risk=0.2))
    asked = []
    while (batch := strategy.ask()) is not None:
        asked.append(batch.trained)
        strategy.tell(memo(batch))
    assert asked == [*chains, *chains]


def _trainings(spending: Spending) -> set[tuple[Genome, tuple[int, ...]]]:
    """Who has been trained in which stages."""
    return {(genome, chain) for genome, chain in map(_trained, spending.paid) if chain is not None}


def _trained(paid: tuple[Genome, Charge]) -> tuple[Genome, tuple[int, ...] | None]:
    """Who, and in which stages; None where a sequence was paid for."""
    genome, (_, charge) = paid
    assert isinstance(charge, tuple)
    return genome, charge[1] if charge[0] == "trained" else None


def test_in_a_race_of_darwin_who_has_lost_is_not_trained_further() -> None:
    space = masks()
    evaluator = Quadratic(space, 2, 0.05)
    memo = Memo(space, evaluator, ListJournal(), lambda _: evaluator)
    schedule = Schedule(
        generations=6, offspring=8, survivors=(4, 1), tokens=(4 * 16, 16 * 16)
    )  # half go on, as in a race
    chains = ((32,), (32, 64))
    results, free = {}, 0
    for risk in (None, 0.2):
        strategy = AskTell(darwin(space, POOL, 0, schedule, chains, "costs", fresh=False, risk=risk))
        spending, answer = Spending(POOL.tokens_per_sequence), None
        while (batch := strategy.ask()) is not None:
            parent = batch.genomes[-1] if batch.trained and _trainings(spending) else None
            if risk is not None and answer is not None and parent == answer:
                new = spending.new(replace(batch, genomes=(parent,)))
                assert not any(chain is not None for _, chain in map(_trained, new))
                free += 1
            spending.add(batch)
            told = memo(batch)
            strategy.tell(told)
            answer = strategy.incumbent
        assert answer is not None
        results[risk] = (sum(chain == chains[1] for _, chain in _trainings(spending)), evaluator.loss(answer))
    assert free >= 8
    assert results[0.2][0] < 0.75 * results[None][0], "by the test, beyond the half that a stage leaves"
    assert results[0.2][1] <= results[None][1] * 1.1


# -- against a front --------------------------------------------------------------------------------------------------


def _raced(challengers: list[Genome], front: list[Evaluation], goal: Goal, memo: Memo) -> list[Outcome]:
    found: list[Outcome] = []

    def steps() -> Steps:
        found.extend((yield from race_front(challengers, front, goal, 0.2)))
        return None

    run(AskTell(steps()), memo, Spending(16), Allowance())
    return found


def test_a_race_against_a_front_drops_what_is_dominated_and_nothing_else() -> None:
    space, goal = drop_space(3), Goal(parse_objectives(("kl", "parameters")), 16)
    evaluator = TableEvaluator(space, 0.05, noise=0.02)
    everything = list(evaluator(list(space.all()), range(16)))
    archive = Archive(goal)
    archive.add(everything, space.dense)
    scored = {one.genome: one for one in everything}
    front = [scored[genome] for genome in archive.front()]
    challengers = [genome for genome in space.all() if genome not in archive.front()]
    evaluator.calls.clear()
    broken = TableEvaluator(space, 0.05, noise=0.02, broken=frozenset(challengers[:1]))
    outcomes = _raced([*challengers, challengers[-1]], front, goal, Memo(space, broken, ListJournal()))
    assert [one.evaluation.genome for one in outcomes] == [*challengers, challengers[-1]]
    assert outcomes[0].point == ()
    short = [one for one in outcomes if len(one.evaluation.primary) == 4]
    assert len(short) > 0.8 * len(outcomes), "all are dominated, and the noise is small"
    assert len(broken.calls) < 0.5 * 16 * len(challengers)
    for one in outcomes[1:]:
        true = goal.point(scored[one.evaluation.genome])
        assert one.point[1] == true[1]
        assert one.point[0] == pytest.approx(true[0], abs=0.1)
        assert any(all(a <= b for a, b in zip(goal.point(rival), one.point, strict=True)) for rival in front)
    # Without the front nobody is dominated.
    alone = _raced(challengers[1:], [], goal, Memo(space, evaluator, ListJournal()))
    assert [one.evaluation.sequences for one in alone] == [range(16)] * len(alone)


def test_an_undominated_child_is_dropped_as_seldom_as_promised() -> None:
    """Races of a child against a rival of the same size and true loss, with normal differences."""
    space, goal = drop_space(1), Goal(parse_objectives(("kl", "parameters")), 64)
    first, second = space.smallest, space.dense
    costs, dropped, races = space.costs(first), 0, 600
    rng = np.random.default_rng(0)
    for _ in range(races):
        rows = rng.normal(1.0, 0.3, (2, 64)).tolist()
        rival, child = (
            Evaluation(genome, "", range(64), {"kl": tuple(row)}, costs)
            for genome, row in zip((first, second), rows, strict=True)
        )
        steps = race_front([child.genome], [rival], goal, 0.2)
        try:
            batch = next(steps)
            while True:
                part = child.losses["kl"][: len(batch.sequences)]
                batch = steps.send([replace(child, sequences=batch.sequences, losses={"kl": part})])
        except StopIteration as end:
            dropped += end.value[0].evaluation.sequences != range(64)
    assert 0.05 < dropped / races < 0.2 + 3 * (0.2 / races) ** 0.5

"""What is answered where candidates fail: later than at first, on some text only, or in training."""

from dataclasses import replace
from typing import Any

import pytest

from secateur.search.loop import Allowance, Spending, run
from secateur.search.memo import Memo
from secateur.search.model.options import Options
from secateur.search.steps import AskTell, Batch, Steps
from secateur.search.strategies.evopress import Schedule, evopress
from secateur.search.strategies.greedy import greedy
from secateur.search.strategies.surrogate import surrogate
from secateur.search.trained import Stage, TrainedSelection
from secateur.space.evaluation import Evaluation
from secateur.space.genome import Genome
from secateur.space.slopes import SLOPES, Slopes
from tests.search.quadratic import POOL, Breaking, Quadratic, masks
from tests.tiny import ListJournal, each


def asked(*batches: Batch, answer: Genome | None = None) -> Steps:
    for batch in batches:  # noqa: UP028 (a tuple cannot be sent anything)
        yield batch
    return answer


@pytest.mark.parametrize("stages", [1, 2])
def test_trainings_that_fail_leave_the_answer_of_the_search(stages: int) -> None:
    space = masks()
    evaluator = Quadratic(space, 0)

    def trained(question: Any) -> Breaking:
        return Breaking(space, 0, lambda _, __: len(question.trained) >= stages)

    selection = TrainedSelection(space, POOL, 4, [Stage(32, 2), Stage(32, 1)], 4)
    strategy = AskTell(selection.steps(greedy(space, POOL, 0, 4, 4), Allowance()))
    answer = run(strategy, Memo(space, evaluator, ListJournal(), trained), Spending(16))
    assert answer is not None
    assert selection.failed == {1: [4], 2: [0, 2]}[stages]


def test_an_answer_that_fails_before_it_is_trained_is_not_selected() -> None:
    """The search is cut where its best genome has been scored on less text than it fails on."""
    space = masks()
    first, second = sorted(filter(space.feasible, space.all()), key=Quadratic(space, 0).loss)[:2]
    evaluator = Breaking(space, 0, lambda genome, used: genome == first and used.stop > 4)
    search = asked(Batch((first, second), range(4)), answer=first)
    selection = TrainedSelection(space, POOL, 2, [Stage(32, 1)], 8)
    nothing = Breaking(space, 0, lambda _, __: True)  # trainings fail
    memo = Memo(space, evaluator, ListJournal(), lambda _: nothing)
    assert run(AskTell(selection.steps(search, Allowance())), memo, Spending(16)) == second
    # Nothing is left to be trained.
    nobody = Breaking(space, 0, lambda _, used: used.stop > 4, 0.4)
    selection = TrainedSelection(space, POOL, 2, [Stage(32, 1)], 8)
    search = asked(Batch((first, second), range(4)), answer=first)
    assert run(AskTell(selection.steps(search, Allowance())), Memo(space, nobody, ListJournal()), Spending(16)) is None


def test_who_has_failed_on_other_text_may_be_the_answer() -> None:
    space = masks()
    first, second = sorted(filter(space.feasible, space.all()), key=Quadratic(space, 0).loss)[:2]
    evaluator = Breaking(space, 0, lambda genome, used: genome == first and used.start == 0)
    memo = Memo(space, evaluator, ListJournal())
    early, late = Batch((first, second), range(2), first), Batch((first,), range(2, 4), second)
    assert run(AskTell(asked(early, answer=first)), memo, Spending(16)) is None
    assert run(AskTell(asked(early, late, answer=first)), memo, Spending(16)) == first
    # Where the answer has failed, the one before it stands.
    assert run(AskTell(asked(replace(late, incumbent=second), early, answer=first)), memo, Spending(16)) == second


@pytest.mark.parametrize("seed", range(3))
def test_on_fresh_text_the_winner_of_the_last_stage_is_the_answer(seed: int) -> None:
    space, rows = masks(), list[Evaluation]()
    # Every third genome fails on every third sequence.
    broken = Breaking(
        space, seed, lambda genome, used: any((index + sum(genome.levels[::2])) % 3 == 0 for index in used)
    )
    memo = Memo(space, broken, ListJournal())
    strategy = AskTell(
        evopress(space, POOL, seed, Schedule(generations=12, offspring=8, survivors=(1,), tokens=(16,), first=4))
    )
    while (batch := strategy.ask()) is not None:
        rows = memo(batch)
        strategy.tell(rows)
    winner = min((one for one in rows if one.status == "ok"), key=lambda one: one.loss, default=None)
    assert winner is not None
    assert strategy.incumbent == winner.genome


@pytest.mark.parametrize("tokens", range(5000, 7000, 250))
def test_a_search_cut_just_after_its_answer_failed_has_another(tokens: int) -> None:
    space = masks()
    best = min(filter(space.feasible, space.all()), key=Quadratic(space, 0).loss)
    removed = [index for index, level in enumerate(best.levels) if level][:2]
    evaluator = Breaking(space, 0, lambda genome, used: used.stop > 8 and any(genome.levels[i] for i in removed), 0.4)
    strategy = AskTell(surrogate(space, POOL, 0, [space], Options(sequences=8)))
    answer = run(strategy, Memo(space, evaluator, ListJournal()), Spending(16), Allowance(tokens=tokens))
    assert answer is not None
    assert space.feasible(answer)


def test_nobody_asks_for_the_slopes_of_what_has_failed() -> None:
    space = masks()

    def slopes(*_: object) -> Slopes:
        raise AssertionError("asked for")

    memo = Memo(space, Breaking(space, 0, lambda _, __: True), ListJournal(), lambda _: each(slopes))
    [told] = memo(Batch((space.dense,), range(2), also=(SLOPES,)))
    assert told.status == "failed"
    assert not told.also

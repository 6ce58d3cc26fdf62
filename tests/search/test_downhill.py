"""Downhill by slopes: where they are exact, where they mislead, and what is kept of them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import secateur
from secateur.fitness.slopes import SubnetSlopes
from secateur.operators.sampling import on_budget
from secateur.runs.record.folder import RunFolder
from secateur.runs.record.journal import CALIBRATION, FOUND, Journal
from secateur.search.loop import Allowance, Spending, run
from secateur.search.memo import Asker, Memo
from secateur.search.model.downhill import REACHES, downhill
from secateur.search.model.knapsack import solve
from secateur.search.model.options import Options
from secateur.search.model.search import Search
from secateur.search.steps import AskTell, Batch, Pool, noted
from secateur.search.sweep import Table
from secateur.space.budget import Budget
from secateur.space.evaluation import Evaluation
from secateur.space.genome import Genome
from secateur.space.slopes import PASSES, SLOPES, Slopes
from secateur.space.space import Space
from secateur.space.treatments import Sparsity
from tests.genes import sparsity_genes, structured_genes
from tests.tiny import ListJournal, TableEvaluator, anatomy_for, each, tiny_recipe

SHAPE = anatomy_for(num_hidden_layers=6)
LEVELS = tuple(Sparsity.parse(round(0.1 * step, 1)) for step in range(1, 10))
FREE = Space(SHAPE, sparsity_genes(SHAPE, LEVELS, range(6), "sublayer"))
SPACE = FREE.with_budgets((Budget("linear_weights", FREE.dense_costs.linear_weights // 2, "0.5x"),))
POOL = Pool(16, 16)
START = on_budget(SPACE, np.random.default_rng(0))


class Convex(TableEvaluator):
    """Each gene's loss grows with the square of its level, so that no step of few levels can hide a better one."""

    def loss(self, genome: Genome) -> float:
        weights = np.random.default_rng(self.seed).lognormal(0.0, 1.0, len(genome.levels))
        return float((weights * np.square(genome.levels)).sum()) / 1000


class Exact:
    """Slopes of an additive table: what scoring every single change would say; `wrong`: the opposite."""

    def __init__(self, evaluator: TableEvaluator, wrong: bool = False) -> None:
        self.evaluator, self.sign, self.asked = evaluator, -1.0 if wrong else 1.0, list[tuple[Genome, range]]()

    def __call__(self, genome: Genome, sequences: range) -> Slopes:
        self.asked.append((genome, sequences))
        base, space = self.evaluator.loss(genome), self.evaluator.space
        first = tuple(
            tuple(
                self.sign * (self.evaluator.loss(genome.with_level(index, level)) - base)
                if abs(level - own) <= 4
                else math.nan
                for level in range(len(gene.levels))
            )
            for index, (gene, own) in enumerate(zip(space.genes, genome.levels, strict=True))
        )
        second = tuple(tuple(0.0 * value for value in row) for row in first)
        return Slopes(genome, space.key(genome), sequences, first, second, "", len(sequences) * PASSES)


@settings(max_examples=10)
@given(st.integers(0, 10_000))
def test_steps_keep_the_budgets_and_their_reach(seed: int) -> None:
    start = on_budget(SPACE, np.random.default_rng(seed))
    found = downhill(SPACE, Exact(TableEvaluator(FREE, seed=seed))(start, range(2)))
    assert start not in found
    assert len(set(found)) == len(found)
    for genome in found:
        assert SPACE.feasible(genome)
        assert max(abs(a - b) for a, b in zip(genome.levels, start.levels, strict=True)) <= max(REACHES)


def test_what_has_no_slopes_stays() -> None:
    start = START
    slopes = Exact(TableEvaluator(FREE))(start, range(2))
    unknown = tuple(0.0 if level == start.levels[0] else math.nan for level in range(len(LEVELS) + 1))
    changed = Slopes(start, slopes.key, range(2), (unknown, *slopes.first[1:]), (unknown, *slopes.second[1:]))
    found = downhill(SPACE, changed)
    assert found
    assert all(genome.levels[0] == start.levels[0] for genome in found)
    assert downhill(SPACE, Slopes(start, slopes.key, range(2), (), (), "out of memory")) == []


def test_what_slopes_do_not_tell_of_a_table_does() -> None:
    """Cuts are told of, what brings something back is not; with the table's prices it can be paid for."""
    exact = Exact(TableEvaluator(FREE))(START, range(2))
    below = [
        tuple(math.nan if level < own else value for level, value in enumerate(row))
        for own, row in zip(START.levels, exact.first, strict=True)
    ]
    told = replace(exact, first=tuple(below), second=tuple(tuple(0.0 * value for value in row) for row in below))
    assert downhill(SPACE, told) == []
    evaluator = TableEvaluator(FREE)
    dense = evaluator.loss(FREE.dense)
    table = [
        [evaluator.loss(FREE.dense.with_level(index, level)) - dense for level in range(len(gene.levels))]
        for index, gene in enumerate(FREE.genes)
    ]
    assert downhill(SPACE, told, table) == downhill(SPACE, exact, table)
    assert downhill(SPACE, exact, table)


@pytest.mark.parametrize("own", [1, 3, 9])
def test_what_a_drop_silences_neither_costs_nor_pays(own: int) -> None:
    """An MLP that is worth nothing is dropped, however many zeros it has, and one that is worth much is not, though its
    zeros would be gone."""
    genes = (*structured_genes(SHAPE, "mlp", range(6)), *sparsity_genes(SHAPE, LEVELS, range(6), "sublayer"))
    free = Space(SHAPE, genes)
    levels = [0 if gene.kind.name == "mlp" else own for gene in genes]
    start = free.canonical(Genome(tuple(levels)))
    space = free.with_budgets((Budget("linear_weights", free.costs(start).linear_weights, "as it is"),))

    def around(worth: float) -> Slopes:
        rows = [
            tuple(
                (worth if level else 0.0)
                if gene.kind.name == "mlp"
                else 0.1 * (level - at)
                if abs(level - at) <= 4
                else math.nan
                for level in range(len(gene.levels))
            )
            for gene, at in zip(genes, start.levels, strict=True)
        ]
        none = tuple(tuple(0.0 * value for value in row) for row in rows)
        return Slopes(start, space.key(start), range(2), tuple(rows), none)

    drops = [index for index, gene in enumerate(genes) if gene.kind.name == "mlp"]
    assert any(genome.levels[index] for genome in downhill(space, around(1e-4)) for index in drops)
    assert not any(genome.levels[index] for genome in downhill(space, around(1e3)) for index in drops)


@pytest.mark.parametrize("seed", range(5))
def test_a_convex_additive_loss_is_solved_from_anywhere_in_a_few_steps(seed: int) -> None:
    """The optimum is the knapsack's on the true table; nothing but slopes leads there."""
    evaluator = Convex(FREE, seed=seed, noise=1e-9)
    dense = evaluator.loss(FREE.dense)
    rows = [
        tuple(evaluator.loss(FREE.dense.with_level(index, level)) - dense for level in range(len(gene.levels)))
        for index, gene in enumerate(FREE.genes)
    ]
    best = evaluator.loss(solve(SPACE, Table(dense, tuple(rows))))
    exact = Exact(evaluator)
    options = Options(slopes=True, modelling=False, sweeping=False, growing=False)
    search = Search(FREE, POOL, seed, [SPACE], options)
    memo = Memo(FREE, evaluator, ListJournal(), lambda _: each(exact))
    spending = Spending(POOL.tokens_per_sequence)
    strategy = AskTell(search.begin([START]))
    run(strategy, memo, spending, Allowance())
    assert search.incumbents[0] is not None
    assert evaluator.loss(search.incumbents[0]) == pytest.approx(best)
    assert spending.evaluations <= 80
    asked = {(genome, index) for genome, used in exact.asked for index in used}
    assert spending.tokens == 16 * (len(spending.paid) - len(asked) + PASSES * len(asked))


def test_slopes_that_mislead_make_nothing_worse() -> None:
    evaluator = TableEvaluator(FREE, seed=3)
    search = Search(FREE, POOL, 0, [SPACE], Options(slopes=True, sweeping=False, growing=False))
    memo = Memo(FREE, evaluator, ListJournal(), lambda _: each(Exact(evaluator, wrong=True)))
    run(AskTell(search.begin([START])), memo, Spending(16), Allowance())
    assert search.incumbents[0] is not None
    assert evaluator.loss(search.incumbents[0]) <= evaluator.loss(START)


def test_slopes_that_always_promise_something_come_to_an_end() -> None:
    """All losses are equal: nothing is better than where it stands."""

    class Flat(TableEvaluator):
        def loss(self, genome: Genome) -> float:
            return 1.0

    def promising(genome: Genome, sequences: range) -> Slopes:
        rows = tuple(
            tuple(float(-abs(level - own)) for level in range(len(gene.levels)))
            for gene, own in zip(FREE.genes, genome.levels, strict=True)
        )
        none = tuple(tuple(0.0 for _ in row) for row in rows)
        return Slopes(genome, FREE.key(genome), sequences, rows, none, "", len(sequences) * PASSES)

    search = Search(FREE, POOL, 0, [SPACE], Options(slopes=True, sweeping=False, growing=False))
    memo = Memo(FREE, Flat(FREE), ListJournal(), lambda _: each(promising))
    strategy, batches = AskTell(search.begin([START])), 0
    while (batch := strategy.ask()) is not None and batches < 100:
        strategy.tell(memo(batch))
        batches += 1
    assert batches < 100


class Fragile(Convex):
    """Some genomes fail on more than 8 sequences."""

    fragile: frozenset[Genome] = frozenset()

    def __call__(self, genomes: Sequence[Genome], sequences: range) -> Iterator[Evaluation]:
        for one in super().__call__(genomes, sequences):
            failed = one.genome in self.fragile and sequences.stop > 8
            yield replace(one, status="failed", reason="fragile", losses={}) if failed else one


def _exact(evaluator: TableEvaluator, _: Any) -> Asker[Slopes]:
    return each(Exact(evaluator))


def test_who_fails_where_its_slopes_are_asked_for_is_not_the_answer() -> None:
    fragile: set[Genome] = set()
    failed: set[Genome] = set()
    for times in range(4):
        failed.clear()
        evaluator = Fragile(FREE, seed=1, noise=1e-9)
        evaluator.fragile = frozenset(fragile)
        search = Search(FREE, POOL, 0, [SPACE], Options(slopes=True, sweeping=False, modelling=False, settled=16))
        memo = Memo(FREE, evaluator, ListJournal(), partial(_exact, evaluator))
        steps = noted(
            search.begin([START]),
            lambda _, told: failed.update(one.genome for one in told if one.status == "failed"),
        )
        run(AskTell(steps), memo, Spending(16), Allowance())
        [answer] = search.incumbents
        assert answer is not None
        assert answer not in failed
        assert len(failed) >= bool(times), "the best of before is tried"
        fragile.add(answer)


def test_a_memo_asks_for_the_slopes_it_lacks() -> None:
    evaluator = TableEvaluator(FREE)
    exact, kept = Exact(evaluator), ListJournal()
    genome = START
    memo = Memo(FREE, evaluator, kept, lambda _: each(exact))
    for stop in (4, 8, 4, 8):
        [told] = memo(Batch((genome,), range(stop), also=(SLOPES,)))
        assert told.answer(SLOPES).sequences == range(stop)
        assert told.primary
    assert [used for _, used in exact.asked] == [range(4), range(4, 8)]
    again = Exact(evaluator)
    [told] = Memo(FREE, evaluator, kept, lambda _: each(again))(Batch((genome,), range(8), also=(SLOPES,)))
    assert told.answer(SLOPES).tokens == 8 * PASSES
    assert again.asked == []


def test_a_journal_gives_slopes_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite")
    slopes = Exact(TableEvaluator(FREE))(START, range(2, 4))
    failed = Slopes(FREE.dense, "key", range(2), (), (), "out of memory", 8, 0.5)
    journal.append("calibration", SLOPES, "digest", slopes)
    journal.append("calibration", SLOPES, "digest", failed)
    journal.close()
    journal = Journal(tmp_path / "j.sqlite")
    back = [answer for _, answer in journal.answers(SLOPES, "calibration")]
    assert len(back) == 2
    assert list(journal.answers(SLOPES, "calib")) == []
    assert list(journal.evaluations()) == []
    for one, other in zip(back, (slopes, failed), strict=True):
        for name in ("genome", "key", "sequences", "reason", "tokens", "seconds"):
            assert getattr(one, name) == getattr(other, name)
        for rows, wanted in ((one.first, other.first), (one.second, other.second)):
            for row, values in zip(rows, wanted, strict=True):
                assert row == pytest.approx(values, nan_ok=True)
    journal.close()


def test_a_run_interrupted_between_slopes_goes_on_to_the_same_answer(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path / "cache"))
    recipe = tiny_recipe(
        tiny / "model",
        tiny / "calibration.txt",
        genes=[{"kind": "sparsity", "levels": [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]}],
        budgets={"linear_weights": "0.5x"},
        strategy={"name": "surrogate", "sequences": 2},
        effort={"tokens": 5000},
    )
    secateur.run(recipe, tmp_path / "whole")
    find, left = SubnetSlopes.__call__, [2]

    def interrupted(self: Any, *arguments: Any) -> Iterator[Slopes]:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return find(self, *arguments)

    monkeypatch.setattr(SubnetSlopes, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        secateur.run(recipe, tmp_path / "cut")
    monkeypatch.setattr(SubnetSlopes, "__call__", find)
    secateur.resume(tmp_path / "cut")
    answers = []
    for name in ("whole", "cut"):
        with RunFolder.open(tmp_path / name, writing=False) as folder:
            keys = [(slopes.key, slopes.sequences) for _, slopes in folder.journal.answers(SLOPES, CALIBRATION)]
            assert len(keys) > 2
            assert len(set(keys)) == len(keys)
            choice = folder.journal.choices()[FOUND]
            answers.append((choice.genome, choice.tokens, choice.evaluations, keys))
    assert answers[0] == answers[1]
    assert answers[0][1] <= 5000

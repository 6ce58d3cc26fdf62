"""Strategies for fronts on enumerated spaces, where the true front is known; encodings; and the archive."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.operators.crossover import graft
from secateur.operators.mutation import resize, step_level, vary
from secateur.operators.repair import compress
from secateur.operators.sampling import ends, from_states, sized, spread, uniform
from secateur.search.archive import LIMIT, Archive, Goal
from secateur.search.encoding import Levels, Shares
from secateur.search.loop import Allowance, Spending, run
from secateur.search.memo import Memo
from secateur.search.steps import AskTell, Steps
from secateur.search.strategies.evolution import Name, evolution
from secateur.search.strategies.knapsack import knapsack_front
from secateur.search.strategies.samplers import sampled
from secateur.space.budget import parse_budgets
from secateur.space.genome import Genome
from secateur.space.objective import parse_objectives
from secateur.space.space import Space
from tests.search.test_strategies import drops, sparse, widths
from tests.tiny import ListJournal, TableEvaluator, drop_space

GOAL = Goal(parse_objectives(("kl", "parameters")), 2)


def found(space: Space, goal: Goal, steps: Steps, evaluations: int, evaluator: TableEvaluator) -> Archive:
    archive = Archive(goal)
    memo = Memo(space, evaluator, ListJournal())
    watch = lambda step: archive.add(step.evaluations, space.dense)  # noqa: E731
    run(AskTell(steps), memo, Spending(16), Allowance(evaluations=evaluations), watch)
    return archive


def truth(space: Space, goal: Goal, evaluator: TableEvaluator) -> Archive:
    archive = Archive(goal)
    archive.add(list(evaluator(list(space.all()), range(goal.sequences))), space.dense)
    return archive


@pytest.mark.parametrize("name", ["nsga2", "nsga3", "sms-emoa"])
@pytest.mark.parametrize("encoding", [Levels, Shares])
def test_evolution_comes_near_the_true_front(name: Name, encoding: type[Levels] | type[Shares]) -> None:
    space = drop_space(5)
    evaluator = TableEvaluator(space, interaction=0.05)
    whole = truth(space, GOAL, evaluator).hypervolume()
    shares = []
    for seed in range(2):
        steps = evolution(name, space, GOAL, seed, 16, encoding(space, GOAL.costs))
        shares.append(found(space, GOAL, steps, 150, evaluator).hypervolume() / whole)
    assert max(shares) <= 1 + 1e-9
    assert np.median(shares) > 0.93


def test_racing_children_see_more_genomes_for_the_same_tokens_and_come_nearer_the_true_front() -> None:
    space, goal = drop_space(6), Goal(parse_objectives(("kl", "parameters")), 16)
    noisy, clean = TableEvaluator(space, 0.05, noise=0.5), TableEvaluator(space, 0.05)
    shares: dict[float | None, list[float]] = {None: [], 0.2: []}
    tried: dict[float | None, list[int]] = {None: [], 0.2: []}
    for risk, seed in itertools.product(shares, range(4)):
        archive, spending = Archive(goal), Spending(16)
        steps = evolution("nsga2", space, goal, seed, 16, Levels(space, goal.costs), risk=risk)
        memo, allowance = Memo(space, noisy, ListJournal()), Allowance(tokens=150 * 16 * 16)
        watch = lambda step, archive=archive: archive.add(step.evaluations, space.dense)  # noqa: E731
        run(AskTell(steps), memo, spending, allowance, watch)
        real = Archive(goal)
        real.add(list(clean([space.dense, *archive.front()], range(16))), space.dense)
        shares[risk].append(real.hypervolume())
        tried[risk].append(spending.evaluations)
    assert np.median(tried[0.2]) > 1.1 * np.median(tried[None])
    assert np.mean(shares[0.2]) > np.mean(shares[None])


@pytest.mark.parametrize("name", ["tpe", "optuna-nsga2"])
def test_samplers_come_near_the_true_front(name: str) -> None:
    space = drop_space(4)
    evaluator = TableEvaluator(space, interaction=0.05)
    whole = truth(space, GOAL, evaluator).hypervolume()
    steps = sampled(name, space, Archive(GOAL), 0, 16, 4, Levels(space, GOAL.costs), [space.dense])  # type: ignore[arg-type]
    assert found(space, GOAL, steps, 80, evaluator).hypervolume() > 0.9 * whole


def test_the_knapsack_front_is_the_true_one_where_losses_add_up() -> None:
    space = drop_space(4)
    evaluator = TableEvaluator(space)
    true = truth(space, GOAL, evaluator)
    archive = found(space, GOAL, knapsack_front(space, GOAL, 200), 10**6, evaluator)
    assert archive.hypervolume() == pytest.approx(true.hypervolume())


@pytest.mark.parametrize("make", [drops, sparse, widths])
@pytest.mark.parametrize("encoding", [Levels, Shares])
def test_every_vector_is_a_genome_on_the_budgets(
    make: Callable[[], Space], encoding: type[Levels] | type[Shares]
) -> None:
    space = make()
    coded = encoding(space, ("nonzero_parameters",))
    assert len(coded.names) == len(coded.upper) == len(set(coded.names))
    rng = np.random.default_rng(0)
    for _ in range(10):
        vector = (rng.random(len(coded.upper)) * (coded.upper + (encoding is Levels) * 0.999)).tolist()
        genome = coded.decode(vector)
        assert space.canonical(genome) == genome
        assert space.feasible(genome)
        assert coded.decode(vector) == genome, "always the same"
        [drawn] = coded.random(1, rng)
        assert ((drawn >= 0) & (drawn <= coded.upper)).all()
        again = coded.decode(coded.encode(genome).tolist())
        assert again == genome if encoding is Levels else space.feasible(again)


def test_what_a_size_of_shares_means() -> None:
    space = drop_space(4)
    coded = Shares(space, ("parameters",))
    least, most = ends(space, "parameters")
    for size in (0.0, 0.4, 1.0):
        genome = coded.decode([0.5] * len(space.genes) + [size])
        assert space.costs(genome).parameters <= least + size * (most - least)
    assert coded.decode([0.5] * len(space.genes) + [1.0]) == space.dense


@given(st.integers(0, 10_000))
def test_operators_for_fronts_stay_in_the_space_and_its_budgets(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for space in (drops(), sparse(), widths()):
        genome = sized(space, ("nonzero_parameters",), rng)
        cost = "nonzero_parameters"
        other = sized(space, (cost,), rng)
        for child in (
            step_level(genome, space, rng),
            vary(genome, space, (cost,), rng),
            resize(genome, space, cost, rng),
            graft(genome, other, space, rng, compress),
        ):
            space.check(child)
            assert space.canonical(child) == child
            assert space.feasible(child)
        assert from_states(space, space.states(genome)) == genome


def test_sized_genomes_spread_over_all_sizes() -> None:
    space, rng = drop_space(6), np.random.default_rng(0)
    least, most = ends(space, "parameters")
    for genomes in (
        [sized(space, ("parameters",), rng) for _ in range(200)],
        spread(space, ("parameters",), 200, rng),
    ):
        shares = [(space.costs(genome).parameters - least) / (most - least) for genome in genomes]
        counts, _ = np.histogram(shares, bins=4, range=(0, 1))
        assert counts.min() > 15


def test_the_archive_takes_only_what_compares_and_keeps_budgets() -> None:
    space = drop_space(4)
    space = space.with_budgets(parse_budgets({"block_parameters": "0.9x"}, space.dense_costs))
    rng = np.random.default_rng(1)
    genomes = list(dict.fromkeys(uniform(space, rng) for _ in range(40)))
    evaluator = TableEvaluator(space, broken=frozenset(genomes[:3]))
    archive = Archive(GOAL)
    archive.add(list(evaluator([space.dense, *genomes], range(2))), space.dense)
    archive.add(list(evaluator(genomes[:10], range(3))), space.dense)  # more text: does not compare
    assert archive.dense is not None, "over the budget, but the reference"
    assert set(archive.members) == {g for g in genomes[3:] if space.feasible(g)}
    front = archive.front()
    assert front
    for genome in archive.members:
        point = archive.members[genome]
        beaten = any(
            all(a <= b for a, b in zip(archive.members[other], point, strict=True)) and archive.members[other] != point
            for other in archive.members
        )
        assert beaten != (genome in front) or point in [archive.members[other] for other in front]
    assert archive.knee() in front


def test_an_archive_that_grows_keeps_its_front() -> None:
    space = drop_space(6)
    evaluator = TableEvaluator(space, interaction=0.02)
    rng = np.random.default_rng(0)
    genomes = [space.dense, *dict.fromkeys(uniform(space, rng) for _ in range(3 * LIMIT))]
    evaluations = list(evaluator(genomes, range(2)))
    at_once, bit_by_bit = Archive(GOAL), Archive(GOAL)
    at_once.members = {e.genome: GOAL.point(e) for e in evaluations}
    at_once.dense = evaluations[0]
    for one in evaluations:
        bit_by_bit.add([one], space.dense)
    assert len(bit_by_bit.members) <= 2 * LIMIT
    assert bit_by_bit.hypervolume() == pytest.approx(at_once.hypervolume())


def test_a_small_space_ends_a_search_that_has_no_end_of_its_own() -> None:
    space = drop_space(1)
    evaluator = TableEvaluator(space)
    for steps in (
        evolution("nsga2", space, GOAL, 0, 4, Levels(space, GOAL.costs)),
        sampled("tpe", space, Archive(GOAL), 0, 4, 2, Levels(space, GOAL.costs), [space.dense]),
    ):
        archive = found(space, GOAL, steps, 1000, evaluator)
        assert set(archive.members) == set(space.all())


def test_a_constraint_told_to_a_sampler_is_how_far_the_vector_was_over() -> None:
    space = drops()
    coded = Levels(space, ())
    [excess] = coded.excess([0.0] * len(space.genes))
    [budget] = space.budgets
    assert excess == pytest.approx(budget.of(space.dense_costs) / budget.limit - 1)
    assert excess > 0
    smallest = space.smallest.levels
    assert coded.excess(list(smallest))[0] < 0
    assert coded.decode([0.0] * len(space.genes)) != Genome((0,) * len(space.genes))

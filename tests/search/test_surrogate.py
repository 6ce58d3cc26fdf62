"""The surrogate's parts against what can be computed by hand, and the whole where the optimum is known."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from secateur.operators.sampling import ends, on_budget, uniform
from secateur.search.archive import Archive, Goal
from secateur.search.loop import Allowance, Spending, run
from secateur.search.memo import Memo
from secateur.search.model.features import matrix
from secateur.search.model.known import Known
from secateur.search.model.loss_model import LossModel
from secateur.search.model.options import Options
from secateur.search.model.propose import expected_improvement, propose, spread_out
from secateur.search.model.search import POOR, Search
from secateur.search.steps import AskTell, Batch, Steps, noted
from secateur.search.strategies.evopress import Schedule, evopress
from secateur.search.strategies.surrogate import surrogate, surrogate_front
from secateur.search.sweep import sweep
from secateur.search.walk import walk_through
from secateur.space.budget import Budget, parse_budgets
from secateur.space.evaluation import Evaluation
from secateur.space.genome import Genome
from secateur.space.objective import parse_objectives
from secateur.space.space import Space
from secateur.space.treatments import Sparsity
from tests.genes import sparsity_genes, structured_genes
from tests.search.quadratic import POOL, Quadratic, answered, masks
from tests.tiny import LEVELS, ListJournal, anatomy_for, mixed_genes

# -- the model -------------------------------------------------------------------------------------------------------


def table(space: Space, seed: int = 0) -> list[list[float]]:
    rng = np.random.default_rng(seed)
    return [[0.0, *np.cumsum(rng.lognormal(-2, 1, len(gene.levels) - 1)).tolist()] for gene in space.genes]


def mixed() -> Space:
    shape = anatomy_for(num_hidden_layers=3)
    space = Space(shape, mixed_genes(shape))
    return space.with_budgets(parse_budgets({"nonzero_parameters": "0.8x"}, space.dense_costs))


def test_covariances_are_those_of_the_products_written_out() -> None:
    """The sums over pairs are computed without naming the pairs; here every pair is named."""
    space = mixed()
    model = LossModel(space, table(space))
    rng = np.random.default_rng(0)
    genomes = [uniform(space, rng) for _ in range(7)]
    features = model.features(matrix(genomes))
    grams = model._grams(features, features)
    shares = features.shares
    count = shares.shape[1]
    pairs = [(i, j) for i in range(count) for j in range(i)]
    products = np.stack([shares[:, i] * shares[:, j] for i, j in pairs], axis=1)
    assert np.allclose(grams[2], (shares**2) @ (shares**2).T)
    assert np.allclose(grams[4], products @ products.T)
    blocks = [{block for block, _ in gene.members} for gene in space.genes]
    near = [any(abs(a - b) <= 1 for a in blocks[i] for b in blocks[j]) for i, j in pairs]
    assert 0 < sum(near) < len(pairs)
    assert np.allclose(grams[3], products[:, near] @ products[:, near].T)
    levels = matrix(genomes)
    many = [index for index, gene in enumerate(space.genes) if len(gene.levels) > 2]
    depths = np.stack([levels[:, index] / (len(space.genes[index].levels) - 1) for index in many], axis=1)
    assert np.allclose(grams[5], depths @ depths.T)
    apart = (depths[:, None] - depths[None]) / 0.1
    assert np.allclose(grams[6], np.exp(-(apart**2) / 2).sum(2), atol=1e-4)
    assert np.allclose(np.diagonal(grams, axis1=1, axis2=2), model._diagonals(features))
    assert np.allclose((shares**2).sum(1)[features.prior > -9], 1.0), "unit vectors"


def test_before_any_evaluation_the_model_is_the_sum_of_single_changes() -> None:
    space, rng = mixed(), np.random.default_rng(1)
    added = table(space)
    model = LossModel(space, added)
    genome = on_budget(space, rng)
    total = sum(row[level] for row, level in zip(added, genome.levels, strict=True))
    assert math.exp(float(model.mean(matrix([genome]))[0])) == pytest.approx(total, rel=0.05)


def test_it_learns_interactions_that_the_sum_does_not_have() -> None:
    space = masks(14, 6)
    evaluator = Quadratic(space, 3)
    model = LossModel(space, [[0.0, evaluator.loss(space.dense.with_level(i, 1))] for i in range(len(space.genes))])
    rng = np.random.default_rng(0)
    genomes = list(dict.fromkeys(on_budget(space, rng) for _ in range(400)))
    seen, unseen = genomes[:120], genomes[120:]
    truth = np.log([evaluator.loss(genome) for genome in unseen])

    def rank(values: np.ndarray) -> float:
        return float(spearmanr(values, truth).statistic)

    before = rank(model.mean(matrix(unseen)))
    model.fit(seen, [evaluator.loss(genome) for genome in seen], [16] * len(seen))
    mean, deviation = model.predict(matrix(unseen))
    assert rank(mean) > 0.9 > before + 0.05
    assert np.mean(np.abs(mean - truth) < 2 * deviation) > 0.8, "it knows how far off it may be"
    again, nearly = model.predict(matrix(seen[:20]))
    assert np.allclose(again, np.log([evaluator.loss(genome) for genome in seen[:20]]), atol=0.1)
    assert nearly.mean() < deviation.mean()
    joint, covariance = model.joint(matrix(unseen[:9]))
    assert np.allclose(joint, mean[:9])
    assert np.allclose(np.sqrt(np.diag(covariance)), deviation[:9], atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.floats(-2, 2), st.floats(0.05, 2), st.floats(-2, 2))
def test_expected_improvement_is_the_mean_of_what_is_gained(mean: float, deviation: float, best: float) -> None:
    draws = np.random.default_rng(0).normal(mean, deviation, 200_000)
    gained = float(np.maximum(best - draws, 0).mean())
    result = expected_improvement(np.array([mean]), np.array([deviation]), best)
    assert float(result[0]) == pytest.approx(gained, abs=0.02)


@pytest.mark.parametrize("make", [masks, mixed])
def test_proposals_are_new_legal_and_within_the_budgets(make: object) -> None:
    space: Space = make()  # type: ignore[operator]
    model, rng = LossModel(space, table(space)), np.random.default_rng(0)
    start = on_budget(space, rng)
    found = propose(space, model, [start], 0.0, {start}, rng)
    assert found
    for proposal in found:
        assert space.feasible(proposal.genome)
        assert space.canonical(proposal.genome) == proposal.genome != start
    assert [p.improvement for p in found] == sorted((p.improvement for p in found), reverse=True)
    batch = spread_out(found, model, 0.0, 4)
    assert len({p.genome for p in batch}) == len(batch) == 4


def test_it_learns_curves_that_a_sweep_of_few_levels_got_wrong() -> None:
    """The sum over genes of a steep curve each, where the sweep says a straight line; candidates near one genome."""
    shape = anatomy_for(num_hidden_layers=6)
    levels = [Sparsity(20 * step) for step in range(1, 10)]
    space = Space(shape, sparsity_genes(shape, levels, range(6), "sublayer"))
    space = space.with_budgets(parse_budgets({"linear_weights": "0.5x"}, space.dense_costs))
    rng = np.random.default_rng(2)
    curves = np.cumsum(rng.lognormal(0.0, 1.0, (len(space.genes), 9)), axis=1)

    def loss(genome: Genome) -> float:
        return float(sum(curves[index, level - 1] for index, level in enumerate(genome.levels) if level))

    model = LossModel(space, [[row[-1] * level / 9 for level in range(10)] for row in curves])
    genomes = list(dict.fromkeys(on_budget(space, rng) for _ in range(160)))
    seen, unseen = genomes[:100], genomes[100:]
    truth = np.log([loss(genome) for genome in unseen])
    before = spearmanr(model.mean(matrix(unseen)), truth).statistic
    model.fit(seen, [loss(genome) for genome in seen], [16] * len(seen))
    after = spearmanr(model.mean(matrix(unseen)), truth).statistic
    assert after > 0.9 > before + 0.1


def test_what_loses_next_to_nothing_is_no_lesson_for_a_deep_cut() -> None:
    space = masks(8, 4)
    known = Known()
    genomes = [space.dense.with_level(i, 1) for i in range(4)]
    for genome, loss in zip(genomes, (0.1, 0.29, 0.31, 1.0), strict=True):
        known.add([Evaluation(genome, "", range(2), {"kl": (loss, loss)}, space.costs(genome))])
    assert known.rows(space.dense, genomes[3:])[0] == genomes[2:]
    assert known.rows(space.dense, [genomes[0], genomes[3]])[0] == genomes, "it is near the loss of another budget"
    assert known.rows(space.dense)[0] == genomes


def test_losses_on_little_text_are_scaled_by_its_difficulty() -> None:
    space = masks(4, 1)
    known = Known()
    genomes = [space.dense.with_level(i, 1) for i in range(3)]
    rows = [(2.0, 4.0, 6.0, 8.0), (1.0, 2.0, 3.0, 4.0), (1.0, 2.0)]
    for genome, row in zip(genomes, rows, strict=True):
        costs = space.costs(genome)
        known.add([Evaluation(genome, "", range(len(row)), {"kl": row}, costs)])
    _, losses, counts = known.rows(space.dense)
    assert counts == [4, 4, 2]
    assert losses == pytest.approx([5.0, 2.5, 2.5]), "the third is like the second as far as it goes"


def test_what_is_scaled_is_the_loss_over_the_dense_model() -> None:
    """Cross-entropy: the text is hard for all, every genome adds the same; so all rows say the same."""
    space = masks(4, 1)
    known = Known()
    hardness = np.array([2.0, 2.0, 3.5, 4.5])
    for genome, count in ((space.dense, 4), *((space.dense.with_level(i, 1), 4 - 2 * (i % 2)) for i in range(4))):
        added = 0.0 if genome == space.dense else 0.1
        losses = tuple((hardness[:count] + added).tolist())
        known.add([Evaluation(genome, "", range(count), {"cross_entropy": losses}, space.costs(genome))])
    _, losses_of, counts = known.rows(space.dense)
    assert sorted(counts) == [2, 2, 4, 4]
    assert losses_of == pytest.approx([0.1] * 4)


# -- the whole -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_it_finds_the_optimum_of_792_in_60_evaluations(seed: int) -> None:
    space = masks()
    evaluator = Quadratic(space, seed)
    best = min((genome for genome in space.all() if space.feasible(genome)), key=evaluator.loss)
    options = Options(sequences=4, first=4)
    answer, _ = answered(space, surrogate(space, POOL, seed, [space], options), evaluator, 60)
    assert answer is not None
    assert evaluator.loss(answer) == pytest.approx(evaluator.loss(best), rel=1e-9)


def test_it_needs_fewer_tokens_than_evopress_under_noise() -> None:
    """The same tokens for both; the true loss of the answers, over a few spaces."""
    ours, theirs = [], []
    for seed in range(4):
        shape = anatomy_for(num_hidden_layers=6)
        space = Space(shape, sparsity_genes(shape, LEVELS, range(6), "sublayer"))
        space = space.with_budgets(parse_budgets({"linear_weights": "0.5x"}, space.dense_costs))
        evaluator = Quadratic(space, seed, 0.2)
        answer, spending = answered(space, surrogate(space, POOL, seed, [space], Options(batch=4)), evaluator, 130)
        schedule = Schedule(generations=1000, offspring=16, survivors=(2, 1), tokens=(16, 256), first=16)
        steps = AskTell(evopress(space, POOL, seed, schedule))
        other = run(steps, Memo(space, evaluator, ListJournal()), Spending(16), Allowance(tokens=spending.tokens))
        assert answer is not None
        assert other is not None
        ours.append(evaluator.loss(answer))
        theirs.append(evaluator.loss(other))
    assert np.mean(np.log(ours)) < np.mean(np.log(theirs))


def test_several_budgets_share_one_search() -> None:
    """Three budgets at once: each answer is as good as that of a search of its own, for much less than three."""
    space = masks()
    evaluator = Quadratic(space, 5)
    limits = [("sublayers", 2 * (12 - dropped)) for dropped in (2, 4, 6)]
    goal = Goal(parse_objectives(("kl", "sublayers")), 4)
    whole = space.with_budgets(())
    options, archive = Options(sequences=4, first=4), Archive(goal)
    steps = surrogate_front(whole, goal, POOL, 0, limits, options)
    _, together = answered(
        whole, noted(steps, lambda batch, told: archive.add(told, space.dense)), Quadratic(whole, 5), 10**9
    )
    alone = 0
    for _, limit in limits:
        target = space.with_budgets((Budget("sublayers", limit, "test"),))
        answer, spending = answered(target, surrogate(target, POOL, 0, [target], options), Quadratic(target, 5))
        alone += spending.evaluations
        assert answer is not None
        at_most = [g for g in archive.members if whole.costs(g).sublayers <= limit]  # type: ignore[operator]
        assert min(map(evaluator.loss, at_most)) <= 1.0001 * evaluator.loss(answer)
    assert together.evaluations < 0.7 * alone


def test_several_costs_under_several_budgets() -> None:
    """Targets of different costs, each with the budgets of the recipe besides: a walk to one need not reach another."""
    shape = anatomy_for(num_hidden_layers=6)
    layers = range(6)
    genes = structured_genes(shape, "attention", layers) + structured_genes(shape, "mlp", layers)
    space = Space(shape, genes)
    space = space.with_budgets(parse_budgets({"macs": "0.8x", "kv_bytes": "0.9x"}, space.dense_costs))
    goal = Goal(parse_objectives(("kl", "macs", "kv_bytes")), 4)
    limits = []
    for cost in goal.costs:
        least, most = ends(space, cost)
        limits += [(cost, most - (most - least) * part // 6) for part in (1, 2, 3)]
    steps = surrogate_front(space, goal, POOL, 0, limits, Options(sequences=4, tolerance=0.01))
    archive = Archive(goal)
    noting = noted(steps, lambda batch, told: archive.add(told, space.dense))
    answer, _ = answered(space, noting, Quadratic(space, 0), 10**9)
    assert answer is not None
    for cost, limit in limits:
        assert any(getattr(space.costs(genome), cost) <= limit for genome in archive.members), (cost, limit)


@pytest.mark.parametrize("evaluations", [24, 36, 48])
@pytest.mark.parametrize(
    "limits",
    [
        ({"macs": "0.8x", "kv_bytes": "0.5x"}, {"macs": "0.5x", "kv_bytes": "0.9x"}),
        ({"macs": "0.6x"}, {"kv_bytes": "0.4x"}),
    ],
)
def test_walks_to_budgets_that_miss_each_other_take_no_more_than_they_may_together(
    evaluations: int, limits: tuple[dict[str, str], ...]
) -> None:
    shape = anatomy_for(num_hidden_layers=12)
    genes = structured_genes(shape, "attention", range(12)) + structured_genes(shape, "mlp", range(12))
    space = Space(shape, genes)
    targets = [space.with_budgets(parse_budgets(limit, space.dense_costs)) for limit in limits]
    asked: list[int] = []
    found: list[Genome] = []

    def steps() -> Steps:
        table = yield from sweep(space, range(2), 1)
        walks = walk_through(targets, table, range(2), 2, evaluations)
        found.extend((yield from noted(walks, lambda batch, _: asked.append(len(batch.genomes)))))
        return None

    answered(space, steps(), Quadratic(space, 0))
    assert all(target.feasible(genome) for target, genome in zip(targets, found, strict=True))
    assert 0 < sum(asked) <= evaluations
    assert len(set(found)) == 2, "they miss each other"


def test_without_a_model_nothing_is_said_of_its_ranks() -> None:
    space, ranks = masks(), list[float | None]()
    steps = surrogate(space, POOL, 0, [space], Options(sequences=4, first=4, modelling=False))
    answered(space, noted(steps, lambda batch, _: ranks.append(batch.correlation)), Quadratic(space, 0), 150)
    assert len(ranks) > 20
    assert set(ranks) == {None}


def test_the_dense_model_is_scored_wherever_answers_are_compared() -> None:
    """Texts differ in difficulty by more than pruning costs, and later ones are much easier."""

    class Uneven(Quadratic):
        def __call__(self, genomes: Sequence[Genome], sequences: range) -> Iterator[Evaluation]:
            for one in super().__call__(genomes, sequences):
                row = [3.0 - 0.1 * index + loss for index, loss in zip(sequences, one.primary, strict=True)]
                yield replace(one, losses={"cross_entropy": tuple(row)})

    space = masks()
    evaluator = Uneven(space, 0, 0.1)
    search = Search(space, POOL, 0, [space], Options(sequences=4))
    answer, _ = answered(space, search.steps(()), evaluator)
    assert answer is not None
    assert len(search.known.losses[answer]) > 4
    true = evaluator.loss(answer) * float(evaluator.hardness.mean())
    assert search.known.excess(answer, space.dense) == pytest.approx(true, rel=0.15)


def test_when_it_is_quiet_the_best_are_compared_on_more_text() -> None:
    """Noisy sequences: it begins on two and ends on all sixteen, and the answer is the best of all it saw there."""
    space = masks()
    evaluator = Quadratic(space, 2, 0.4)
    told: dict[Genome, tuple[float, ...]] = {}

    def note(_: Batch, evaluations: list[Evaluation]) -> None:
        for one in evaluations:
            if len(one.primary) == POOL.sequences and one.status == "ok":
                told[one.genome] = one.primary

    steps = surrogate(space, POOL, 0, [space], Options(sequences=4, first=2, tolerance=0.02))
    answer, _ = answered(space, noted(steps, note), evaluator)
    assert len(told) >= 4
    assert answer == min(told, key=lambda genome: sum(told[genome]))


class Unlearnable(Quadratic):
    """Losses from which nothing follows for other genomes."""

    def loss(self, genome: Genome) -> float:
        return float(np.random.default_rng([*genome.levels, 3]).lognormal())


@pytest.mark.parametrize(("kind", "poor"), [(Quadratic, False), (Unlearnable, True)])
def test_where_the_model_is_no_guide_mutation_takes_over(kind: type[Quadratic], poor: bool) -> None:
    """The rank correlation is told with every batch; where it is poor most candidates are children."""
    space = masks(14, 6)
    evaluator = kind(space, 0)
    search = Search(space, POOL, 0, [space], Options(sequences=4, first=4))
    memo, told, children = Memo(space, evaluator, ListJournal()), [], []

    def steps() -> Steps:
        yield from search.begin([])
        for _ in range(14):
            children.append(sum(p.improvement in (0.0, math.inf) for _, p in search._candidates()))
            yield from search.turn()
        return None

    run(AskTell(steps()), memo, Spending(16), watch=lambda step: told.append(step.correlation))
    known = [value for value in told if value is not None]
    assert told[0] is None
    assert (float(np.median(known)) < POOR) == poor
    assert (float(np.median(children[-6:])) >= 4) == poor

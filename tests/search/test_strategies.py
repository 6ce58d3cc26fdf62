"""One suite for every strategy: legal, seeded, resumable, ask before tell, failures; and the known optimum."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from secateur.operators.rules.uniform_sparsity import uniform_sparsity
from secateur.operators.sampling import ends, on_budget
from secateur.search.archive import Archive, Best, Goal
from secateur.search.encoding import Levels, Shares
from secateur.search.loop import Allowance, Spending, Step, run
from secateur.search.memo import Memo
from secateur.search.model.options import Options
from secateur.search.steps import AskTell, Batch, Pool, Steps
from secateur.search.strategies import evolution, genetic, samplers
from secateur.search.strategies.evopress import PUBLISHED, Schedule, evopress, sized
from secateur.search.strategies.exhaustive import exhaustive
from secateur.search.strategies.gates import Gates, gates
from secateur.search.strategies.greedy import greedy
from secateur.search.strategies.knapsack import knapsack, knapsack_front
from secateur.search.strategies.multipruner import multipruner
from secateur.search.strategies.random import random_search
from secateur.search.strategies.surrogate import surrogate, surrogate_front
from secateur.search.warm import warm_front, warm_start
from secateur.space.budget import parse_budgets
from secateur.space.costs import Additions
from secateur.space.errors import SecateurError
from secateur.space.evaluation import Evaluation
from secateur.space.genome import Genome
from secateur.space.objective import parse_objectives
from secateur.space.space import Space
from tests.genes import hidden_gene, sparsity_genes, structured_genes
from tests.search.short import short
from tests.tiny import LEVELS, ListJournal, TableEvaluator, anatomy_for, best_by_force, drop_space, mixed_genes

POOL = Pool(8, 16)
SCHEDULE = Schedule(generations=12, offspring=8, survivors=(3, 1), tokens=(16, 64), first=4)


def goal() -> Goal:
    return Goal(parse_objectives(("kl", "nonzero_parameters")), 2)


def evolved(
    name: evolution.Name, encoding: type[Levels] | type[Shares], risk: float | None = None
) -> Callable[[Space, int], Steps]:
    def make(space: Space, seed: int) -> Steps:
        wanted = goal() if risk is None else replace(goal(), sequences=8)
        return short(evolution.evolution(name, space, wanted, seed, 8, encoding(space, goal().costs), risk=risk))

    return make


def sampled(name: samplers.Name, encoding: type[Levels] | type[Shares]) -> Callable[[Space, int], Steps]:
    def make(space: Space, seed: int) -> Steps:
        archive, variables = Archive(goal()), encoding(space, goal().costs)
        return short(samplers.sampled(name, space, archive, seed, 4, 2, variables, [space.dense]), 3)

    return make


def sampled_plan(name: samplers.Name, encoding: type[Levels] | type[Shares]) -> Callable[[Space, int], Steps]:
    def make(space: Space, seed: int) -> Steps:
        return short(samplers.sampled(name, space, Best(2), seed, 4, 2, encoding(space, ())), 4)

    return make


def bred(name: genetic.Name, encoding: type[Levels] | type[Shares]) -> Callable[[Space, int], Steps]:
    def make(space: Space, seed: int) -> Steps:
        return short(genetic.genetic(name, space, 2, seed, 8, encoding(space, ())), 12)

    return make


def warm_sms(space: Space, seed: int) -> Steps:
    encoding = Levels(space, goal().costs)
    return short(
        warm_front(
            space,
            goal(),
            4,
            [space.smallest] if space.feasible(space.smallest) else [],
            [lambda: knapsack_front(space, goal(), 4, 1)],
            lambda found: evolution.evolution("sms-emoa", space, goal(), seed, 8, encoding, found),
        )
    )


QUICK = Options(sequences=8, first=2, lazy=3, path=12, batch=4, tolerance=0.02)


def surrogate_sizes(space: Space, seed: int) -> Steps:
    least, most = ends(space, "nonzero_parameters")
    limits = [("nonzero_parameters", most - (most - least) * part // 8) for part in (1, 3)]
    return short(surrogate_front(space, goal(), POOL, seed, limits, QUICK), 14)


STRATEGIES: dict[str, Callable[[Space, int], Steps]] = {
    "random": lambda space, seed: random_search(space, POOL, seed, 2, batches=12),
    "exhaustive": lambda space, seed: exhaustive(space, POOL, 2),
    "knapsack": lambda space, seed: knapsack(space, POOL, 2),
    "greedy": lambda space, seed: greedy(space, POOL, seed, 2, lazy=3),
    "greedy, all": lambda space, seed: greedy(space, POOL, seed, 2, lazy=None),
    "multipruner": lambda space, seed: multipruner(space, POOL, seed, 2),
    "multipruner, few evaluations": lambda space, seed: multipruner(space, POOL, seed, 2, evaluations=12),
    "greedy, several at once": lambda space, seed: greedy(space, POOL, seed, 2, lazy=3, evaluations=20),
    "evopress": lambda space, seed: evopress(space, POOL, seed, SCHEDULE),
    "evopress, costs and nested": lambda space, seed: evopress(space, POOL, seed, SCHEDULE, "costs", fresh=False),
    "evopress, warm": lambda space, seed: warm_start(
        POOL,
        [lambda: knapsack(space, POOL, 2)],
        lambda starts, spent: evopress(space, POOL, seed, sized(9000 - spent, POOL, False), "costs", False, starts),
    ),
    "evopress, racing": lambda space, seed: evopress(space, POOL, seed, SCHEDULE, "costs", fresh=False, risk=0.2),
    "surrogate": lambda space, seed: short(surrogate(space, POOL, seed, [space], QUICK), 24),
    "surrogate, nothing but races": lambda space, seed: short(
        surrogate(space, POOL, seed, [space], replace(QUICK, sweeping=False, modelling=False)), 12
    ),
    "surrogate, a front": surrogate_sizes,
    "random, every size": lambda space, seed: random_search(space, POOL, seed, 2, batches=12, costs=goal().costs),
    "knapsack, a front": lambda space, seed: knapsack_front(space, goal(), 5, 2),
    "nsga2": evolved("nsga2", Levels),
    "nsga2, racing": evolved("nsga2", Levels, 0.2),
    "nsga3": evolved("nsga3", Levels),
    "sms-emoa": evolved("sms-emoa", Levels),
    "nsga2, shares": evolved("nsga2", Shares),
    "sms-emoa, warm": warm_sms,
    "tpe": sampled("tpe", Levels),
    "tpe, shares": sampled("tpe", Shares),
    "optuna-nsga2": sampled("optuna-nsga2", Levels),
    "gp": sampled("gp", Levels),
    "ga": bred("ga", Levels),
    "ga, shares": bred("ga", Shares),
    "de": bred("de", Shares),
    "tpe, a plan": sampled_plan("tpe", Levels),
    "gates": lambda space, seed: short(gates(space, POOL, seed, Gates(sequences=2, samples=4, every=2)), 30),
    "gp, a plan": sampled_plan("gp", Levels),
    "cma-es": sampled_plan("cma-es", Levels),
    "cma-es, shares": sampled_plan("cma-es", Shares),
}


def drops(ratio: str = "0.7x", layers: int = 4) -> Space:
    space = drop_space(layers)
    return space.with_budgets(parse_budgets({"block_parameters": ratio}, space.dense_costs))


def sparse() -> Space:
    shape = anatomy_for(num_hidden_layers=3)
    space = Space(shape, sparsity_genes(shape, LEVELS[:3], range(3), "sublayer"))
    return space.with_budgets(parse_budgets({"linear_weights": "0.6x"}, space.dense_costs))


def widths() -> Space:
    shape = anatomy_for(num_hidden_layers=3, tie_word_embeddings=True)
    layers = range(3)
    genes = (
        *structured_genes(shape, "attention", layers, levels=(2, 1, 0)),
        *structured_genes(shape, "queries", layers, levels=(2, 1)),
        *structured_genes(shape, "mlp", layers, levels="step 16"),
        hidden_gene(shape, (32, 24), 1, "pca"),
    )
    space = Space(shape, genes, additions=Additions(bias=True, projection=True))
    return space.with_budgets(parse_budgets({"block_parameters": "0.6x"}, space.dense_costs))


def trace(
    space: Space, steps: Steps, evaluator: TableEvaluator, journal: ListJournal
) -> tuple[list[Batch], Genome | None]:
    """All batches of a strategy and its answer."""
    batches = []
    strategy = AskTell(steps)
    memo = Memo(space, evaluator, journal)
    while (batch := strategy.ask()) is not None:
        assert strategy.ask() is batch
        batches.append(batch)
        strategy.tell(memo(batch))
    return batches, strategy.incumbent


# MultiPruner removes sublayers, channels and heads; it has no answer where there are none.
CASES = [
    (name, make)
    for make in (drops, sparse, widths)
    for name in STRATEGIES
    if "multipruner" not in name or make != sparse
]


@pytest.mark.parametrize(("name", "make"), CASES)
class TestEveryStrategy:
    def test_answers_within_the_budgets(self, name: str, make: Callable[[], Space]) -> None:
        space = make()
        batches, answer = trace(space, STRATEGIES[name](space, 0), TableEvaluator(space, 0.1, 0.2), ListJournal())
        assert answer is not None
        assert space.feasible(answer)
        for batch in batches:
            assert batch.sequences.stop <= POOL.sequences
            assert batch.incumbent is None or space.feasible(batch.incumbent)
            for genome in batch.genomes:
                space.check(genome)
                assert space.canonical(genome) == genome

    def test_same_seed_same_batches(self, name: str, make: Callable[[], Space]) -> None:
        space = make()
        runs = [
            trace(space, STRATEGIES[name](space, 5), TableEvaluator(space, 0.1, 0.2), ListJournal()) for _ in range(2)
        ]
        assert runs[0] == runs[1]

    def test_replay_of_any_part_goes_on_the_same(self, name: str, make: Callable[[], Space]) -> None:
        space = make()
        journal = ListJournal()
        whole, answer = trace(space, STRATEGIES[name](space, 1), TableEvaluator(space, 0.1, 0.2), journal)
        for cut in range(0, len(journal.rows), max(1, len(journal.rows) // 3)):
            evaluator, resumed = TableEvaluator(space, 0.1, 0.2), ListJournal(journal.rows[:cut])
            again = trace(space, STRATEGIES[name](space, 1), evaluator, resumed)
            assert again == (whole, answer)
            known = {(row.key, index) for row in journal.rows[:cut] for index in row.sequences}
            assert not known & set(evaluator.calls), "evaluated again"
            assert len(set(evaluator.calls)) == len(evaluator.calls)

    def test_survives_failures_everywhere(self, name: str, make: Callable[[], Space]) -> None:
        space = make()
        evaluator = TableEvaluator(space, broken=frozenset(space.all()))
        try:
            _, answer = trace(space, STRATEGIES[name](space, 0), evaluator, ListJournal())
        except SecateurError as error:
            assert "failed" in str(error)
        else:
            assert answer is None, "a genome that failed is no answer"


def test_tell_is_checked() -> None:
    space = drops()
    strategy = AskTell(random_search(space, POOL, 0, 2))
    with pytest.raises(SecateurError, match="tell before ask"):
        strategy.tell([])
    batch = strategy.ask()
    assert batch is not None
    told = Memo(space, TableEvaluator(space), ListJournal())(batch)
    with pytest.raises(SecateurError, match="not those of"):
        strategy.tell(told[:-1])
    with pytest.raises(SecateurError, match="not those of"):
        strategy.tell([replace(told[0], sequences=range(1)), *told[1:]])


@pytest.mark.parametrize("make", [drops, sparse])
@pytest.mark.parametrize("seed", range(5))
def test_exhaustive_finds_the_optimum(make: Callable[[], Space], seed: int) -> None:
    space = make()
    evaluator = TableEvaluator(space, interaction=0.3, seed=seed)
    _, answer = trace(space, STRATEGIES["exhaustive"](space, 0), evaluator, ListJournal())
    assert answer is not None
    assert evaluator.loss(answer) == pytest.approx(best_by_force(space, evaluator)[0])


@pytest.mark.parametrize("make", [drops, sparse])
@pytest.mark.parametrize("seed", range(5))
def test_knapsack_is_exact_when_losses_add_up(make: Callable[[], Space], seed: int) -> None:
    space = make()
    evaluator = TableEvaluator(space, seed=seed)
    _, answer = trace(space, STRATEGIES["knapsack"](space, 0), evaluator, ListJournal())
    assert answer is not None
    assert evaluator.loss(answer) == pytest.approx(best_by_force(space, evaluator)[0])


@pytest.mark.parametrize("make", [drops, sparse])
def test_evopress_reaches_the_optimum_of_an_enumerated_space(make: Callable[[], Space]) -> None:
    space = make()
    for seed in range(3):
        evaluator = TableEvaluator(space, interaction=0.05, seed=seed)
        schedule = Schedule(generations=40, offspring=16, survivors=(4, 1), tokens=(16, 32), first=8)
        _, answer = trace(space, evopress(space, POOL, seed, schedule, "costs"), evaluator, ListJournal())
        assert answer is not None
        assert evaluator.loss(answer) == pytest.approx(best_by_force(space, evaluator)[0])


@pytest.mark.parametrize("make", [drops, sparse])
@pytest.mark.parametrize("seed", range(3))
def test_gates_come_near_the_optimum_of_an_enumerated_space(make: Callable[[], Space], seed: int) -> None:
    """By scores of samples alone: their last solutions are among the best twentieth of all that keeps the budget."""
    space = make()
    evaluator = TableEvaluator(space, interaction=0.05, seed=seed)
    steps = short(gates(space, POOL, seed, Gates(sequences=1, samples=8)), 200)
    _, answer = trace(space, steps, evaluator, ListJournal())
    assert answer is not None
    feasible = sorted(evaluator.loss(genome) for genome in space.all() if space.feasible(genome))
    assert evaluator.loss(answer) <= feasible[len(feasible) // 20]


def test_evopress_works_as_published() -> None:
    space = sparse()
    starts = [uniform_sparsity(space)]
    batches, _ = trace(space, evopress(space, POOL, 0, SCHEDULE, initial=starts), TableEvaluator(space), ListJournal())
    assert batches[0].incumbent is None, "nothing is an answer before it has been scored"
    stages = [list(same) for _, same in itertools.groupby(batches, lambda batch: batch.genomes)]
    assert stages[1][0].genomes[-1] == starts[0]
    used = []
    for first, last in zip(stages[0::2], stages[1::2], strict=True):
        entrants, finalists = first[0].genomes, last[0].genomes
        assert len(entrants) <= SCHEDULE.offspring
        assert [len(batch.sequences) for batch in first] == [1]
        assert last[0].incumbent in (None, *finalists), "the parent competes in the last stage"
        assert len(finalists) in (SCHEDULE.survivors[0], SCHEDULE.survivors[0] + 1)
        used.append(tuple(index for batch in last for index in batch.sequences))
    assert all(len(set(minibatch)) == 4 for minibatch in used), "drawn without replacement"
    assert len(set(used)) > 6, "fresh minibatches"
    assert any(last[0].sequences.stop != later.sequences.start for last in stages for later in last[1:]), (
        "from anywhere"
    )
    assert PUBLISHED["published-sparsity"].tokens_per_generation() == 64 * 2048 + 8 * 16384 + 3 * 65536


def test_evopress_moves_where_a_kind_has_one_gene() -> None:
    """A gene cannot be switched with itself for ever."""
    shape = anatomy_for(num_hidden_layers=4)
    genes = (
        *structured_genes(shape, "mlp", range(4), levels="6 levels", multiple_of=4, together=True),
        hidden_gene(shape, (32, 28, 24, 20), 4, "magnitude"),
    )
    space = Space(shape, genes)
    space = space.with_budgets(parse_budgets({"parameters": "0.8x"}, space.dense_costs))
    batches, _ = trace(space, evopress(space, POOL, 0, SCHEDULE), TableEvaluator(space), ListJournal())
    seen = {genome for batch in batches for genome in batch.genomes}
    assert len(seen) >= 4


def test_nobody_races_against_itself() -> None:
    space = sparse()
    steps = evopress(space, POOL, 0, SCHEDULE, "levels", fresh=False, initial=[uniform_sparsity(space)], risk=0.2)
    batches, _ = trace(space, steps, TableEvaluator(space, noise=0.2), ListJournal())
    assert all(len(set(batch.genomes)) == len(batch.genomes) for batch in batches)


def test_evopress_refuses_a_stage_longer_than_the_text() -> None:
    schedule = Schedule(generations=1, offspring=4, survivors=(1,), tokens=(1000,))
    with pytest.raises(SecateurError, match="calibration text has 128"):
        next(evopress(sparse(), POOL, 0, schedule))


@pytest.mark.parametrize(
    ("survivors", "tokens"), [((2, 1), (16,)), ((1, 2), (16, 16)), ((2,), (16,)), ((20, 1), (16, 16))]
)
def test_schedules_that_make_no_sense(survivors: tuple[int, ...], tokens: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="stage"):
        Schedule(generations=1, offspring=8, survivors=survivors, tokens=tokens)


@pytest.mark.parametrize("tokens", [500, 20_000, 10_000_000])
def test_the_default_schedule_spends_about_what_it_is_given(tokens: int) -> None:
    for fresh in (True, False):
        schedule = sized(tokens, Pool(64, 16), fresh)
        spent = schedule.generations * schedule.tokens_per_generation(fresh)
        assert spent <= max(tokens, schedule.tokens_per_generation(fresh))
        assert spent > tokens / 2 or schedule.generations == 1


def test_nested_minibatches_cost_what_the_schedule_says() -> None:
    space = sparse()
    schedule = Schedule(generations=5, offspring=8, survivors=(3, 1), tokens=(16, 64))
    evaluator = TableEvaluator(space, 0.1, 0.2)
    first = uniform_sparsity(space)
    trace(space, evopress(space, POOL, 0, schedule, "costs", False, [first]), evaluator, ListJournal())
    parent = 4 * 16
    assert len(evaluator.calls) * 16 <= 5 * schedule.tokens_per_generation(fresh=False) + parent


def test_the_loop_never_exceeds_the_allowance() -> None:
    space = drops(layers=6)
    for allowance in (Allowance(tokens=1000), Allowance(evaluations=20)):
        evaluator, spending = TableEvaluator(space), Spending(POOL.tokens_per_sequence)
        memo = Memo(space, evaluator, ListJournal())
        steps: list[Step] = []
        answer = run(AskTell(random_search(space, POOL, 0, 2)), memo, spending, allowance, steps.append)
        assert answer is not None
        assert spending.tokens == len(evaluator.calls) * 16 <= (allowance.tokens or 10**9)
        assert spending.evaluations <= (allowance.evaluations or 10**9)
        assert len(steps) > 1


def test_an_infeasible_candidate_never_becomes_the_answer() -> None:
    """gptq-gguf-toolkit's elite stays over budget for whole runs; ours is refused at the door."""
    space = drops()
    with pytest.raises(SecateurError, match="breaks a budget"):
        next(evopress(space, POOL, 0, SCHEDULE, initial=[space.dense]))


def test_a_memo_scores_only_what_is_missing() -> None:
    space = drops()
    evaluator = TableEvaluator(space, noise=0.5)
    memo = Memo(space, evaluator, ListJournal())
    genome = space.smallest
    first = memo(Batch((genome,), range(2, 4)))[0]
    whole = memo(Batch((genome, genome), range(6)))
    assert whole[0].primary == whole[1].primary
    assert whole[0].primary[2:4] == first.primary
    assert len(evaluator.calls) == 6
    assert memo(Batch((genome,), range(1, 3)))[0].primary == whole[0].primary[1:3]
    assert len(evaluator.calls) == 6


def test_a_failure_on_some_sequences_leaves_others_as_they_were() -> None:
    """Else a replay would see a candidate fail in a stage that it had passed."""
    space = drops()
    evaluator = TableEvaluator(space)
    genome = space.smallest
    rows = list(evaluator([genome], range(2)))
    rows += list(TableEvaluator(space, broken=frozenset([genome]))([genome], range(2, 6)))
    evaluator.calls.clear()
    memo = Memo(space, evaluator, ListJournal(rows))
    assert memo(Batch((genome,), range(2)))[0].status == "ok"
    assert memo(Batch((genome,), range(1, 4)))[0].status == "failed"
    assert memo(Batch((genome,), range(8)))[0].status == "failed"
    assert not evaluator.calls


def test_greedy_passes_over_levels_that_save_nothing() -> None:
    shape = anatomy_for(num_hidden_layers=3)
    space = Space(shape, sparsity_genes(shape, LEVELS, range(3), "block"))
    space = space.with_budgets(parse_budgets({"linear_weights": "0.35x"}, space.dense_costs))
    for evaluations in (None, 15, 30):
        evaluator = TableEvaluator(space, 0.1)
        steps = greedy(space, POOL, 0, 2, lazy=3, evaluations=evaluations)
        _, answer = trace(space, steps, evaluator, ListJournal())
        assert answer is not None
        assert space.feasible(answer)
        assert evaluations is None or len({key for key, _ in evaluator.calls}) <= evaluations


def test_failed_evaluations_are_not_tried_again() -> None:
    space = drops()
    evaluator = TableEvaluator(space, broken=frozenset([space.smallest]))
    memo = Memo(space, evaluator, ListJournal())
    told: list[Evaluation] = memo(Batch((space.smallest,), range(2))) + memo(Batch((space.smallest,), range(4)))
    assert [(e.status, e.reason, e.sequences) for e in told] == [
        ("failed", "broken on purpose", range(2)),
        ("failed", "broken on purpose", range(4)),
    ]
    assert len(evaluator.calls) == 2


def test_multipruner_goes_by_its_stages() -> None:
    """Sublayers first, then channels, then heads; every move of a stage tried; the least loss made."""
    shape = anatomy_for(num_hidden_layers=4)
    genes = structured_genes(shape, "attention", range(4), levels=(2, 1, 0)) + structured_genes(
        shape, "mlp", range(4), levels="step 8"
    )
    space = Space(shape, genes)
    space = space.with_budgets(parse_budgets({"block_parameters": "0.6x"}, space.dense_costs))
    evaluator = TableEvaluator(space)
    batches, answer = trace(space, multipruner(space, POOL, 0, 2), evaluator, ListJournal())
    assert answer is not None
    kinds = []
    genome = space.dense
    for batch in batches[:-1]:
        best = min(batch.genomes, key=evaluator.loss)
        changed = [space.genes[index] for index in genome.changed(best)]
        assert len(changed) == 1
        dropped = best.levels[space.genes.index(changed[0])] == len(changed[0].levels) - 1 and changed[0].drops
        kinds.append("drop" if dropped else changed[0].kind.name)
        genome = best
    order = ["drop", "mlp", "attention"]
    assert [order.index(kind) for kind in kinds] == sorted(order.index(kind) for kind in kinds)
    assert {"drop", "mlp"} <= set(kinds)


def test_multipruner_needs_its_kinds() -> None:
    space = sparse()
    with pytest.raises(SecateurError, match="multipruner: dropping sublayers and narrowing them is not enough"):
        trace(space, multipruner(space, POOL, 0, 2), TableEvaluator(space), ListJournal())


@pytest.mark.parametrize("make", [drops, sparse])
@pytest.mark.parametrize("name", ["ga", "ga, shares", "de", "tpe", "cma-es, shares"])
def test_libraries_reach_the_optimum_of_an_enumerated_space(name: str, make: Callable[[], Space]) -> None:
    space = make()
    levels, shares = Levels(space, ()), Shares(space, ())
    ways: dict[str, Callable[[int], Steps]] = {
        "ga": lambda seed: genetic.genetic("ga", space, 2, seed, 12, levels),
        "ga, shares": lambda seed: genetic.genetic("ga", space, 2, seed, 12, shares),
        "de": lambda seed: genetic.genetic("de", space, 2, seed, 12, shares),
        "tpe": lambda seed: samplers.sampled("tpe", space, Best(2), seed, 12, 2, levels),
        "cma-es, shares": lambda seed: samplers.sampled("cma-es", space, Best(2), seed, 8, 2, shares),
    }
    for seed in range(2):
        evaluator = TableEvaluator(space, interaction=0.1, seed=seed)
        memo, spending = Memo(space, evaluator, ListJournal()), Spending(POOL.tokens_per_sequence)
        answer = run(AskTell(ways[name](seed)), memo, spending, Allowance(evaluations=120), lambda step: None)
        assert answer is not None
        assert evaluator.loss(answer) <= 1.1 * best_by_force(space, evaluator)[0]


@pytest.mark.parametrize("encoding", [Levels, Shares])
@pytest.mark.parametrize("name", ["ga", "de", "cma-es", "tpe"])
def test_no_search_for_one_plan_is_worse_than_where_it_starts(name: str, encoding: type[Levels] | type[Shares]) -> None:
    """Real shares stand for genomes only nearly, and populations may be smaller than the starts are many."""
    shape = anatomy_for(num_hidden_layers=4)
    space = Space(shape, mixed_genes(shape))
    space = space.with_budgets(parse_budgets({"linear_weights": "0.6x"}, space.dense_costs))
    evaluator = TableEvaluator(space, interaction=0.1, seed=3)
    rng = np.random.default_rng(0)
    starts = sorted((on_budget(space, rng) for _ in range(60)), key=evaluator.loss, reverse=True)[-6:]
    variables = encoding(space, ())
    if name in ("ga", "de"):
        steps = genetic.genetic(name, space, 2, 0, 4, variables, starts)  # type: ignore[arg-type]
    else:
        steps = samplers.sampled(name, space, Best(2), 0, 4, 2, variables, starts)  # type: ignore[arg-type]
    memo, spending = Memo(space, evaluator, ListJournal()), Spending(POOL.tokens_per_sequence)
    answer = run(AskTell(steps), memo, spending, Allowance(evaluations=20), lambda step: None)
    assert answer is not None
    assert evaluator.loss(answer) <= evaluator.loss(starts[-1])

"""The dynamic programme against all pairs."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.search.model.knapsack import solve
from secateur.search.sweep import Table, sweep
from secateur.space.budget import parse_budgets
from secateur.space.errors import SecateurError
from secateur.space.genome import Genome
from secateur.space.space import Space
from tests.genes import hidden_gene, sparsity_genes, structured_genes
from tests.tiny import LEVELS, TableEvaluator, anatomy_for, drop_space

SHAPE = anatomy_for(num_hidden_layers=2)
SPACES = {
    "drops": drop_space(4),
    "sparsity": Space(SHAPE, sparsity_genes(SHAPE, LEVELS[:2], range(2), "sublayer")),
    "drops over shared sparsity": Space(
        SHAPE,
        structured_genes(SHAPE, "attention", range(2))
        + structured_genes(SHAPE, "mlp", range(2))
        + structured_genes(SHAPE, "block", range(2))
        + sparsity_genes(SHAPE, LEVELS[:2], range(2), "group", 2),
    ),
    "widths": Space(
        SHAPE,
        structured_genes(SHAPE, "attention", range(2), levels=(2, 1, 0))
        + structured_genes(SHAPE, "queries", range(2), levels=(2, 1))
        + structured_genes(SHAPE, "mlp", range(2), levels="step 16"),
    ),
    "residual width": Space(
        SHAPE,
        structured_genes(SHAPE, "mlp", range(2), levels="3 levels")
        + sparsity_genes(SHAPE, LEVELS[:1], range(2), "sublayer")
        + (hidden_gene(SHAPE, (32, 24, 16), 1, "magnitude"),),
    ),
    "residual width alone": Space(SHAPE, (hidden_gene(SHAPE, "5 levels to 8", 1, "magnitude"),)),
    "drops over own sparsity": Space(
        SHAPE, structured_genes(SHAPE, "mlp", range(2)) + sparsity_genes(SHAPE, LEVELS[:2], range(2), "sublayer")
    ),
}


def random_table(space: Space, seed: int) -> Table:
    rng = np.random.default_rng(seed)
    rows = [(0.0, *np.sort(rng.random(len(gene.levels) - 1)).tolist()) for gene in space.genes]
    return Table(0.1, tuple(rows))


def optimum(space: Space, table: Table) -> float:
    return min(table.sum(genome) for genome in space.all() if space.feasible(genome))


@given(st.sampled_from(sorted(SPACES)), st.floats(0.35, 1.0), st.floats(0.35, 1.0), st.integers(0, 10_000))
def test_equal_to_brute_force_with_two_budgets(name: str, first: float, second: float, seed: int) -> None:
    space = SPACES[name]
    texts = {"linear_weights": f"{first:.3f}x", "block_parameters": f"{second:.3f}x"}
    space = space.with_budgets(parse_budgets(texts, space.dense_costs))
    table = random_table(space, seed)
    if not space.feasible(space.smallest):
        with pytest.raises(SecateurError, match="least this space can reach"):
            solve(space, table)
        return
    solution = solve(space, table)
    assert space.feasible(solution)
    assert space.canonical(solution) == solution
    # With two budgets costs may be rounded up to cells, at most one of 316 for each gene: never over a budget, and no
    # worse than the best that leaves room for that.
    tighter = space.with_budgets(tuple(replace(one, limit=int(0.97 * one.limit)) for one in space.budgets))
    if tighter.feasible(tighter.smallest):
        assert table.sum(solution) <= optimum(tighter, table) + 1e-9


@given(st.sampled_from(sorted(SPACES)), st.floats(0.35, 1.0), st.integers(0, 10_000))
def test_exact_with_one_budget(name: str, ratio: float, seed: int) -> None:
    space = SPACES[name]
    space = space.with_budgets(parse_budgets({"linear_weights": f"{ratio:.3f}x"}, space.dense_costs))
    if space.feasible(space.smallest):
        table = random_table(space, seed)
        assert table.sum(solve(space, table)) == pytest.approx(optimum(space, table))


def test_several_budgets_from_one_sweep() -> None:
    space = SPACES["sparsity"]
    table = random_table(space, 0)
    ratios = ["0.9x", "0.7x", "0.55x"]
    budgets = [parse_budgets({"linear_weights": ratio}, space.dense_costs) for ratio in ratios]
    solutions = [solve(space.with_budgets(one), table) for one in budgets]
    for genome, budget in zip(solutions, budgets, strict=True):
        assert table.sum(genome) == pytest.approx(optimum(space.with_budgets(budget), table))
    losses = [table.sum(genome) for genome in solutions]
    assert losses == sorted(losses)


def test_too_many_drops_on_one_sparsity_gene() -> None:
    shape = anatomy_for(num_hidden_layers=14)
    genes = structured_genes(shape, "mlp", range(14)) + sparsity_genes(shape, LEVELS[:1], range(14), "group", 14)
    space = Space(shape, genes)
    space = space.with_budgets(parse_budgets({"linear_weights": "0.5x"}, space.dense_costs))
    with pytest.raises(SecateurError, match="smaller groups"):
        solve(space, random_table(space, 0))


def test_too_many_widths_of_one_block() -> None:
    shape = anatomy_for(num_hidden_layers=1, num_key_value_heads=4, intermediate_size=2048)
    genes = structured_genes(shape, "attention", [0], levels="step 1") + structured_genes(
        shape, "mlp", [0], levels="step 1"
    )
    space = Space(shape, genes)
    space = space.with_budgets(parse_budgets({"linear_weights": "0.5x"}, space.dense_costs))
    with pytest.raises(SecateurError, match=r"combinations of structured genes hang on attention@0; use fewer levels"):
        solve(space, random_table(space, 0))


def test_a_sweep_scores_every_single_change_and_interpolates_the_rest() -> None:
    space = Space(SHAPE, sparsity_genes(SHAPE, LEVELS, range(2), "block"))
    evaluator = TableEvaluator(space)
    for anchors, scored in ((None, 4), (2, 2), (1, 1)):
        steps = sweep(space, range(2), anchors)
        batch = next(steps)
        assert len(batch.genomes) == 1 + 2 * scored
        assert batch.genomes[0] == space.dense
        try:
            steps.send(list(evaluator(batch.genomes, batch.sequences)))
        except StopIteration as end:
            table = end.value
        for index, row in enumerate(table.added):
            assert list(row) == sorted(row)
            last = space.dense.with_level(index, len(row) - 1)
            assert row[-1] == pytest.approx(evaluator.loss(last) - table.dense)
    assert table.sum(Genome((0, 0))) == table.dense

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.operators.sampling import uniform
from secateur.space.budget import parse_budgets
from secateur.space.build import parse_layers, sparsity_genes, structured_genes
from secateur.space.errors import SecateurError
from secateur.space.gene import Sparsity
from secateur.space.genome import Genome
from secateur.space.space import Space
from tests.tiny import LEVELS, anatomy_for, drop_space, mixed_genes

SHAPE = anatomy_for()
SPACE = Space(SHAPE, mixed_genes(SHAPE))
genomes = st.tuples(*(st.integers(0, len(gene.levels) - 1) for gene in SPACE.genes)).map(Genome)


@given(genomes)
def test_canonical_form_is_stable_and_means_the_same(genome: Genome) -> None:
    canonical = SPACE.canonical(genome)
    assert SPACE.contains(canonical)
    assert SPACE.canonical(canonical) == canonical
    assert SPACE.states(canonical) == SPACE.states(genome)
    assert SPACE.costs(canonical) == SPACE.costs(genome)
    assert SPACE.key(canonical) == SPACE.key(genome)


@given(genomes, genomes)
def test_equal_keys_are_equal_subnets(first: Genome, second: Genome) -> None:
    same = SPACE.states(first) == SPACE.states(second)
    assert (SPACE.key(first) == SPACE.key(second)) == same
    assert (SPACE.canonical(first) == SPACE.canonical(second)) == same


@given(genomes)
def test_json_both_ways(genome: Genome) -> None:
    text = json.dumps(SPACE.to_json(genome))
    assert SPACE.from_json(json.loads(text)) == SPACE.canonical(genome)


@given(genomes, st.integers(0, len(SPACE.genes) - 1))
def test_a_deeper_level_never_costs_more(genome: Genome, index: int) -> None:
    if genome.levels[index] < len(SPACE.genes[index].levels) - 1:
        deeper = SPACE.costs(genome.with_level(index, genome.levels[index] + 1))
        before = SPACE.costs(genome)
        assert all(getattr(deeper, name) <= getattr(before, name) for name in before.to_json())


@given(genomes)
def test_neighbours_differ_in_one_subnet_change(genome: Genome) -> None:
    genome = SPACE.canonical(genome)
    neighbours = list(SPACE.neighbours(genome))
    assert len(set(neighbours)) == len(neighbours)
    assert genome not in neighbours
    assert all(SPACE.canonical(n) == n and SPACE.key(n) != SPACE.key(genome) for n in neighbours)


def test_every_subnet_once() -> None:
    space = drop_space(3)
    everything = list(space.all())
    assert len(everything) == len({space.key(genome) for genome in everything}) == 2**5


def test_a_key_is_the_same_in_another_process_and_another_space() -> None:
    genome = SPACE.from_json({"mlp@2": 0})
    program = "from tests.tiny import drop_space; s = drop_space(); print(s.key(s.from_json({'mlp@2': 0})))"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == SPACE.key(genome)


def test_attention_and_mlp_dropped_is_the_block_dropped() -> None:
    both = SPACE.from_json({"attention@2": 0, "mlp@2": 0})
    assert SPACE.canonical(both) == SPACE.from_json({"block@2": 0})


def test_layer_0_keeps_its_attention_unless_told() -> None:
    kinds = {gene.key for gene in SPACE.genes}
    assert "attention@0" not in kinds
    assert "block@0" not in kinds
    assert "mlp@0" in kinds
    assert structured_genes(SHAPE, "attention", [0], keep_first_attention=False)[0].key == "attention@0"


def test_granularities() -> None:
    counts = {
        per: len(sparsity_genes(SHAPE, LEVELS, range(4), per, group=3))
        for per in ("linear", "sublayer", "block", "group")
    }
    assert counts == {"linear": 28, "sublayer": 8, "block": 4, "group": 2}


def test_a_linear_belongs_to_one_gene() -> None:
    genes = sparsity_genes(SHAPE, LEVELS, range(4), "linear") + sparsity_genes(SHAPE, LEVELS, [1], "block")
    with pytest.raises(SecateurError, match=r"block 1, self_attn.q_proj: covered by both"):
        Space(SHAPE, genes)


def test_a_pattern_that_does_not_fit_names_the_linear() -> None:
    with pytest.raises(SecateurError, match=r"block 0, .*32 inputs are no multiple of 5"):
        sparsity_genes(SHAPE, [Sparsity.parse("2:5")], range(4), "linear")


def test_budgets_relative_and_absolute() -> None:
    dense = SPACE.dense_costs
    relative, absolute, percent = parse_budgets(
        {"parameters": "<= 0.5x", "weight_bytes": "20 kB", "kv_bytes": "75%"}, dense
    )
    assert relative.limit == dense.parameters // 2
    assert absolute.limit == 20_000
    assert percent.limit == dense.kv_bytes * 3 // 4


@pytest.mark.parametrize(
    ("budgets", "message"),
    [
        ({"params": "0.5x"}, "unknown cost 'params'.*parameters"),
        ({"parameters": "small"}, "cannot read 'small'"),
        ({"parameters": ">= 5"}, "cannot read"),
    ],
)
def test_bad_budgets(budgets: dict[str, str], message: str) -> None:
    with pytest.raises(SecateurError, match=message):
        parse_budgets(budgets, SPACE.dense_costs)


def test_an_impossible_budget_says_what_is_possible() -> None:
    space = SPACE.with_budgets(parse_budgets({"parameters": "0.1x"}, SPACE.dense_costs))
    least = SPACE.costs(SPACE.smallest).parameters
    with pytest.raises(SecateurError, match=f"below {least:,}"):
        space.check_budgets()


@given(st.floats(0.01, 1.0), st.integers(0, 1000))
def test_feasibility_is_decided_by_the_smallest_genome(ratio: float, seed: int) -> None:
    space = SPACE.with_budgets(parse_budgets({"nonzero_parameters": f"{ratio:.4f}x"}, SPACE.dense_costs))
    if space.feasible(uniform(space, np.random.default_rng(seed))):
        space.check_budgets()


@pytest.mark.parametrize(
    ("text", "layers"), [("all", (0, 1, 2, 3)), ("1-2", (1, 2)), ("0,2-3", (0, 2, 3)), ([3, 1], (1, 3))]
)
def test_layers(text: str | list[int], layers: tuple[int, ...]) -> None:
    assert parse_layers(text, 4) == layers


@pytest.mark.parametrize("text", ["first", "4", "2-9", "-1", []])
def test_bad_layers(text: str | list[int]) -> None:
    with pytest.raises(SecateurError, match="layers"):
        parse_layers(text, 4)


def test_unknown_genes_and_levels_are_named() -> None:
    with pytest.raises(SecateurError, match="unknown gene 'mlp@9'"):
        SPACE.from_json({"mlp@9": 0})
    with pytest.raises(SecateurError, match=r"gene mlp@1: no level 7; its levels are \[48, 0\]"):
        SPACE.from_json({"mlp@1": 7})
    with pytest.raises(SecateurError, match="2 levels, the space has"):
        SPACE.check(Genome((0, 0)))

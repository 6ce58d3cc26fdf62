import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.operators.sampling import uniform
from secateur.space.budget import parse_budgets
from secateur.space.costs import Additions, weights_left
from secateur.space.errors import SecateurError
from secateur.space.genome import Genome
from secateur.space.kinds.levels import liked_multiple, width_levels
from secateur.space.kinds.settings import parse_layers
from secateur.space.space import Space
from secateur.space.treatments import Sparsity
from tests.genes import hidden_gene, sparsity_genes, structured_genes
from tests.tiny import LEVELS, all_genes, anatomy_for, drop_space, mixed_genes

SHAPE = anatomy_for()
SPACE = Space(SHAPE, all_genes(SHAPE, "magnitude"))
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
    assert SPACE.genes[0].key == "attention@0"
    assert SPACE.genes[0].levels == (2, 1)
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
        ({"parameters": 10**5000}, "cannot read 'a number that long'"),
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
    with pytest.raises(SecateurError, match=r"gene mlp@1: no level 7; its levels are \[48, 32, 16, 0\]"):
        SPACE.from_json({"mlp@1": 7})
    with pytest.raises(SecateurError, match="2 levels, the space has"):
        SPACE.check(Genome((0, 0)))


@pytest.mark.parametrize(
    ("levels", "multiple_of", "kept"),
    [
        ((1024, 512, 0), 1, (1536, 1024, 512, 0)),
        ((1.0, 0.75, 0.5), 1, (1536, 1152, 768)),
        (("75%", "0.1"), 64, (1536, 1152, 128)),
        ("step 512", 1, (1536, 1024, 512, 0)),
        ("step 500 to 0.25", 32, (1536, 1024, 544, 384)),
        ("4 levels", 1, (1536, 1024, 512, 0)),
        ("5 levels to 768", 64, (1536, 1344, 1152, 960, 768)),
        ((0.5, 0.51), 256, (1536, 768)),
        ((1000,), 1, (1536, 1000)),
        (("5e-1", 0.25), 1, (1536, 768, 384)),
        ((1.0, 0.5), 1000, (1536, 1000)),
    ],
)
def test_width_levels(levels: str | tuple[float, ...], multiple_of: int, kept: tuple[int, ...]) -> None:
    assert width_levels("mlp, layer 0", "channels", 1536, levels, multiple_of) == kept


@given(
    st.integers(2, 4000),
    st.lists(st.floats(0, 1).map(lambda share: round(share, 4)), min_size=1, max_size=6),
    st.integers(1, 512),
)
def test_shares_give_multiples_in_order(dense: int, shares: list[float], multiple_of: int) -> None:
    if multiple_of > 1 and multiple_of >= dense:
        with pytest.raises(SecateurError, match=rf"multiple_of {multiple_of} leaves no width"):
            width_levels("mlp, layer 0", "channels", dense, shares, multiple_of)
        return
    try:
        kept = width_levels("mlp, layer 0", "channels", dense, shares, multiple_of)
    except SecateurError as error:
        assert "leave nothing to decide" in str(error)
        assert all(share == 1 or round(share * dense / multiple_of) * multiple_of >= dense for share in shares)
        return
    assert kept[0] == dense
    assert list(kept) == sorted(set(kept), reverse=True)
    assert all(level % multiple_of == 0 or level == dense for level in kept)


@pytest.mark.parametrize(
    ("kind", "levels", "multiple_of", "message"),
    [
        ("mlp", (40,), 16, r"mlp, layer 0: level 40 is no multiple of multiple_of 16"),
        ("mlp", (64,), 1, r"mlp, layer 0: level 64, but there are 48 channels"),
        ("mlp", (0.5,), 48, r"mlp, layer 0: multiple_of 48 leaves no width between 48 channels and none"),
        ("mlp", (1.5,), 1, r"mlp, layer 0: a share goes from 0 to 1, got 1.5; counts are whole numbers"),
        ("mlp", ("half",), 1, r"mlp, layer 0: cannot read level 'half'"),
        ("mlp", "every 8", 1, r"mlp, layer 0: cannot read levels 'every 8'; write 'step 128', '5 levels' or a list"),
        ("attention", (4, 3), 1, r"attention, layer 0: level 4, but there are 2 KV groups \(query heads go with"),
        ("queries", (3,), 1, r"queries, layer 0: level 3, but there are 2 query heads per KV group \(the same number"),
        ("mlp", ((24, 0), (12, 0)), 1, r"mlp: 2 entries in 'levels' for 4 layers; write one list for all layers, or"),
        ("mlp", ((24, 0), 12, 0, 0), 1, r"mlp: 4 entries in 'levels' for 4 layers"),
        ("mlp", ((24,), (), (0,), (0,)), 1, r"mlp, layer 1: levels \(\) leave nothing to decide"),
        ("mlp", (1.0,), 1, r"mlp, layer 0: levels \(1.0,\) leave nothing to decide; add one below 48 channels"),
        ("mlp", (1, 0.5), 1, r"mlp, layer 0: level 1 is a count of one among shares; write 1.0"),
        ("mlp", "step 00", 1, r"mlp, layer 0: cannot read levels 'step 00'"),
    ],
)
def test_widths_that_do_not_fit(kind: str, levels: tuple[float, ...], multiple_of: int, message: str) -> None:
    with pytest.raises(SecateurError, match=message):
        structured_genes(SHAPE, kind, range(4), levels=levels, multiple_of=multiple_of)


def test_levels_layer_by_layer() -> None:
    genes = structured_genes(SHAPE, "mlp", range(4), levels=((24,), (12, 0), (48, 36), (0,)))
    assert [gene.levels for gene in genes] == [(48, 24), (48, 12, 0), (48, 36), (48, 0)]


def test_query_heads_of_a_family_without_groups() -> None:
    with pytest.raises(SecateurError, match=r"queries, layer 0: one query head per KV group.*kind 'attention'"):
        structured_genes(anatomy_for("gpt2"), "queries", range(4), levels=(1,))


@pytest.mark.parametrize(
    ("family", "order", "levels", "message"),
    [
        ("gemma2", "pca", (0.5,), r"hidden: order 'pca' is not possible for family gemma2; none is"),
        ("olmo2", "pca", (0.5,), r"hidden: order 'pca' is not possible for family olmo2.*magnitude"),
        ("llama", "pca", (32, 0), r"hidden: a residual width of 0 is no model"),
        ("llama", "pca", (1.0,), r"hidden: levels \(1.0,\) leave nothing to decide"),
        ("llama", "pca", ((24,), (16,)), r"hidden: needs one list of 'levels' for the whole model"),
    ],
)
def test_residual_widths_that_do_not_fit(family: str, order: str, levels: tuple[float, ...], message: str) -> None:
    with pytest.raises(SecateurError, match=message):
        hidden_gene(anatomy_for(family), levels, 1, order)


def test_a_pattern_must_fit_every_width() -> None:
    widths = structured_genes(SHAPE, "mlp", range(4), levels=(30,))
    with pytest.raises(SecateurError, match=r"block 0, mlp.down_proj: the pattern 2:4 does not fit a width of 30"):
        Space(SHAPE, widths + sparsity_genes(SHAPE, [Sparsity.parse("2:4")], range(4), "sublayer"))


def test_dropping_attention_changes_no_pattern() -> None:
    """With all heads or none a pattern has to fit the 48 inputs of the output projection, not one head's 12."""
    drops = structured_genes(SHAPE, "attention", range(4))
    assert Space(SHAPE, drops + sparsity_genes(SHAPE, [Sparsity.parse("8:16")], range(4), "sublayer")).size > 1
    narrower = structured_genes(SHAPE, "attention", range(4), levels=(2, 1, 0))
    with pytest.raises(SecateurError, match=r"self_attn.o_proj: the pattern 8:16 does not fit a width of 12 inputs"):
        Space(SHAPE, narrower + sparsity_genes(SHAPE, [Sparsity.parse("8:16")], range(4), "sublayer"))


def test_a_projection_must_not_cost_more_than_the_width_saves() -> None:
    shape = anatomy_for(tie_word_embeddings=True)
    first = hidden_gene(shape, (31, 16), 1, "pca")
    with pytest.raises(SecateurError, match=r"hidden: level 31 would cost more than the full width 32"):
        Space(
            anatomy_for(tie_word_embeddings=True, num_hidden_layers=1, intermediate_size=4, vocab_size=8),
            (replace(first, members=((0, -1),)),),
            additions=Additions(projection=True),
        )
    assert Space(shape, (first,), additions=Additions(projection=True)).costs(Genome((1,))).parameters


@pytest.mark.parametrize(
    "make", [lambda: Space(SHAPE, mixed_genes(SHAPE)), lambda: Space(SHAPE, all_genes(SHAPE)), lambda: drop_space(5)]
)
def test_independent_spaces_are_those_where_every_genome_is_canonical(make: Callable[[], Space]) -> None:
    space = make()
    object.__setattr__(space, "independent", False)  # the long way
    rng = np.random.default_rng(0)
    drawn = [Genome(tuple(int(rng.integers(len(gene.levels))) for gene in space.genes)) for _ in range(200)]
    changed = any(space.canonical(genome) != genome for genome in drawn)
    object.__delattr__(space, "independent")
    assert space.activity.independent == (not changed)


@given(st.integers(1, 199))
def test_a_budget_of_weights_admits_that_share_of_zeros_in_every_row(steps: int) -> None:
    """Whatever the lengths of rows: rounding to the nearest weight is no excess."""
    shape = anatomy_for("llama", hidden_size=36, intermediate_size=50)
    level = Sparsity(steps=steps)
    space = Space(shape, sparsity_genes(shape, [level], range(4), "linear"))
    share = f"{1 - level.share:.3f}x"
    budgets = parse_budgets({"linear_weights": f"<= {share}"}, space.dense_costs, partial(weights_left, space.anatomy))
    limited, everywhere = space.with_budgets(budgets), Genome((1,) * len(space.genes))
    assert limited.feasible(everywhere)
    left = space.costs(everywhere).linear_weights
    assert limited.budgets[0].limit <= max(left, int((1 - level.share) * space.dense_costs.linear_weights) + 1)


def test_a_window_holds_no_more_of_the_cache_than_its_length() -> None:
    """Gemma 3 1B at 32,768 tokens: 146 MB, not 872."""
    values = {"num_hidden_layers": 26, "num_key_value_heads": 1, "num_attention_heads": 4, "head_dim": 256}
    types = ["full_attention" if (index + 1) % 6 == 0 else "sliding_attention" for index in range(26)]
    shape = anatomy_for("gemma3_text", sliding_window=512, layer_types=types, **values)
    shape = replace(shape, bytes_per_parameter=2)
    space = Space(shape, structured_genes(shape, "mlp", range(26)), context=32_768)
    assert space.dense_costs.kv_bytes == (22 * 512 + 4 * 32_768) * 2 * 256 * 2


@pytest.mark.parametrize(
    ("dense", "multiple"), [(14_336, 64), (4864, 64), (1536, 64), (576, 32), (48, 2), (33, 1), (7, 1)]
)
def test_widths_are_what_kernels_like_unless_somebody_says_otherwise(dense: int, multiple: int) -> None:
    assert liked_multiple(dense) == multiple
    levels = width_levels("mlp", "channels", dense, "4 levels", None)
    assert all(level % multiple == 0 for level in levels)
    assert width_levels("mlp", "channels", dense, [dense, 5], None) == (dense, 5), "counts are taken at their word"
    assert width_levels("mlp", "channels", dense, [0.7], 1)[1] == round(0.7 * dense)

"""Types of few bits: their bytes, what they fall to, and genes of them."""

import gguf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.operators.rules.uniform_bits import uniform_bits
from secateur.space.bits import TYPES, Bits
from secateur.space.budget import Budget
from secateur.space.errors import SecateurError
from secateur.space.genome import Genome
from secateur.space.kinds.bits import BITS, BitsSettings
from secateur.space.kinds.settings import Wishes
from secateur.space.kinds.table import KINDS
from secateur.space.space import Space
from secateur.space.state import dense_state, settled
from secateur.space.treatments import DENSE, Sparsity, treatment
from tests.genes import structured_genes
from tests.tiny import anatomy_for

SHAPE = anatomy_for(hidden_size=64, intermediate_size=256, num_hidden_layers=2, head_dim=16)


def genes(levels: list[str], per: str = "linear") -> Space:
    asked = BitsSettings.model_validate({"kind": "bits", "levels": levels, "per": per})
    return Space(SHAPE, KINDS["bits"].genes(SHAPE, asked, Wishes()))


@pytest.mark.parametrize("kind", TYPES)
def test_bytes_are_those_of_gguf_files(kind: str) -> None:
    stored = TYPES[kind]
    assert gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(stored.number)] == (stored.block, stored.bytes)
    shape = gguf.quants.quant_shape_to_byte_shape((5, 512), gguf.GGMLQuantizationType[kind])
    assert Bits(kind).bytes(5, 512, 4) == shape[0] * shape[1]


@given(st.sampled_from(sorted(TYPES)), st.integers(1, 4096))
def test_what_falls_is_of_whole_blocks_and_is_the_same_again(kind: str, inputs: int) -> None:
    falling = Bits(kind, falling=True)
    actual = falling.at(inputs)
    assert inputs % actual.stored.block == 0
    assert actual.at(inputs) == actual
    assert falling.bytes(3, inputs, 2) == actual.bytes(3, inputs, 2)
    assert (actual.kind == kind) == (inputs % TYPES[kind].block == 0)


@pytest.mark.parametrize(
    ("kind", "other"),
    [("Q2_K", "Q4_0"), ("Q3_K", "Q4_0"), ("Q4_K", "Q5_0"), ("Q5_K", "Q5_1"), ("Q6_K", "Q8_0"), ("IQ3_S", "IQ4_NL")],
)
def test_rows_fall_to_what_llama_cpp_takes(kind: str, other: str) -> None:
    assert Bits(kind, falling=True).at(576) == Bits(other)
    assert Bits(kind, falling=True).at(1536) == Bits(kind)
    assert Bits(kind, falling=True).at(33) == Bits("F16")


@given(st.sampled_from(sorted(TYPES)), st.booleans())
def test_a_level_is_read_as_it_is_written(kind: str, falling: bool) -> None:
    level = Bits(kind, falling)
    assert treatment(level.to_json()) == level
    assert Bits.read(kind.lower() + (" or other" if falling else "")) == level


def test_unknown_types_are_told() -> None:
    with pytest.raises(SecateurError, match=r"Q4_K_M.*did you mean 'Q4_K'"):
        genes(["Q4_K_M"])


def test_what_does_not_fit_is_refused_with_what_would() -> None:
    with pytest.raises(SecateurError, match=r"(?:48|64) inputs are no multiple of 256.*'or other'"):
        genes(["Q4_K"])


def test_levels_of_a_gene_are_distinct_and_go_from_dense_to_small() -> None:
    space = genes(["Q3_K or other", "Q4_K or other", "Q4_0", "Q8_0"])
    by_site = {gene.site: [str(level) for level in gene.levels] for gene in space.genes}
    # Of 64 inputs Q3_K is Q4_0, too.
    assert by_site["0.self_attn.q_proj"] == [str(DENSE), "bits:Q8_0", "bits:Q4_K or other", "bits:Q3_K or other"]
    last = ["bits:Q4_K or other", "bits:Q4_0", "bits:Q3_K or other"]
    assert by_site["0.mlp.down_proj"] == [str(DENSE), "bits:Q8_0", *last]
    whole = genes(["Q3_K or other", "Q4_K or other"], "sublayer").genes[1]
    assert [str(level) for level in whole.levels] == [str(DENSE), "bits:Q4_K or other", "bits:Q3_K or other"]


def test_states_have_what_rows_are_stored_in() -> None:
    space = genes(["Q3_K or other"], "sublayer")
    state = space.states(space.dense.with_level(1, 1))[0]
    assert {name: str(level) for name, level in state.treated.items()} == {
        "mlp.gate_proj": "bits:Q4_0",
        "mlp.up_proj": "bits:Q4_0",
        "mlp.down_proj": "bits:Q3_K",
    }
    # A plan of these types is this gene's level.
    assert BITS.nearest(space.genes[1], space.states(space.dense.with_level(1, 1)), SHAPE) == 1


def test_a_narrower_linear_falls_by_the_width_it_has() -> None:
    block = SHAPE.blocks[0]
    state = dense_state(block).with_treated({"mlp.down_proj": Bits("Q3_K", falling=True)})
    assert settled(block, state).level("mlp.down_proj") == Bits("Q3_K")
    assert settled(block, state.with_kept(channels=96)).level("mlp.down_proj") == Bits("Q4_0")


def test_levels_that_other_bytes_bring_into_order() -> None:
    """Of 64 inputs Q4_K is Q5_0, which is larger than Q4_1."""
    first, *_ = genes(["Q4_1", "Q4_K or other"]).genes
    assert [str(level) for level in first.levels] == [str(DENSE), "bits:Q4_K or other", "bits:Q4_1"]


def test_a_width_that_takes_more_bytes_than_a_larger_one_is_refused() -> None:
    """Rows of 240 are no whole blocks of anything, and fall to half precision."""
    asked = BitsSettings.model_validate({"kind": "bits", "levels": ["Q3_K or other"], "per": "sublayer"})
    own = KINDS["bits"].genes(SHAPE, asked, Wishes())
    with pytest.raises(SecateurError, match="a row of 240 inputs takes 480 bytes as Q3_K or other, one of 256"):
        Space(SHAPE, (*structured_genes(SHAPE, "mlp", range(2), levels=(256, 240)), *own))
    assert Space(SHAPE, (*structured_genes(SHAPE, "mlp", range(2), levels=(256, 64)), *own)).smallest


def test_zeros_say_nothing_of_types() -> None:
    space = genes(["Q8_0", "Q4_0"], "sublayer")
    half = Sparsity.parse(0.5)
    states = [
        dense_state(block).with_treated({linear.name: half for linear in block.linears}) for block in SHAPE.blocks
    ]
    assert all(BITS.nearest(gene, states, SHAPE) == 0 for gene in space.genes)


def test_the_uniform_rule_has_what_llama_cpp_would_write() -> None:
    space = genes(["Q8_0", "Q4_0", "Q3_K or other"])
    budget = Budget("weight_bytes", int(0.999 * uniform_bytes(space, "Q4_0")), "test")
    genome = uniform_bits(space.with_budgets((budget,)))
    kinds = {str(level) for state in space.states(genome) for level in state.treated.values()}
    assert kinds == {"bits:Q4_0", "bits:Q3_K"}


def uniform_bytes(space: Space, kind: str) -> int:
    levels = tuple(gene.treatments.index(Bits(kind)) for gene in space.genes)
    return space.costs(Genome(levels)).weight_bytes


def test_costs_count_packed_bytes() -> None:
    space = genes(["Q8_0"], "block")
    smaller = space.costs(space.dense.with_level(0, 1))
    linears = SHAPE.blocks[0].linears
    packed = sum(34 * linear.weights // 32 for linear in linears)
    dense = sum(linear.weights for linear in linears) * SHAPE.bytes_per_parameter
    assert space.dense_costs.weight_bytes - smaller.weight_bytes == dense - packed
    assert smaller.parameters == space.dense_costs.parameters
    assert smaller.linear_weights == space.dense_costs.linear_weights

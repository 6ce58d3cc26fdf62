"""A space on top of a plan is the part of the whole space that has that plan's levels."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.fitness.treatments import wanted_of
from secateur.fitness.widths.preparation import narrower_sublayers
from secateur.space.base import left_of
from secateur.space.errors import SecateurError
from secateur.space.gene import Gene
from secateur.space.genome import Genome
from secateur.space.kinds.settings import Wishes
from secateur.space.kinds.table import KINDS
from secateur.space.space import Space
from tests.genes import hidden_gene, structured_genes
from tests.tiny import FAMILY_NAMES, anatomy_for

BITS = {"kind": "bits", "levels": ["int8", "int4", "int2"]}


def genes_of(family: str) -> tuple[list[Gene], list[Gene]]:
    """What decides on structure, and what on bits."""
    shape = anatomy_for(family)
    layers = range(len(shape.blocks))
    structure = [*structured_genes(shape, "block", layers, False), *structured_genes(shape, "attention", layers, False)]
    full = shape.blocks[0].dimensions["channels"]
    structure += structured_genes(shape, "mlp", layers, levels=(full, full // 2, 0))
    if shape.hidden_orders:
        structure.append(hidden_gene(shape, (32, 16), 4, "magnitude"))
    asked = KINDS["bits"].settings.model_validate({**BITS, "per": "sublayer"})
    outside = KINDS["bits"].settings.model_validate({**BITS, "of": "embedding"})
    return structure, [
        *KINDS["bits"].genes(shape, asked, Wishes()),
        *KINDS["bits"].genes(shape, outside, Wishes()),
    ]


@pytest.mark.parametrize("family", FAMILY_NAMES)
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_it_is_the_part_with_the_plans_levels(family: str, data: st.DataObject) -> None:
    structure, bits = genes_of(family)
    shape = anatomy_for(family)
    whole = Space(shape, (*structure, *bits))
    below = [data.draw(st.integers(0, len(gene.levels) - 1)) for gene in structure]
    base = whole.states(Genome((*below, *[0] * len(bits))))
    left = left_of(shape, bits, base)
    part = Space(shape, left, base=base)
    chosen = {gene.key: data.draw(st.integers(0, len(gene.levels) - 1)) for gene in bits}
    one = part.canonical(Genome(tuple(chosen[gene.key] for gene in left)))
    other = whole.canonical(Genome((*below, *chosen.values())))
    assert part.states(one) == whole.states(other)
    assert part.costs(one) == whole.costs(other)
    assert part.key(one) == whole.key(other)
    assert part.dense_costs == whole.dense_costs
    assert all(part.active(part.dense))
    assert part.features <= whole.features
    pairs = [(block, state, one) for block, state in zip(shape.blocks, base, strict=True) for one in block.sublayers]
    narrower = base[0].hidden < shape.hidden_size
    assert ("stream" in part.features) == narrower
    assert ("widths" in part.features) == (narrower or any(state.narrowed(block, one) for block, state, one in pairs))
    assert ("drops" in part.features) == any(not state.has(one) for _, state, one in pairs)
    assert {block for block, widths in narrower_sublayers(part).items() if widths} == {
        block.index
        for block, state in zip(shape.blocks, base, strict=True)
        if any(state.narrowed(block, sublayer) for sublayer in block.sublayers)
    }


def test_what_a_plan_has_dropped_is_silent_for_those_above() -> None:
    """A block whose attention is gone is gone with its MLP: two genes, one subnet, one name."""
    shape = anatomy_for("llama", num_hidden_layers=2)
    attention = structured_genes(shape, "attention", range(2), False)
    above = (*structured_genes(shape, "block", range(2), False), *structured_genes(shape, "mlp", range(2)))
    base = Space(shape, attention).states(Genome((1, 0)))
    space = Space(shape, left_of(shape, above, base), base=base)
    by_key = {gene.key: index for index, gene in enumerate(space.genes)}
    dropped = space.canonical(space.dense.with_level(by_key["mlp@0"], 1))
    assert dropped == space.canonical(space.dense.with_level(by_key["block@0"], 1))
    assert len({space.key(genome) for genome in space.all()}) == sum(1 for _ in space.all())
    # Of a block that is gone there is no gene; of all that are gone, no space.
    blocks = structured_genes(shape, "block", range(2), False)
    gone = Space(shape, blocks).states(Genome((1, 0)))
    assert [gene.key for gene in left_of(shape, blocks, gone)] == ["block@1"]
    with pytest.raises(SecateurError, match="dropped everything"):
        left_of(shape, blocks[:1], gone)


def test_what_is_decided_is_not_decided_again() -> None:
    shape = anatomy_for("llama", num_hidden_layers=2)
    full = shape.blocks[0].dimensions["channels"]
    mlps = structured_genes(shape, "mlp", range(2), levels=(full, full // 2, 0))
    bits = KINDS["bits"].genes(shape, KINDS["bits"].settings.model_validate(BITS), Wishes())
    narrowed = Space(shape, mlps).states(Genome((1, 0)))
    with pytest.raises(SecateurError, match=r"keeps \d+ of \d+ channels of layer 0 already, and gene mlp@0 decides"):
        left_of(shape, mlps, narrowed)
    stored = Space(shape, bits).states(Genome((1, *[0] * (len(bits) - 1))))
    with pytest.raises(SecateurError, match=r"has .* at .*8.* already, and gene bits@0"):
        left_of(shape, bits, stored)
    with pytest.raises(SecateurError, match="dropped everything that the genes are about"):
        left_of(shape, mlps[:1], Space(shape, mlps).states(Genome((2, 0))))
    # What a plan stores in few bits has to fit the widths above it.
    grids = KINDS["bits"].genes(
        shape, KINDS["bits"].settings.model_validate({"kind": "bits", "levels": ["int4-g16"]}), Wishes()
    )
    below = Space(shape, grids).states(Genome((1,) * len(grids)))
    odd = structured_genes(shape, "mlp", [0], levels=(full, full - 1))
    with pytest.raises(SecateurError, match=rf"int4-g16 does not fit a width of {full - 1}"):
        Space(shape, odd, base=below)
    assert wanted_of(Space(shape, structured_genes(shape, "mlp", [0]), base=below)).keys() == {
        member for gene in grids for member in gene.members
    }


def test_budgets_are_of_the_dense_model() -> None:
    shape = anatomy_for("llama", num_hidden_layers=2)
    mlps = structured_genes(shape, "mlp", range(2))
    base = Space(shape, mlps).states(Genome((1, 0)))
    above = Space(shape, left_of(shape, structured_genes(shape, "attention", range(2), False), base), base=base)
    assert above.dense_costs == Space(shape, mlps).dense_costs
    assert above.costs(above.dense).parameters < above.dense_costs.parameters
    assert replace(above, base=None).costs(above.dense) == above.dense_costs

"""Costs from a table are those of the blocks' states, whatever genes there are; so is what single steps add."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.space.costs import COSTS, Additions, Costs, block_costs, total
from secateur.space.genome import Genome
from secateur.space.pricing import of_budget
from secateur.space.space import Space
from tests.genes import sparsity_genes
from tests.tiny import LEVELS, all_genes, anatomy_for, mixed_genes

SHAPE = anatomy_for()
LAYERS = range(len(SHAPE.blocks))
SPACES = {
    "zeros": Space(SHAPE, sparsity_genes(SHAPE, LEVELS, LAYERS, "linear")),
    "mixed": Space(SHAPE, mixed_genes(SHAPE)),
    "over blocks": Space(SHAPE, sparsity_genes(SHAPE, LEVELS, LAYERS, "group", 2)),
    "widths": Space(SHAPE, all_genes(SHAPE), additions=Additions(bias=True)),
    "hidden": Space(SHAPE, all_genes(SHAPE, "magnitude")),
    "tied": Space(
        anatomy_for(tie_word_embeddings=True),
        all_genes(anatomy_for(tie_word_embeddings=True), "pca"),
        additions=Additions(projection=True),
    ),
}


def by_states(space: Space, genome: Genome) -> Costs:
    """Block by block, as costs are defined."""
    states = space.states(genome)
    width = space.anatomy.bytes_per_parameter
    blocks = [
        block_costs(block, state, space.context, space.additions, space.cached, width)
        for block, state in zip(space.anatomy.blocks, states, strict=True)
    ]
    return total(space.anatomy, blocks, states[0].hidden, space.additions)


@pytest.mark.parametrize("name", SPACES)
@given(data=st.data())
def test_costs_are_those_of_the_states(name: str, data: st.DataObject) -> None:
    space = SPACES[name]
    for _ in range(3):  # one after the other: a table is kept from one to the next
        levels = data.draw(st.tuples(*(st.integers(0, len(gene.levels) - 1) for gene in space.genes)))
        genome = Genome(levels)
        assert space.costs(genome) == by_states(space, genome)
        assert space.costs(space.canonical(genome)) == space.costs(genome)


@pytest.mark.parametrize("name", SPACES)
@given(data=st.data())
def test_steps_add_what_they_say(name: str, data: st.DataObject) -> None:
    space = SPACES[name]
    genome = Genome(data.draw(st.tuples(*(st.integers(0, len(gene.levels) - 1) for gene in space.genes))))
    exact = [cost for cost in COSTS if getattr(space.dense_costs, cost) is not None]
    for by in (-1, 1):
        moved = space.pricing.moved(genome.levels, by)
        for index, gene in enumerate(space.genes):
            level = genome.levels[index] + by
            if not space.pricing.free[index] or not 0 <= level < len(gene.levels):
                assert not moved[index].any()
                continue
            before, after = space.costs(genome), space.costs(genome.with_level(index, level))
            for cost in exact:
                added = int(of_budget(cost, space.anatomy, 0) @ moved[index])
                assert added == getattr(after, cost) - getattr(before, cost)


def test_who_is_free() -> None:
    assert SPACES["zeros"].pricing.free.all()
    mixed = SPACES["mixed"]
    assert [bool(free) for free in mixed.pricing.free] == [bool(any(gene.treatments)) for gene in mixed.genes]
    # Two that treat the same linears do not add up.
    twice = Space(SHAPE, SPACES["zeros"].genes)
    assert twice.pricing.free.all()


def test_many_structures_are_not_all_remembered() -> None:
    space = SPACES["widths"]
    rng = np.random.default_rng(0)
    for _ in range(300):
        levels = tuple(int(rng.integers(len(gene.levels))) for gene in space.genes)
        assert space.costs(Genome(levels)) == by_states(space, Genome(levels))
    assert all(len(known) <= 128 for known in space.pricing._known)


def test_an_interruption_leaves_no_table_of_another_structure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in a notebook, while tables are filled."""
    space = Space(SHAPE, all_genes(SHAPE))
    dense = by_states(space, space.dense)
    assert space.costs(space.dense) == dense
    pricing, asked = space.pricing, 0
    made = pricing._in_structure

    def interrupted(*arguments: object) -> object:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise KeyboardInterrupt
        return made(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(pricing, "_in_structure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        space.costs(space.smallest)
    assert space.costs(space.dense) == dense
    assert space.costs(space.smallest) == by_states(space, space.smallest)

"""Levels that are apart by as many weights in every gene: a level may move between any two of them."""

from itertools import pairwise

import numpy as np
import pytest
from pydantic import ValidationError

from secateur.operators.mutation import switch_levels
from secateur.space.budget import Budget
from secateur.space.errors import SecateurError
from secateur.space.families.table import anatomy
from secateur.space.genome import Genome
from secateur.space.kinds.settings import Wishes
from secateur.space.kinds.sparsity import SPARSITY, SparsitySettings, equal_weights
from secateur.space.space import Space

SMOLLM2 = {
    "model_type": "llama",
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 6,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}


def space_of(levels: object, per: str = "linear") -> Space:
    """Over linears of three sizes, with a budget that half of the weights and 0.1 % keep."""
    shape = anatomy(SMOLLM2, "float32")
    settings = SparsitySettings(levels=levels, per=per)  # type: ignore[arg-type]
    space = Space(shape, SPARSITY.genes(shape, settings, Wishes()))
    limit = int(0.501 * space.dense_costs.linear_weights)
    return space.with_budgets((Budget("linear_weights", limit, "<= 0.501x"),))


def middle(space: Space) -> Genome:
    return Genome(
        tuple(gene.levels.index(next(one for one in gene.treatments if one.share == 0.5)) for gene in space.genes)
    )


@pytest.mark.parametrize("per", ["linear", "sublayer"])
def test_a_step_is_as_many_weights_in_every_gene(per: str) -> None:
    space = space_of("0.5 step 1.5%", per)
    weights: list[list[int]] = []
    for index, gene in enumerate(space.genes):
        rows = [
            space.costs(space.dense.with_level(index, level)).linear_weights for level in range(1, len(gene.levels))
        ]
        weights.append([before - after for before, after in pairwise(rows)])
        assert any(level.share == 0.5 for level in gene.treatments)
    steps = [step for row in weights for step in row]
    largest = max(
        sum(space.anatomy.blocks[b].linears[place].weights for b, place in gene.members) for gene in space.genes
    )
    # Zeros are whole numbers of each row's weights, and shares multiples of 1/200.
    assert np.mean(steps) == pytest.approx(0.015 * largest, rel=0.01)
    assert {len(gene.levels) for gene in space.genes} <= {len(row) + 2 for row in weights}


def moved(space: Space, parent: Genome, count: int) -> tuple[int, int]:
    """Of children by level switches, how many have weights moved between attention and MLP, and how many there are."""
    rng = np.random.default_rng(0)
    children = {switch_levels(parent, space, rng) for _ in range(count)} - {parent}

    def attention(genome: Genome) -> int:
        """Levels of the genes over attention."""
        return sum(level for level, gene in zip(genome.levels, space.genes, strict=True) if "self_attn" in gene.site)

    before = attention(parent)
    return sum(attention(child) != before for child in children), len(children)


def test_switches_move_weights_between_attention_and_mlp() -> None:
    """And leave as many. With shares of each gene they leave fewer: a level of the one is many more weights than one of
    the other, so that only those switches keep a budget that give some of it up."""
    equal = space_of("0.5 step 1.5%")
    across, children = moved(equal, middle(equal), 300)
    assert across > children / 3
    assert spread(equal) < 0.002
    assert spread(space_of([0.4, 0.45, 0.5, 0.55, 0.6])) > 4 * spread(equal)


def spread(space: Space) -> float:
    """How far the sizes of children are apart, in shares of dense."""
    rng = np.random.default_rng(1)
    sizes = [space.costs(switch_levels(middle(space), space, rng)).linear_weights for _ in range(100)]
    return (max(sizes) - min(sizes)) / space.dense_costs.linear_weights


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("half", "cannot read levels 'half'"),
        ("0.5 step 0%", "are no step apart"),
        ("1.5 step 1%", "shares go from 0"),
        ("0.5 step 99%", "too far apart"),
    ],
)
def test_what_cannot_be_read(text: str, said: str) -> None:
    with pytest.raises(SecateurError, match=said):
        equal_weights(text, 100, 1000)


def test_other_kinds_take_no_text() -> None:
    with pytest.raises(ValidationError):
        SparsitySettings(levels=())

"""What a model says of a genome's neighbours from their changes alone is what it says of them as a whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.search.model.features import matrix
from secateur.search.model.loss_model import LossModel
from secateur.space.genome import Genome
from tests.space.test_pricing import SPACES

NAMES = ("zeros", "mixed", "widths")


def fitted(name: str) -> LossModel:
    space, rng = SPACES[name], np.random.default_rng(0)
    added = [[0.0, *np.sort(rng.random(len(gene.levels) - 1)).tolist()] for gene in space.genes]
    model = LossModel(space, added)
    genomes = [Genome(tuple(int(rng.integers(len(gene.levels))) for gene in space.genes)) for _ in range(30)]
    losses = [sum(row[level] for row, level in zip(added, one.levels, strict=True)) + 0.1 for one in genomes]
    model.fit(genomes, [loss * float(rng.uniform(0.8, 1.4)) for loss in losses], [4] * len(genomes))
    return model


MODELS = {name: fitted(name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_neighbours_are_seen_as_anybody_is(name: str, data: st.DataObject) -> None:
    space, model = SPACES[name], MODELS[name]
    counts = [len(gene.levels) for gene in space.genes]
    genome = Genome(data.draw(st.tuples(*(st.integers(0, count - 1) for count in counts))))
    rows = []
    for _ in range(data.draw(st.integers(1, 6))):
        row = list(genome.levels)
        for index in data.draw(st.lists(st.integers(0, len(counts) - 1), max_size=4)):
            row[index] = data.draw(st.integers(0, counts[index] - 1))
        rows.append(Genome(tuple(row)))
    levels = matrix(rows)
    mean, deviation = model.predict(levels)
    own_mean, own_deviation = model.around(genome, levels)
    np.testing.assert_allclose(own_mean, mean, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(own_deviation, deviation, rtol=1e-5, atol=1e-5)
    alone, _ = model.around(genome, levels, deviating=False)
    np.testing.assert_allclose(alone, mean, rtol=1e-8, atol=1e-8)


def test_without_evaluations_it_is_the_prior() -> None:
    space = SPACES["mixed"]
    model = LossModel(space, [[0.0] * len(gene.levels) for gene in space.genes])
    levels = matrix([space.dense.with_level(0, 1)])
    mean, deviation = model.around(space.dense, levels)
    expected = model.predict(levels)
    assert (mean.tolist(), deviation.tolist()) == (expected[0].tolist(), expected[1].tolist())

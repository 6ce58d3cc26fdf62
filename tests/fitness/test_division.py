"""Batches are divided among workers completely, in whole batches of sequences, with little done twice."""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.fitness.evaluator import aligned, neighbours
from secateur.fitness.workers.division import States, divide
from secateur.space.genome import Genome
from tests.tiny import drop_space

SPACE = drop_space(5)


def by_force(states: Sequence[States]) -> int:
    """Blocks to go through: every prefix once, but for those that end in a block that is not there."""
    return len({own[: depth + 1] for own in states for depth in range(len(own)) if not own[depth].removed})


genomes_of = st.lists(
    st.tuples(*(st.integers(0, 1) for _ in SPACE.genes)).map(lambda levels: SPACE.canonical(Genome(levels))),
    min_size=1,
    max_size=24,
    unique=True,
)


@given(genomes_of, st.integers(0, 9), st.integers(1, 40), st.integers(1, 8), st.integers(2, 64))
def test_everything_is_done_once_and_counted(
    genomes: list[Genome], start: int, count: int, size: int, workers: int
) -> None:
    states = [own for _, own in neighbours(SPACE, genomes)]
    sequences = range(start, start + count)
    batches = aligned(sequences, size)
    division = divide(states, batches, workers)
    done = [(genome, index) for part in division.parts for genome in part.genomes for index in part.sequences]
    assert sorted(done) == list(itertools.product(range(len(genomes)), sequences))
    bounds = {batch.start for batch in batches} | {sequences.stop}
    assert all({part.sequences.start, part.sequences.stop} <= bounds for part in division.parts)
    whole = by_force(states) * count
    parts = sum(by_force([states[place] for place in part.genomes]) * len(part.sequences) for part in division.parts)
    assert (division.passes, division.undivided) == (parts, whole)
    assert division.passes >= division.undivided


@given(genomes_of, st.integers(1, 40), st.integers(2, 16))
def test_it_is_never_slower_than_one_worker(genomes: list[Genome], count: int, workers: int) -> None:
    states = [own for _, own in neighbours(SPACE, genomes)]
    division = divide(states, aligned(range(count), 4), workers)
    longest = max(by_force([states[place] for place in part.genomes]) * len(part.sequences) for part in division.parts)
    assert longest <= division.undivided


def test_sequences_are_divided_where_genomes_share_all() -> None:
    """Two that differ in their last block only: by genome nearly all would be done twice, by sequences nothing is."""
    dense = SPACE.dense
    last = dense.with_level(len(SPACE.genes) - 1, 1)
    states = [own for _, own in neighbours(SPACE, [dense, last])]
    division = divide(states, aligned(range(8), 4), 2)
    assert division.passes == division.undivided
    assert [part.sequences for part in division.parts] == [range(4), range(4, 8)]


def test_genomes_are_divided_where_there_is_one_batch() -> None:
    dense = SPACE.dense
    first = dense.with_level(0, 1)
    states = [own for _, own in neighbours(SPACE, [dense, first])]
    division = divide(states, aligned(range(4), 4), 2)
    assert [tuple(part.genomes) for part in division.parts] == [(0,), (1,)]


@pytest.mark.parametrize("workers", [2, 8, 64])
def test_single_changes_are_divided_nearly_evenly(workers: int) -> None:
    """A sweep over 60 sublayers on two sequences, as strategies begin with."""
    space = drop_space(30)
    genomes = [space.dense.with_level(gene, 1) for gene in range(len(space.genes))]
    states = [own for _, own in neighbours(space, genomes)]
    division = divide(states, aligned(range(2), 4), workers)
    work = [by_force([states[place] for place in part.genomes]) for part in division.parts]
    free = [0] * workers
    for one in work:
        free[free.index(min(free))] += one
    # With so many workers the longest is one genome by itself.
    ideal = max(by_force(states) / workers, min(by_force([own]) for own in states))
    assert max(free) <= 1.6 * ideal

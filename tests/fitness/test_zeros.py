"""Zeros that a model has by itself: its costs are those of what is written, and no deeper level has fewer of them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from secateur.fitness.bench import Bench
from secateur.fitness.subnets.materialise import materialised
from secateur.fitness.widths.preparation import WidthSettings
from secateur.fitness.zeros.treatment import Zeros
from secateur.operators.sampling import uniform
from secateur.space.space import Space
from secateur.space.treatments import Sparsity
from tests.fitness.prepared import prepared
from tests.fitness.test_widths import check_costs

CASES = [
    ("llama", "wanda", WidthSettings("magnitude", None, "pca")),
    ("llama", "sparsegpt", WidthSettings("wanda-sp", "least-squares")),
    ("qwen3", "magnitude", WidthSettings("magnitude", "bias", "magnitude")),
    ("phi3", "ria", WidthSettings("flap", None)),
    ("gpt2", "admm", WidthSettings("magnitude", "mask")),
    ("bert", "wanda", WidthSettings("magnitude", None)),
]


@pytest.fixture(params=CASES, ids=["-".join(case[:2]) for case in CASES])
def made(request: Any) -> tuple[Bench, Space]:
    family, pruner, settings = request.param
    return prepared(family, settings, pruner, zeroed=0.6)


def test_costs_are_those_of_what_is_written(made: tuple[Bench, Space]) -> None:
    bench, space = made
    rng = np.random.default_rng(0)
    seen = 0
    for genome in [space.dense, *(uniform(space, rng) for _ in range(25))]:
        states = space.states(genome)
        if all(state.removed for state in states):
            continue
        smaller = materialised(bench.model, space.anatomy, states, bench.weights)
        check_costs(space, genome, smaller)
        seen += 1
    assert seen > 10


def test_no_deeper_level_costs_more(made: tuple[Bench, Space]) -> None:
    """Than by its own zeros alone, that is: a repair or a rotation gives a matrix new weights in place of zeros."""
    bench, space = made
    assert bench.widths is not None
    fresh, unaware = bench.widths.repair is not None or bench.widths.hidden == "pca", replace(space, zeros=None)
    rng = np.random.default_rng(1)
    for _ in range(25):
        genome = space.canonical(uniform(space, rng))
        before = space.costs(genome)
        assert before.linear_weights <= unaware.costs(genome).linear_weights
        if fresh:
            continue
        for neighbour in space.neighbours(genome):
            after = space.costs(neighbour)
            if sum(neighbour.levels) > sum(genome.levels):
                assert after.linear_weights <= before.linear_weights, (space.to_json(genome), space.to_json(neighbour))
                assert after.nonzero_parameters <= before.nonzero_parameters


def test_ratios_are_of_all_places_for_weights() -> None:
    bench, space = prepared("llama", WidthSettings("magnitude", None), zeroed=0.5)
    assert space.dense_costs == replace(space, zeros=None).costs(space.dense)
    assert space.costs(space.dense).linear_weights < 0.7 * space.dense_costs.linear_weights
    assert bench.anatomy.linear_weights == space.dense_costs.linear_weights


def test_pruners_that_update_weights_bring_no_zero_back() -> None:
    for pruner in ("sparsegpt", "admm"):
        bench, space = prepared("llama", WidthSettings("magnitude", None), pruner, zeroed=0.6)
        zeros = bench.compressors["zeros"]
        assert isinstance(zeros, Zeros)
        for gene in space.genes:
            for level in gene.levels if gene.kind.name == "sparsity" else ():
                for block, linear in gene.members:
                    assert isinstance(level, Sparsity)
                    dense, pruned = zeros.store.dense(block, linear), zeros.store.weight(block, linear, level)
                    if float((dense == 0).float().mean()) >= level.share:
                        assert bool((pruned[dense == 0] == 0).all())
                        assert level.of or torch.equal(pruned, dense)

"""The reference decides as the original: the draws that EvoPress's scripts made, the same children and survivors.

The traces were recorded by `record_evopress.py` from the scripts themselves; see there.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secateur.search.steps import Batch, Pool
from secateur.search.strategies.evopress import Schedule, evopress
from secateur.space.budget import Budget
from secateur.space.evaluation import Evaluation
from secateur.space.genome import Genome
from secateur.space.space import Space
from tests.genes import sparsity_genes, structured_genes
from tests.tiny import LEVELS, anatomy_for

TRACES = Path(__file__).parent / "traces"
BLOCKS, POOL = 10, Pool(24, 8)
SCHEDULE = Schedule(generations=12, offspring=8, survivors=(3, 1), tokens=(2 * 8, 6 * 8), first=6)


class Replay:
    """The draws of a trace in the place of a generator's; each must be asked for as it was made."""

    def __init__(self, draws: Sequence[Any]) -> None:
        self._draws = list(draws)

    def integers(self, low: int, high: int | None = None) -> int:
        kind, first, last, value = self._draws.pop(0)
        low, high = (0, low) if high is None else (low, high)
        assert (kind, first, last) == ("integer", low, high - 1)
        return int(value)

    def choice(self, many: int, count: int, replace: bool) -> list[int]:
        kind, among, values = self._draws.pop(0)
        assert (kind, among, len(values), replace) == ("sample", many, count, False)
        return list(values)

    def permutation(self, many: int) -> Any:
        return np.arange(many)

    @property
    def left(self) -> int:
        return len(self._draws)


def space_of(name: str) -> tuple[Space, int]:
    """The space of a trace, and what a level of theirs lacks to one of ours."""
    shape = anatomy_for(num_hidden_layers=BLOCKS)
    if name == "levels":
        return Space(shape, sparsity_genes(shape, LEVELS, range(BLOCKS), "sublayer")), 2
    kinds = ("block",) if name == "blocks" else ("attention", "mlp")
    genes = [gene for kind in kinds for gene in structured_genes(shape, kind, range(BLOCKS), False)]
    return Space(shape, tuple(genes)).with_budgets((Budget("sublayers", 14, "<= 14"),)), 0


@pytest.mark.parametrize("name", ["drops", "blocks", "levels"])
def test_same_draws_same_children_and_survivors(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = json.loads((TRACES / f"{name}.json").read_text())
    space, shift = space_of(name)
    draws = [entry for entry in trace if entry[0] in ("integer", "sample")]
    if name == "blocks":  # MLPs are drawn as well, and then overwritten by what was drawn for attention
        samples = [entry for entry in draws if entry[0] == "sample"]
        draws = samples[::2] + draws[len(samples) :]
    replay = Replay(draws)
    monkeypatch.setattr("secateur.search.strategies.evopress.np.random.default_rng", lambda _: replay)

    def genome(state: Sequence[int]) -> Genome:
        return Genome(tuple(level + shift for level in state[: len(space.genes)]))

    stages: list[tuple[list[Any], list[Genome]]] = [([], [])]
    for entry in trace:
        if entry[0] == "scored":
            stages[-1][0].append(entry[1:])
        elif entry[0] == "survivors":
            stages[-1] = (stages[-1][0], [genome(state) for state in entry[1]])
            stages.append(([], []))
    stages.pop()
    assert len(stages) == 2 * SCHEDULE.generations + (name != "levels"), "the trace has all stages"

    starts = [genome([0] * len(space.genes))] if name == "levels" else []
    steps = evopress(space, POOL, 0, SCHEDULE, "levels", initial=starts)
    batch: Batch | None = next(steps)
    answer = None
    for number, (scored, survivors) in enumerate(stages):
        values = {genome(state): loss for state, _, loss in scored}
        seen: list[int] = []
        while len(seen) < len(scored[0][1]):
            assert batch is not None
            assert batch.genomes == tuple(values), f"stage {number}: the same candidates in the same order"
            seen += batch.sequences
            told = [told_of(space, one, batch.sequences, values[one]) for one in batch.genomes]
            try:
                batch = steps.send(told)
            except StopIteration as end:
                batch, answer = None, end.value
        assert seen == scored[0][1], f"stage {number}: the same minibatch"
        if len(survivors) == 1:
            assert survivors[0] == (batch.incumbent if batch is not None else answer), f"stage {number}"
    assert batch is None
    assert not replay.left


def told_of(space: Space, genome: Genome, sequences: range, loss: float) -> Evaluation:
    return Evaluation(genome, space.key(genome), sequences, {"kl": (loss,) * len(sequences)}, space.costs(genome))


def test_a_trace_says_more_than_a_seed() -> None:
    """The parents change: a trace of a search that stands still would pass whatever children are made."""
    for name in ("drops", "blocks", "levels"):
        trace = json.loads((TRACES / f"{name}.json").read_text())
        winners = [tuple(entry[1][0]) for entry in trace if entry[0] == "survivors" and len(entry[1]) == 1]
        assert len(set(winners)) >= 3

"""Random minibatches: sequences of the pool, drawn without replacement, on which a batch of genomes is scored."""

from collections.abc import Generator, Sequence

import numpy as np

from ..space.evaluation import Evaluation, merged
from ..space.genome import Genome
from ..space.question import Chain
from .steps import Batch, Pool


def minibatch(pool: Pool, count: int, rng: np.random.Generator) -> tuple[range, ...]:
    """`count` sequences of the pool, each at most once, as runs of adjacent ones.

    Draw by draw as EvoPress's scripts (commit 50888a0188): one that has been drawn is drawn again.
    """
    assert count <= pool.sequences, "see stage_sequences"
    drawn: set[int] = set()
    while len(drawn) < count:
        drawn.add(int(rng.integers(pool.sequences)))
    runs: list[range] = []
    for index in sorted(drawn):
        if runs and runs[-1].stop == index:
            runs[-1] = range(runs[-1].start, index + 1)
        else:
            runs.append(range(index, index + 1))
    return tuple(runs)


def scored(
    genomes: Sequence[Genome], runs: Sequence[range], incumbent: Genome | None, trained: Chain = ()
) -> Generator[Batch, list[Evaluation], list[Evaluation]]:
    """Asks for genomes on each of the runs, and makes one evaluation of what is told of each; `trained`: as a batch's.

    Who has failed on one is not asked on the next. An evaluation over several runs has their losses one after the
    other, and its `sequences` are those from the first to the last. Whoever judges batch by batch sees parts: where
    there are budgets on scores, ask for one run.
    """
    parts: dict[Genome, list[Evaluation]] = {genome: [] for genome in genomes}
    for run in runs:
        alive = tuple(genome for genome, told in parts.items() if not told or told[-1].status != "failed")
        if not alive:
            break
        for told in (yield Batch(alive, run, incumbent, trained=trained)):
            parts[told.genome].append(told)
    return [merged(parts[genome]) for genome in genomes]

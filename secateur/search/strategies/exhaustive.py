"""Every genome of a small space."""

from itertools import islice
from typing import Literal

from ...space.errors import SecateurError
from ...space.evaluation import Evaluation
from ...space.settings import Positive
from ...space.space import Space
from ..problem import Problem
from ..steps import Batch, Pool, Steps, best_of
from ..strategy import Strategy

LIMIT = 200_000


class Exhaustive(Strategy):
    """Every genome of a small space, for one plan or a front."""

    name: Literal["exhaustive"] = "exhaustive"
    sequences: Positive = 4
    """On which everything is scored."""

    def check(self, problem: Problem) -> None:
        check_size(problem.space)

    def expected(self, problem: Problem) -> int:
        return problem.space.size * self.sequences * problem.pool.tokens_per_sequence

    def steps(self, problem: Problem) -> Steps:
        return exhaustive(problem.space, problem.pool, self.sequences)

    def compared(self) -> int:
        return self.sequences


def exhaustive(space: Space, pool: Pool, sequences: int, batch: int = 64) -> Steps:
    """Scores every genome that keeps the budgets on the first `sequences` of the pool; returns the true optimum.

    Raises:
        SecateurError: the space has more than `LIMIT` combinations.
    """
    check_size(space)
    genomes = (genome for genome in space.all() if space.feasible(genome))
    best: Evaluation | None = None
    while chunk := tuple(islice(genomes, batch)):
        told = yield Batch(chunk, range(min(sequences, pool.sequences)), best.genome if best else None)
        best = best_of([*([best] if best else []), *told])
    return best.genome if best else None


def check_size(space: Space) -> None:
    """Raises SecateurError when the space is too large to be tried out."""
    if space.size > LIMIT:
        raise SecateurError(f"exhaustive: the space has {space.size:.3g} combinations, more than {LIMIT:,}")

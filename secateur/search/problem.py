"""What a strategy is given: a space, a text, a goal, what it may spend, and where to start."""

from dataclasses import dataclass

from ..space.genome import Genome
from ..space.space import Space
from .archive import Goal
from .loop import Allowance
from .steps import Pool

UNLIMITED = Allowance()


@dataclass(frozen=True, slots=True)
class Problem:
    """A search to be carried out.

    Attributes:
        space: what can be tried, and the budgets.
        pool: the calibration text.
        seed: of all randomness.
        allowance: what the search may spend.
        goal: what a search for a front minimises; None where one plan is asked for, of the least first score.
        starts: genomes to start from, besides what a strategy makes itself.
        questions: names of what else can be asked of its subnets (`space.question.QUESTIONS`).
        limited: there are budgets on scores other than the one that is minimised.
        length: tokens of each sequence that candidates are trained on; None where nothing says how to train.
        timed: the allowance's tokens become known when the run begins, by the speed of the machine.
    """

    space: Space
    pool: Pool
    seed: int
    allowance: Allowance = UNLIMITED
    goal: Goal | None = None
    starts: tuple[Genome, ...] = ()
    questions: frozenset[str] = frozenset()
    limited: bool = False
    length: int | None = None
    timed: bool = False

    def affordable(self, sequences: int) -> int | None:
        """How many evaluations on `sequences` sequences the allowance is good for; None: it has no limit."""
        length = min(sequences, self.pool.sequences) * self.pool.tokens_per_sequence
        tokens = self.allowance.tokens
        return fewest(None if tokens is None else tokens // length, self.allowance.evaluations)


def fewest(*limits: int | None) -> int | None:
    """The least of the limits; None: there is none."""
    return min((limit for limit in limits if limit is not None), default=None)

"""The loop: ask, evaluate, tell, until the strategy has finished or the allowance is spent."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from ..space.evaluation import Evaluation
from ..space.genome import Genome
from .steps import AskTell, Batch


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a search may spend; None is no limit. Tokens are those forwarded one candidate at a time."""

    tokens: int | None = None
    evaluations: int | None = None


Charge = tuple[str, Hashable]
"""A question's name, and what is paid for once in asking it."""


@dataclass(slots=True)
class Spending:
    """What a search has asked for, each charge once a genome, whoever had already paid for it.

    Counted by what is asked and not by what is computed, so that searches that share a journal can be compared at
    equal tokens and a resumed search stops where the uninterrupted one does.
    """

    tokens_per_sequence: int
    tokens: int = 0
    paid: set[tuple[Genome, Charge]] = field(default_factory=set)
    genomes: set[Genome] = field(default_factory=set)

    @property
    def evaluations(self) -> int:
        """Distinct genomes."""
        return len(self.genomes)

    def new(self, batch: Batch) -> dict[tuple[Genome, Charge], int]:
        """The charges of what a batch asks for and that has not been asked for: tokens of each."""
        charges: dict[Charge, int] = {}
        for question in batch.questions:
            own = question.charges(batch.sequences, self.tokens_per_sequence)
            charges |= {(question.name, charge): tokens for charge, tokens in own.items()}
        wanted = {(genome, charge): tokens for genome in batch.genomes for charge, tokens in charges.items()}
        return {one: tokens for one, tokens in wanted.items() if one not in self.paid}

    def price(self, batch: Batch) -> int:
        """Tokens that a batch takes besides what is known."""
        return sum(self.new(batch).values())

    def fits(self, batch: Batch, allowance: Allowance) -> bool:
        """Whether a batch can be paid for out of what is left."""
        tokens = self.tokens + self.price(batch)
        evaluations = len(self.genomes | set(batch.genomes))
        return (allowance.tokens is None or tokens <= allowance.tokens) and (
            allowance.evaluations is None or evaluations <= allowance.evaluations
        )

    def add(self, batch: Batch) -> None:
        """Pays for a batch."""
        new = self.new(batch)
        self.tokens += sum(new.values())
        self.paid |= new.keys()
        self.genomes |= set(batch.genomes)


@dataclass(frozen=True, slots=True)
class Step:
    """One turn of the loop, as told to whoever watches."""

    evaluations: tuple[Evaluation, ...]
    spending: Spending
    incumbent: Genome | None
    correlation: float | None = None


def run(
    strategy: AskTell,
    evaluate: Callable[[Batch], list[Evaluation]],
    spending: Spending,
    allowance: Allowance = Allowance(),
    watch: Callable[[Step], None] = lambda step: None,
) -> Genome | None:
    """Runs a strategy to its end or until its next batch would exceed `allowance`; returns its incumbent.

    `spending` is filled in as it goes; `watch` is called after every batch.
    """
    while (batch := strategy.ask()) is not None and spending.fits(batch, allowance):
        evaluations = evaluate(batch)
        spending.add(batch)
        strategy.tell(evaluations)
        watch(Step(tuple(evaluations), spending, strategy.incumbent, batch.correlation))
    return strategy.incumbent

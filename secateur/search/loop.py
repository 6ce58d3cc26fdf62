"""The loop: ask, evaluate, tell, until the strategy has finished or the allowance is spent."""

from collections.abc import Callable
from dataclasses import dataclass, field

from ..space.evaluation import Evaluation
from ..space.genome import Genome
from ..space.slopes import PASSES
from .steps import AskTell, Batch, Chain

TRAINING_PASSES = 3
"""What a trained token costs, in forward passes: one forward, two backward."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a search may spend; None is no limit. Tokens are those forwarded one candidate at a time."""

    tokens: int | None = None
    evaluations: int | None = None


@dataclass(slots=True)
class Spending:
    """What a search has asked for, each (subnet, sequence) once, whoever had already paid for it.

    Counted by what is asked and not by what is computed, so that searches that share a journal can be compared at
    equal tokens and a resumed search stops where the uninterrupted one does.
    """

    tokens_per_sequence: int
    tokens: int = 0
    seen: set[tuple[Genome, Chain, int]] = field(default_factory=set)
    genomes: set[Genome] = field(default_factory=set)
    sloped: set[tuple[Genome, int]] = field(default_factory=set)
    trained: set[tuple[Genome, Chain]] = field(default_factory=set)

    @property
    def evaluations(self) -> int:
        """Distinct genomes."""
        return len(self.genomes)

    def new(self, batch: Batch) -> set[tuple[Genome, Chain, int]]:
        """What a batch asks for that has not been asked for: (genome, training, sequence)."""
        return {(genome, batch.trained, index) for genome in batch.genomes for index in batch.sequences} - self.seen

    def to_train(self, batch: Batch) -> set[tuple[Genome, Chain]]:
        """Stages of training that a batch asks for and that have not been paid for."""
        stages = [batch.trained[:count] for count in range(1, len(batch.trained) + 1)]
        return {(genome, chain) for genome in batch.genomes for chain in stages} - self.trained

    def price(self, batch: Batch) -> int:
        """Tokens that a batch takes besides what is known; slopes and training by the forward passes they are worth."""
        sloped = {(batch.genomes[0], index) for index in batch.sequences} - self.sloped if batch.slopes else ()
        training = TRAINING_PASSES * sum(chain[-1] for _, chain in self.to_train(batch))
        return (len(self.new(batch)) + PASSES * len(sloped)) * self.tokens_per_sequence + training

    def fits(self, batch: Batch, allowance: Allowance) -> bool:
        """Whether a batch can be paid for out of what is left."""
        tokens = self.tokens + self.price(batch)
        evaluations = len(self.genomes | set(batch.genomes))
        return (allowance.tokens is None or tokens <= allowance.tokens) and (
            allowance.evaluations is None or evaluations <= allowance.evaluations
        )

    def add(self, batch: Batch) -> None:
        self.tokens += self.price(batch)
        self.seen |= self.new(batch)
        self.trained |= self.to_train(batch)
        if batch.slopes:
            self.sloped |= {(batch.genomes[0], index) for index in batch.sequences}
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

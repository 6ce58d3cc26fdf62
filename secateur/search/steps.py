"""What a strategy is: it asks for evaluations and is told them; it never evaluates.

A strategy is written as a generator that yields a `Batch` and receives its evaluations, so that it reads from top to
bottom; `AskTell` turns it into ask and tell and checks what comes back.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ..space.errors import SecateurError
from ..space.evaluation import Evaluation
from ..space.genome import Genome
from ..space.losses import Losses
from ..space.question import Chain, Priced


@dataclass(frozen=True, slots=True)
class Pool:
    """The calibration text as a strategy sees it: how many shuffled sequences there are and how long each is."""

    sequences: int
    tokens_per_sequence: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Genomes to be scored on the same `sequences` of the pool; `incumbent` is the best answer before them.

    `correlation`: Spearman's, of what the strategy's model said of its last candidates and what came out; None where
    there is no model, or nothing to go by yet. `trained`: what the genomes are trained on before they are scored.
    `also`: what else is asked of each of them, untrained, if it does not fail.
    """

    genomes: tuple[Genome, ...]
    sequences: range
    incumbent: Genome | None = None
    correlation: float | None = None
    trained: Chain = ()
    also: tuple[Priced[Any], ...] = ()

    @property
    def questions(self) -> tuple[Priced[Any], ...]:
        """All that is asked."""
        return (Losses(self.trained), *self.also)


Steps = Generator[Batch, list[Evaluation], Genome | None]
"""A strategy in the making: yields batches, receives their evaluations in order, returns its answer."""


Result = TypeVar("Result")


def noted(
    steps: Generator[Batch, list[Evaluation], Result],
    note: Callable[[Batch, list[Evaluation]], None],
    change: Callable[[Batch], Batch] = lambda batch: batch,
) -> Generator[Batch, list[Evaluation], Result]:
    """Passes batches through, as `change` makes them, and notes what they were told."""
    try:
        batch = change(next(steps))
        while True:
            told = yield batch
            note(batch, told)
            batch = change(steps.send(told))
    except StopIteration as end:
        answer: Result = end.value
        return answer


def side_by_side(
    many: Sequence[Generator[Batch, list[Evaluation], Result]],
) -> Generator[Batch, list[Evaluation], list[Result]]:
    """Carries out several at once, so that workers have more to do: what they ask on the same sequences is one batch.

    Who asks on fewest sequences is answered first, so that the others are caught up with. Returns what each comes to.
    """
    results: dict[int, Result] = {}
    pending: dict[int, Batch] = {}

    def advance(number: int, told: list[Evaluation] | None) -> None:
        try:
            pending[number] = next(many[number]) if told is None else many[number].send(told)
        except StopIteration as end:
            results[number] = end.value

    for number in range(len(many)):
        advance(number, None)
    while pending:
        first = min(pending.values(), key=lambda batch: batch.sequences.stop)
        asked = first.sequences, first.questions
        same = {number: one for number, one in sorted(pending.items()) if (one.sequences, one.questions) == asked}
        genomes = tuple(dict.fromkeys(genome for batch in same.values() for genome in batch.genomes))
        told = yield replace(first, genomes=genomes)
        by_genome = dict(zip(genomes, told, strict=True))
        for number, batch in same.items():
            del pending[number]
            advance(number, [by_genome[genome] for genome in batch.genomes])
    return [results[number] for number in range(len(many))]


class AskTell:
    """Ask and tell over `steps`.

    Deterministic given the seed that went into `steps` and what it is told; its state is never stored but rebuilt by
    telling it the same evaluations again.
    """

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._pending: Batch | None = None
        self._started = False
        # In the order of when each was last the best.
        self._incumbents: dict[Genome, None] = {}
        self._failed: set[Genome] = set()

    @property
    def incumbent(self) -> Genome | None:
        """The last of the best genomes so far that did not fail when it was last scored; None before there is one.

        Trainings that fail say nothing of the genome.
        """
        return next((genome for genome in reversed(self._incumbents) if genome not in self._failed), None)

    def ask(self) -> Batch | None:
        """The next batch, the same one until it is told; None when the strategy has finished."""
        if not self._started:
            self._started = True
            self._advance(None)
        return self._pending

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Takes the evaluations of the batch last asked, in its order.

        Raises:
            SecateurError: nothing was asked, or these are not the evaluations of what was asked.
        """
        if self._pending is None:
            raise SecateurError("tell before ask: there is no batch to be told")
        wanted = [(genome.levels, self._pending.sequences) for genome in self._pending.genomes]
        got = [(evaluation.genome.levels, evaluation.sequences) for evaluation in evaluations]
        if wanted != got:
            raise SecateurError(f"told {len(got)} evaluations that are not those of the {len(wanted)} genomes asked")
        if not self._pending.trained:
            for evaluation in evaluations:
                note = self._failed.add if evaluation.status == "failed" else self._failed.discard
                note(evaluation.genome)
        self._advance(list(evaluations))

    def _advance(self, evaluations: list[Evaluation] | None) -> None:
        try:
            self._pending = next(self._steps) if evaluations is None else self._steps.send(evaluations)
            best = self._pending.incumbent
        except StopIteration as end:
            self._pending, best = None, end.value
        if best is not None:
            self._incumbents.pop(best, None)
            self._incumbents[best] = None


def best_of(evaluations: Sequence[Evaluation]) -> Evaluation | None:
    """The evaluation with the lowest loss among those that can be a result; the earliest of equals.

    Where none keeps the budgets on scores, the one that is nearest.
    """
    results = [evaluation for evaluation in evaluations if evaluation.status == "ok"]
    return min(results, key=lambda evaluation: evaluation.rank) if results else None

"""Nothing already computed is computed again: answers by question, subnet and sequence, kept in a journal."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Generic, Protocol

from ..space.evaluation import Evaluation
from ..space.genome import Genome
from ..space.losses import LOSSES, Losses
from ..space.question import Question, Searchable, Told
from ..space.space import Space
from .steps import Batch

Asker = Callable[[Sequence[Genome], range], Iterator[Told]]
"""Answers a question for genomes on a range of sequences: one answer each, or several, on adjacent ranges, as they
finish."""
Evaluator = Asker[Evaluation]
"""Scores genomes as they are."""


class Journal(Protocol):
    """The append-only record of what was answered, on one text."""

    def answers(self, question: Question[Told]) -> Iterable[Told]: ...

    def append(self, question: Question[Told], answer: Told) -> None: ...


class Remembered(Generic[Told]):
    """The answers to one question: from the journal where it has them, from `ask` where it must.

    Every new answer is appended the moment it exists. A subnet that failed on some sequences is not asked on them
    again, and fails wherever one of them is asked for; what it answered on others stays as it was.
    """

    def __init__(self, space: Space, question: Question[Told], ask: Asker[Told], journal: Journal) -> None:
        self._space, self._question, self._ask, self._journal = space, question, ask, journal
        self._parts: dict[str, list[Told]] = {}
        for answer in journal.answers(question):
            self._parts.setdefault(answer.key, []).append(answer)

    def __call__(self, genomes: Sequence[Genome], sequences: range) -> list[Told]:
        """One answer a genome, in their order, on exactly these sequences."""
        keys = [self._space.key(genome) for genome in genomes]
        missing: dict[range, dict[str, Genome]] = {}
        for genome, key in zip(genomes, keys, strict=True):
            for gap in self._known(key, sequences)[1]:
                missing.setdefault(gap, {})[key] = genome
        for gap, lacking in missing.items():
            for answer in self._ask(list(lacking.values()), gap):
                self._journal.append(self._question, answer)
                self._parts.setdefault(answer.key, []).append(answer)
        return [
            self._question.joined(self._known(key, sequences)[0], genome, sequences)
            for genome, key in zip(genomes, keys, strict=True)
        ]

    def _known(self, key: str, sequences: range) -> tuple[list[Told], list[range]]:
        """What is known of a subnet on adjacent parts of `sequences`, in order, and between them what is not.

        Of one that failed on some of them, that alone.
        """
        parts = self._parts.get(key, [])
        for part in parts:
            if part.status == "failed" and _meet(part.sequences, sequences):
                return [part], []
        found: list[Told] = []
        gaps: list[range] = []
        at = sequences.start
        while at < sequences.stop:
            piece = self._longest(parts, range(at, sequences.stop))
            if piece is not None:
                found.append(piece)
                at = piece.sequences.stop
                continue
            starts = [part.sequences.start for part in parts if at < part.sequences.start < sequences.stop]
            stop = min(starts, default=sequences.stop)
            start = gaps.pop().start if gaps and gaps[-1].stop == at else at
            gaps.append(range(start, stop))
            at = stop
        return found, gaps

    def _longest(self, parts: Sequence[Told], sequences: range) -> Told | None:
        """The most that is known from the first of `sequences` on."""
        best: Told | None = None
        for part in parts:
            if part.sequences.start <= sequences.start < part.sequences.stop:
                stop = min(part.sequences.stop, sequences.stop)
                if best is None or stop > best.sequences.stop:
                    best = self._question.within(part, range(sequences.start, stop)) or best
        return best


class Memo:
    """Answers batches, question by question.

    `others`: who answers what is asked beside the losses of subnets as they are; without it nothing else may be asked.
    """

    def __init__(
        self,
        space: Space,
        evaluator: Evaluator,
        journal: Journal,
        others: Callable[[Searchable[Any]], Asker[Any]] | None = None,
    ) -> None:
        self._space, self._journal, self._others = space, journal, others
        self._remembered: dict[Searchable[Any], Remembered[Any]] = {
            LOSSES: Remembered(space, LOSSES, evaluator, journal)
        }

    def __call__(self, batch: Batch) -> list[Evaluation]:
        """Returns one evaluation a genome, in the order of the batch, on exactly its sequences."""
        told: list[Evaluation] = self._of(Losses(batch.trained))(batch.genomes, batch.sequences)
        for question in batch.also:
            alive = [index for index, one in enumerate(told) if one.status != "failed"]
            answers = self._of(question)([batch.genomes[index] for index in alive], batch.sequences)
            for index, answer in zip(alive, answers, strict=True):
                told[index] = replace(told[index], also={**told[index].also, question.name: answer})
        return told

    def _of(self, question: Searchable[Any]) -> Remembered[Any]:
        if question not in self._remembered:
            assert self._others is not None
            self._remembered[question] = Remembered(self._space, question, self._others(question), self._journal)
        return self._remembered[question]


def _meet(first: range, second: range) -> bool:
    return first.start < second.stop and second.start < first.stop

"""Nothing already computed is computed again: answers by question, subnet and sequence, kept in a journal."""

from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Generic, Protocol

from ..space.evaluation import Evaluation
from ..space.genome import Genome
from ..space.losses import LOSSES, Losses
from ..space.question import Answer, Priced, Question, Told
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
        # By subnet, in the order of their first sequence, the shortest first.
        self._parts: dict[str, list[Told]] = {}
        self._failed: dict[str, list[Told]] = {}
        for answer in journal.answers(question):
            self._remember(answer)

    def __call__(self, genomes: Sequence[Genome], sequences: range) -> list[Told]:
        """One answer a genome, in their order, on exactly these sequences."""
        keys = [self._space.key(genome) for genome in genomes]
        known = {key: self._known(key, sequences) for key in keys}
        missing: dict[range, dict[str, Genome]] = {}
        for genome, key in zip(genomes, keys, strict=True):
            for gap in known[key][1]:
                missing.setdefault(gap, {})[key] = genome
        for gap, lacking in missing.items():
            for answer in self._ask(list(lacking.values()), gap):
                self._journal.append(self._question, answer)
                self._remember(answer)
        for key in {key for lacking in missing.values() for key in lacking}:
            known[key] = self._known(key, sequences)
            assert not known[key][1], "who is asked answers on all sequences"
        return [
            self._question.joined(known[key][0], genome, sequences) for genome, key in zip(genomes, keys, strict=True)
        ]

    def _remember(self, answer: Told) -> None:
        kept = self._failed if answer.status == "failed" else self._parts
        insort(kept.setdefault(answer.key, []), answer, key=_place)

    def _known(self, key: str, sequences: range) -> tuple[list[Told], list[range]]:
        """What is known of a subnet on adjacent parts of `sequences`, in order, and between them what is not.

        Where something is not known and it failed on some of them, that alone.
        """
        parts = self._parts.get(key, [])
        found: list[Told] = []
        gaps: list[range] = []
        at = sequences.start
        while at < sequences.stop:
            after = bisect_right(parts, at, key=_start)
            piece = self._piece(parts[:after], range(at, sequences.stop))
            if piece is not None:
                found.append(piece)
                at = piece.sequences.stop
                continue
            stop = min(parts[after].sequences.start, sequences.stop) if after < len(parts) else sequences.stop
            start = gaps.pop().start if gaps and gaps[-1].stop == at else at
            gaps.append(range(start, stop))
            at = stop
        failed = [part for part in self._failed.get(key, []) if _meet(part.sequences, sequences)]
        return (failed[:1], []) if gaps and failed else (found, gaps)

    def _piece(self, parts: Sequence[Told], sequences: range) -> Told | None:
        """What the nearest of the parts says from the first of `sequences` on, and of equally near ones the longest."""
        for part in reversed(parts):
            stop = min(part.sequences.stop, sequences.stop)
            if stop > sequences.start:
                piece = self._question.within(part, range(sequences.start, stop))
                if piece is not None:
                    return piece
        return None


class Memo:
    """Answers batches, question by question.

    `others`: who answers what is asked beside the losses of subnets as they are; without it nothing else may be asked.
    """

    def __init__(
        self,
        space: Space,
        evaluator: Evaluator,
        journal: Journal,
        others: Callable[[Priced[Any]], Asker[Any]] | None = None,
    ) -> None:
        self._space, self._journal, self._others = space, journal, others
        self._remembered: dict[Priced[Any], Remembered[Any]] = {LOSSES: Remembered(space, LOSSES, evaluator, journal)}

    def __call__(self, batch: Batch) -> list[Evaluation]:
        """Returns one evaluation a genome, in the order of the batch, on exactly its sequences."""
        told: list[Evaluation] = self._of(Losses(batch.trained))(batch.genomes, batch.sequences)
        for question in batch.also:
            alive = [index for index, one in enumerate(told) if one.status != "failed"]
            answers = self._of(question)([batch.genomes[index] for index in alive], batch.sequences)
            for index, answer in zip(alive, answers, strict=True):
                told[index] = replace(told[index], also={**told[index].also, question.name: answer})
        return told

    def _of(self, question: Priced[Any]) -> Remembered[Any]:
        if question not in self._remembered:
            assert self._others is not None
            self._remembered[question] = Remembered(self._space, question, self._others(question), self._journal)
        return self._remembered[question]


def _start(answer: Answer) -> int:
    return answer.sequences.start


def _place(answer: Answer) -> tuple[int, int]:
    return answer.sequences.start, answer.sequences.stop


def _meet(first: range, second: range) -> bool:
    return first.start < second.stop and second.start < first.stop

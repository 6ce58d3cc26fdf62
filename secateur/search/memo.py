"""Nothing already computed is computed again: evaluations by subnet and sequence, kept in a journal."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from ..space.evaluation import Evaluation, merged
from ..space.genome import Genome
from ..space.slopes import Slopes, joined
from ..space.space import Space
from .steps import Batch, Chain


class Evaluator(Protocol):
    """Scores genomes on a range of sequences: one or more evaluations a genome, on adjacent ranges, as they finish."""

    def __call__(self, genomes: Sequence[Genome], sequences: range) -> Iterator[Evaluation]: ...


class Journal(Protocol):
    """The append-only record of evaluations."""

    def evaluations(self) -> Iterable[Evaluation]: ...

    def append(self, evaluation: Evaluation) -> None: ...


class SlopeJournal(Protocol):
    """The same of slopes."""

    def slopes(self) -> Iterable[Slopes]: ...

    def append_slopes(self, slopes: Slopes) -> None: ...


class SlopeMemo:
    """Slopes from the journal where it has them, from `find` where it must; of a range only the part that is new."""

    def __init__(self, space: Space, find: Callable[[Genome, range], Slopes], journal: SlopeJournal) -> None:
        self._space, self._find, self._journal = space, find, journal
        self._parts: dict[str, list[Slopes]] = {}
        for slopes in journal.slopes():
            self._parts.setdefault(slopes.key, []).append(slopes)

    def __call__(self, genome: Genome, sequences: range) -> Slopes:
        """On exactly these sequences."""
        parts = self._parts.setdefault(self._space.key(genome), [])
        chain: list[Slopes] = []
        start = sequences.start
        while start < sequences.stop:
            fitting = [p for p in parts if p.sequences.start == start and p.sequences.stop <= sequences.stop]
            if not fitting:
                fitting = [self._find(genome, range(start, sequences.stop))]
                self._journal.append_slopes(fitting[0])
                parts += fitting
            chain.append(max(fitting, key=lambda part: part.sequences.stop))
            start = chain[-1].sequences.stop
        return replace(joined(chain), genome=genome)


class Memo:
    """Answers batches from the journal where it can and from the evaluator where it must.

    Every new evaluation is appended the moment it exists. A subnet that failed on some sequences is not tried on them
    again, and fails every batch that has one of them; what it answered on others stays as it was. `slopes` answers
    batches that ask for them, unless the genome has failed; without it nobody may; `trained` likewise, with a memo for
    each chain of training.
    """

    def __init__(
        self,
        space: Space,
        evaluator: Evaluator,
        journal: Journal,
        slopes: SlopeMemo | None = None,
        trained: Callable[[Chain], "Memo"] | None = None,
    ) -> None:
        self._space = space
        self._slopes = slopes
        self._trained = trained
        self._evaluator = evaluator
        self._journal = journal
        self._parts: dict[str, list[Evaluation]] = {}
        for evaluation in journal.evaluations():
            self._parts.setdefault(evaluation.key, []).append(evaluation)

    def __call__(self, batch: Batch) -> list[Evaluation]:
        """Returns one evaluation a genome, in the order of the batch, on exactly its sequences."""
        if batch.trained:
            assert self._trained is not None
            return self._trained(batch.trained)(replace(batch, trained=()))
        keys = [self._space.key(genome) for genome in batch.genomes]
        missing: dict[range, dict[str, Genome]] = {}
        for genome, key in zip(batch.genomes, keys, strict=True):
            for gap in self._gaps(key, batch.sequences):
                missing.setdefault(gap, {})[key] = genome
        for gap, genomes in missing.items():
            for evaluation in self._evaluator(list(genomes.values()), gap):
                self._journal.append(evaluation)
                self._parts.setdefault(evaluation.key, []).append(evaluation)
        told = [self._answer(genome, key, batch.sequences) for genome, key in zip(batch.genomes, keys, strict=True)]
        if batch.slopes and told[0].status != "failed":
            assert self._slopes is not None
            told[0] = replace(told[0], slopes=self._slopes(batch.genomes[0], batch.sequences))
        return told

    def _gaps(self, key: str, sequences: range) -> list[range]:
        """What of `sequences` has not been scored yet, as maximal ranges."""
        parts = self._parts.get(key, [])
        if any(part.status == "failed" and _meet(part.sequences, sequences) for part in parts):
            return []
        known = {index for part in parts for index in part.sequences}
        gaps: list[range] = []
        for index in sequences:
            if index in known:
                continue
            if gaps and gaps[-1].stop == index:
                gaps[-1] = range(gaps[-1].start, index + 1)
            else:
                gaps.append(range(index, index + 1))
        return gaps

    def _answer(self, genome: Genome, key: str, sequences: range) -> Evaluation:
        parts = self._parts[key]
        failed = next((p for p in parts if p.status == "failed" and _meet(p.sequences, sequences)), None)
        if failed is not None:
            return replace(failed, genome=genome, sequences=sequences)
        pieces = [piece for part in parts for piece in _overlap(part, sequences)]
        pieces.sort(key=lambda piece: piece.sequences.start)
        return replace(merged(pieces), genome=genome)


def _meet(first: range, second: range) -> bool:
    return first.start < second.stop and second.start < first.stop


def _overlap(part: Evaluation, sequences: range) -> list[Evaluation]:
    """The part of an evaluation that lies within `sequences`."""
    start, stop = max(part.sequences.start, sequences.start), min(part.sequences.stop, sequences.stop)
    if start >= stop:
        return []
    inside = slice(start - part.sequences.start, stop - part.sequences.start)
    losses = {name: values[inside] for name, values in part.losses.items()}
    share = (stop - start) / len(part.sequences)
    return [
        replace(
            part,
            sequences=range(start, stop),
            losses=losses,
            tokens=round(part.tokens * share),
            layer_passes=round(part.layer_passes * share),
            seconds=part.seconds * share,
        )
    ]

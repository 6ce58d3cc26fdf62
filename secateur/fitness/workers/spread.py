"""A question put to all workers: batches divided among them, answers as they come, and who has lost its workers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Generic

from ...space.errors import DeviceError
from ...space.evaluation import Evaluation
from ...space.genome import Genome
from ...space.losses import LOSSES, Losses
from ...space.question import Priced, Status, Told
from ...space.space import Space
from ..evaluator import aligned, neighbours
from ..memory import batch_size
from ..workplace import MEASURING
from . import calls
from .division import divide, evenly
from .hand import Call, Lost
from .team import Team

Part = tuple[tuple[Genome, ...], range]


class Spread(Generic[Told]):
    """Answers one question on one text for genomes of `space`: a `search.memo.Asker`.

    Losses of genomes as they are divided by common prefix and sequences; whatever else is asked, by genome.
    """

    def __init__(
        self, team: Team, space: Space, question: Priced[Told], title: str, scores: tuple[str, ...], length: int
    ) -> None:
        """`length`: tokens of a sequence of the text."""
        self._team, self._space, self._question = team, space, question
        self._title, self._scores, self._length = title, scores, length
        self._taught: set[int] = set()
        self._plain = isinstance(question, Losses) and not question.trained

    def __call__(self, genomes: Sequence[Genome], sequences: range) -> Iterator[Told]:
        """One answer a genome, or several on adjacent sequences, as they are finished.

        Raises:
            DeviceError: workers are lost whatever they are given, the dense model too.
        """
        self._teach(sequences)
        yield from self._ask(self._parts(genomes, sequences))

    def _teach(self, sequences: range) -> None:
        """The dense model's answers, each worker some, before all of them want all."""
        missing = [index for index in sequences if index not in self._taught]
        if not missing:
            return
        pieces = evenly(missing, min(self._team.count, len(missing)))
        told: list[Call[None]] = [
            partial(calls.teach, self._title, self._scores, range(piece[0], piece[-1] + 1)) for piece in pieces
        ]
        for _, value in self._team.each(told):
            if isinstance(value, Lost):
                raise DeviceError(f"workers are lost with the dense model: {value.reason}; what is noted is kept")
        self._taught.update(missing)

    def _parts(self, genomes: Sequence[Genome], sequences: range) -> list[Part]:
        if not self._plain:
            return [((genome,), sequences) for genome in genomes]
        pairs = neighbours(self._space, genomes)
        size = batch_size(self._length, not self._team.device.startswith("cpu"))
        division = divide([states for _, states in pairs], aligned(sequences, size), self._team.count)
        self._team.passes += division.passes
        self._team.undivided += division.undivided
        return [(tuple(pairs[place][0] for place in part.genomes), part.sequences) for part in division.parts]

    def _ask(self, parts: Sequence[Part]) -> Iterator[Told]:
        again: list[Part] = []
        alone: list[tuple[Part, str]] = []
        for number, value in self._team.each([self._call(*part) for part in parts], not self._plain):
            genomes, sequences = parts[number]
            if not isinstance(value, Lost):
                yield from map(self._completed, value)
            elif len(genomes) > 1:
                again += [((genome,), sequences) for genome in genomes]
            else:
                alone.append((parts[number], value.reason))
        if alone:
            self._check_dense(alone[0][0][1])
        for (genomes, sequences), reason in alone:
            yield self._question.failed(self._space, genomes[0], sequences, reason)
        if again:
            yield from self._ask(again)

    def _call(self, genomes: tuple[Genome, ...], sequences: range) -> Call[list[Told]]:
        return partial(calls.ask, self._question, self._title, self._scores, genomes, sequences)

    def _check_dense(self, sequences: range) -> None:
        """Raises DeviceError where it is not the candidate that workers are lost with."""
        dense = partial(calls.ask, LOSSES, self._title, self._scores, (self._space.dense,), sequences)
        [(_, value)] = self._team.each([dense])
        if isinstance(value, Lost):
            raise DeviceError(
                f"workers are lost with the dense model too: {value.reason}; they fail nobody: resume where there is "
                "more room, or on healthy machines"
            )

    def _completed(self, answer: Told) -> Told:
        """Costs and budgets are the run's."""
        if not isinstance(answer, Evaluation):
            return answer
        status: Status = "ok" if self._space.feasible(answer.genome) else "infeasible"
        status = "failed" if answer.status == "failed" else status
        return replace(answer, costs=self._space.costs(answer.genome), status=status)


def prepared(team: Team, layers: int, ordered: bool, said: Callable[[str, int, int], None]) -> None:
    """Has everything in the cache that a bench needs: each worker makes its share of the layers.

    `ordered`: heads and channels are put in an order, which has to be known of all layers before levels are made.

    Raises:
        DeviceError: workers are lost.
    """
    shares = [range(first, layers, team.count) for first in range(min(team.count, layers))]
    stages = [(MEASURING, calls.measure_orders)] if ordered else []
    for title, call in [*stages, ("preparing levels", calls.prepare)]:
        said(title, 0, layers)
        done = 0
        for number, value in team.each([partial(call, share) for share in shares], patient=True):
            if isinstance(value, Lost):
                raise DeviceError(f"{title}: workers are lost: {value.reason}; what is prepared is kept")
            done += len(shares[number])
            said(title, done, layers)

"""Populations evaluated as a trie over blocks: candidates that agree up to a block share the activations up to it.

Depth first where the whole model is on the device: one path of the trie is held. Breadth first where its blocks come in
turns: each comes once for the whole population, and the hidden states of all its nodes at one depth are held.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import torch

from ..space.evaluation import Evaluation
from ..space.genome import Genome
from ..space.question import Status
from ..space.space import Space
from ..space.state import BlockState, Outside, outside_of
from .faults import CANDIDATE_ERRORS, Batches, said_of
from .memory import batch_size
from .room import ROOM, Room
from .scores.built_in import score
from .scores.own import OwnScore
from .scores.teacher import Teacher
from .subnets.subnet import Subnet, pointed
from .walk import Walk

LARGEST = 1e100
"""Losses whose squares can still be added up."""


class SubnetEvaluator:
    """Scores genomes on sequences of the teacher's text; leaves the model dense.

    Exact: whoever shares a sequence, it goes through each block in the same company: the sequences of its batch that
    were asked for, batches being aligned in the text. So a candidate's losses do not depend on the others in its
    population.
    """

    def __init__(
        self,
        space: Space,
        subnet: Subnet,
        teacher: Teacher,
        scores: tuple[str, ...],
        own: Mapping[str, OwnScore] = MappingProxyType({}),
        room: Room = ROOM,
    ) -> None:
        self.space, self.subnet, self.teacher, self.scores = space, subnet, teacher, scores
        assert not own or teacher.blocks.shelf is None, "what runs the model by itself needs all of it"
        self._built_in = tuple(name for name in scores if name not in own)
        self._own = own
        self.layer_passes = 0
        self._room, blocks = room, teacher.blocks
        self._apart = not own and not room.stays(blocks.size)
        first = next(blocks.model.parameters())
        self._stream = teacher.text.length * space.anatomy.hidden_size * first.element_size()
        held = 2 if blocks.shelf is not None else len(blocks.modules) + 1
        fitting = max(1, room.hidden // (held * self._stream))
        # By the text alone, so that the company of a sequence does not depend on how much memory there was.
        self._batches = Batches(batch_size(teacher.text.length, blocks.device.type != "cpu"), blocks.device)
        self._at_once = max(1, fitting // self._batches.size) * self._batches.size

    def __call__(self, genomes: Sequence[Genome], sequences: range) -> Iterator[Evaluation]:
        """Yields evaluations as they are finished: every genome on a first part of `sequences`, then on the next."""
        if self.teacher.blocks.shelf is not None:
            yield from self._in_turns(genomes, sequences)
            return
        chunk = self._at_once
        # Aligned, so that the parts of an evaluation do not depend on where it was interrupted.
        start, failed = sequences.start, set()
        while start < sequences.stop:
            stop = min((start // chunk + 1) * chunk, sequences.stop)
            for evaluation in self._on([g for g in genomes if g not in failed], range(start, stop)):
                if evaluation.status == "failed":
                    failed.add(evaluation.genome)
                yield evaluation
            start = stop

    def changed(
        self, genome: Genome, sequences: range, parameters: Callable[[Genome], Mapping[str, torch.Tensor]]
    ) -> Evaluation:
        """One genome with other weights than its subnet's, by parameter names; failing to make them fails it."""
        assert self.teacher.blocks.shelf is None, "training needs the whole model"
        states, before, started = self.space.states(genome), self.layer_passes, time.perf_counter()
        losses: dict[str, tuple[float, ...]] = {}
        try:
            tensors, reason = parameters(genome), ""
        except CANDIDATE_ERRORS as error:
            tensors, reason = {}, said_of(error)
        self.teacher.prepare(sequences)
        if not reason:
            with self.subnet:
                self.subnet.apply(states)
                with pointed(self.teacher.blocks.model, tensors):
                    for part in aligned(sequences, self._at_once):
                        found, reason = self._losses(states, _Path(), part, apart=False)
                        if reason:
                            losses = {}
                            break
                        losses = {name: losses.get(name, ()) + values for name, values in found.items()}
        seconds = time.perf_counter() - started
        return self._evaluation(genome, sequences, losses, reason, self.layer_passes - before, seconds)

    def _in_turns(self, genomes: Sequence[Genome], sequences: range) -> Iterator[Evaluation]:
        """Breadth first: as many sequences at once as have room with all the genomes, or as many genomes with one
        batch."""
        size, failed = min(self._batches.size, max(1, len(sequences))), set()
        fitting, spilled = self._room.hidden // (2 * self._stream), False
        if fitting < len(genomes) * size and self._room.host > self._room.hidden:
            fitting, spilled = self._room.host // (2 * self._stream), True
        together = max(1, min(len(genomes), fitting // size))
        chunk = max(1, fitting // together // self._batches.size) * self._batches.size
        ordered = neighbours(self.space, genomes)
        start = sequences.start
        while start < sequences.stop:
            part = range(start, min((start // chunk + 1) * chunk, sequences.stop))
            self.teacher.prepare(part)
            for first in range(0, len(ordered), together):
                some = [pair for pair in ordered[first : first + together] if pair[0] not in failed]
                for evaluation in self._walked(some, part, spilled) if some else ():
                    if evaluation.status == "failed":
                        failed.add(evaluation.genome)
                    yield evaluation
            start = part.stop

    def _walked(
        self, pairs: Sequence[tuple[Genome, tuple[BlockState, ...]]], sequences: range, spilled: bool
    ) -> Iterator[Evaluation]:
        """One walk through the model for sorted genomes; where memory runs out, two of half as many."""
        genomes, states = [genome for genome, _ in pairs], [states for _, states in pairs]
        started = time.perf_counter()
        batches = aligned(sequences, self._batches.size)
        walk = Walk(self.subnet, self.teacher, states, batches, CANDIDATE_ERRORS, spilled)
        try:
            with self.subnet:
                walk.through_blocks()
                outcomes = [self._outcome(walk, states, index, batches, sequences) for index in range(len(states))]
        except (MemoryError, RuntimeError) as error:
            del walk
            self._batches.smaller(error, len(sequences))
            half = (len(pairs) + 1) // 2
            for some in filter(None, (pairs[:half], pairs[half:])):
                yield from self._walked(some, sequences, spilled)
            return
        self.layer_passes += sum(walk.passes)
        seconds = (time.perf_counter() - started) / len(pairs)
        for genome, (losses, reason), passes in zip(genomes, outcomes, walk.passes, strict=True):
            yield self._evaluation(genome, sequences, losses, reason, passes, seconds)

    def _outcome(
        self,
        walk: Walk,
        states: Sequence[tuple[BlockState, ...]],
        index: int,
        batches: Sequence[range],
        sequences: range,
    ) -> tuple[dict[str, tuple[float, ...]], str]:
        if index in walk.failed:
            return {}, walk.failed[index]
        try:
            self.subnet.set_outside(outside_of(self.space.anatomy.blocks, states[index]))
            return self._scores_of(walk.hidden(index), batches, sequences)
        except CANDIDATE_ERRORS as error:
            return {}, said_of(error)

    def _on(self, genomes: Sequence[Genome], sequences: range) -> Iterator[Evaluation]:
        self.teacher.prepare(sequences)
        started = time.perf_counter()
        path = _Path()
        with self.subnet:
            for genome, states in neighbours(self.space, genomes):
                before = self.layer_passes
                losses, reason = self._losses(states, path, sequences, self._apart)
                now = time.perf_counter()
                yield self._evaluation(genome, sequences, losses, reason, self.layer_passes - before, now - started)
                started = time.perf_counter()

    def _losses(
        self, states: tuple[BlockState, ...], path: "_Path", sequences: range, apart: bool
    ) -> tuple[dict[str, tuple[float, ...]], str]:
        """Per-sequence losses, or none and the reason; `apart`: each block is dense again once it has been passed.

        Raises:
            DeviceError: there is no room for a quarter of the batch, or the device has failed.
        """
        while True:
            before = self.layer_passes
            try:
                return self._scored(states, path, sequences, apart)
            except CANDIDATE_ERRORS as error:
                return {}, said_of(error)
            except (MemoryError, RuntimeError) as error:
                self._batches.smaller(error, len(sequences))
            self.layer_passes = before
            path.forget()

    def _scored(
        self, states: tuple[BlockState, ...], path: "_Path", sequences: range, apart: bool
    ) -> tuple[dict[str, tuple[float, ...]], str]:
        batches = aligned(sequences, self._batches.size)
        anatomy = self.space.anatomy
        self.subnet.set_outside(outside_of(anatomy.blocks, states))
        if path.entered != (entered := outside_of(anatomy.blocks[:1], states[:1])):
            ids = [self.teacher.text.ids[batch.start : batch.stop] for batch in batches]
            path.begin([self.teacher.blocks.embed(rows) for rows in ids], entered)
        for depth in range(path.keep_common(states), len(states)):
            self.subnet.set_block(depth, states[depth])
            hidden = [self.subnet.run(depth, batch) for batch in path.top()]
            if not states[depth].removed:
                self.layer_passes += len(sequences)
            path.push(states[depth], hidden)
            if apart:
                self.subnet.dense_block(depth)
        return self._scores_of(path.top(), batches, sequences)

    def _scores_of(
        self, hidden: Sequence[torch.Tensor], batches: Sequence[range], sequences: range
    ) -> tuple[dict[str, tuple[float, ...]], str]:
        """From what the last block returns for each batch."""
        rows = [
            row
            for batch, states in zip(batches, hidden, strict=True)
            for row in score(self._built_in, states, batch, self.teacher)
        ]
        with torch.inference_mode():
            for name, function in self._own.items():
                for row, value in zip(rows, function(sequences), strict=True):
                    row[name] = value
        losses = {name: tuple(row[name] for row in rows) for name in self.scores}
        for name, values in losses.items():
            if not all(math.isfinite(value) for value in values):
                return {}, f"{name} is not finite"
            if max(map(abs, values)) > LARGEST:
                return {}, f"{name} is too large to be averaged"
        return losses, ""

    def _evaluation(
        self,
        genome: Genome,
        sequences: range,
        losses: dict[str, tuple[float, ...]],
        reason: str,
        layer_passes: int,
        seconds: float,
    ) -> Evaluation:
        status: Status = "failed" if reason else "ok" if self.space.feasible(genome) else "infeasible"
        return Evaluation(
            genome=genome,
            key=self.space.key(genome),
            sequences=sequences,
            losses=losses,
            costs=self.space.costs(genome),
            status=status,
            reason=reason,
            tokens=len(sequences) * self.teacher.text.length,
            layer_passes=layer_passes,
            seconds=seconds,
            score=self.scores[0] if losses else "",
        )


def neighbours(space: Space, genomes: Sequence[Genome]) -> list[tuple[Genome, tuple[BlockState, ...]]]:
    """Genomes with their states, those next to each other that agree longest."""
    pairs = [(genome, space.states(genome)) for genome in genomes]
    blocks = space.anatomy.blocks
    return sorted(pairs, key=lambda pair: [s.sort_key(block) for block, s in zip(blocks, pair[1], strict=True)])


def aligned(sequences: range, size: int) -> list[range]:
    """The parts of `sequences` that lie in the same batch of `size`, batches being counted from sequence 0."""
    starts = [sequences.start, *range((sequences.start // size + 1) * size, sequences.stop, size)]
    return [range(start, min((start // size + 1) * size, sequences.stop)) for start in starts]


class _Path:
    """The current path of the trie: hidden states of all batches before and after each block on it."""

    def __init__(self) -> None:
        self._hidden: list[list[torch.Tensor]] = []
        self._states: list[BlockState] = []
        self.entered: Outside | None = None

    def begin(self, embedded: list[torch.Tensor], entered: Outside) -> None:
        """Starts over from batches as an embedding has made them."""
        self._hidden, self._states, self.entered = [embedded], [], entered

    def forget(self) -> None:
        """Everything: the next to come begins anew."""
        self._hidden, self._states, self.entered = [], [], None

    def top(self) -> list[torch.Tensor]:
        return self._hidden[-1]

    def keep_common(self, states: Sequence[BlockState]) -> int:
        """Forgets what is not shared with `states`; returns the number of blocks that are."""
        common = 0
        while common < min(len(self._states), len(states)) and self._states[common] == states[common]:
            common += 1
        del self._states[common:], self._hidden[common + 1 :]
        return common

    def push(self, state: BlockState, hidden: list[torch.Tensor]) -> None:
        self._states.append(state)
        self._hidden.append(hidden)

"""What a run will hold, from shapes alone, and how a model is placed so that it fits.

Counted in bytes, at the moment of each stage when most is held. `device` is where the model computes; on a CPU it is
the same memory as the host's.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ..space.anatomy import Anatomy, Block
from ..space.errors import SecateurError
from .room import ROOM, Room
from .scores.teacher import HEAD_ROWS, LOGITS_BYTES, TOP
from .zeros.nested import AT_ONCE

Offload = Literal["cpu", "disk"]
FLOAT, DOUBLE, INDEX = 4, 8, 8
CACHES = 3
"""Of weights as candidates have them, of planes, and of repairs: each as large."""
BATCH_TOKENS = 512
"""Tokens that go through a block at once: more do not get faster on 2 to 16 cores, fewer do not use them."""
ACCELERATOR_TOKENS = 16384
"""The same on an accelerator."""
CANDIDATES = 64
"""That are evaluated side by side, in the largest batches."""
UNUSED = 0.4
"""Of weights that come and go, what the C library holds besides, since tensors of other sizes come between."""
LOGITS_COPIES = 5
"""Of a batch's logits, where a loss is passed backwards from."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a model's blocks are.

    Attributes:
        blocks: bytes of blocks that are on the device at once; None: all blocks, all the time.
        offload: where the others wait: in the host's memory (`cpu`), or in the checkpoint's files (`disk`).
        room: for what is computed.
    """

    blocks: int | None = None
    offload: Offload = "disk"
    room: Room = ROOM


WHOLE = Placement()
"""All blocks are on the device."""


class Part(NamedTuple):
    """What one kind of thing takes, in bytes, while most of it is held; `disk`: in the cache."""

    name: str
    device: int
    host: int = 0
    disk: int = 0


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done with a model.

    Attributes:
        item: bytes of a weight as it is computed with.
        texts: (sequences, length) of each text; the first is for calibration.
        prepare: of the one that levels, orders and repairs are made from.
        dense_hidden: scores look at the dense model's last hidden states.
        text: levels, orders or repairs look at the text for that.
        rows, matrix: planes of zeros are made whose weights compete within their row; within their matrix.
        updates: levels have weights of their own, of which there are this many.
        packed: bytes of levels that are kept packed.
        outer: weights of embedding and head at all levels that they may have.
        gram: inputs' products with each other are wanted.
        widths: how many narrower widths are repaired.
        variants: in how many forms other than its own a linear can be wanted, each of which is assembled.
        applied: candidates are carried out as a whole, all blocks at once: they are trained, timed, or run by others.
        backward: some are passed backwards through: trained, or asked for slopes; they are applied then.
        accelerator: the device is not the host.
    """

    anatomy: Anatomy
    item: int
    texts: tuple[tuple[int, int], ...]
    prepare: tuple[int, int]
    dense_hidden: bool = False
    text: bool = False
    rows: bool = False
    matrix: bool = False
    updates: int = 0
    packed: int = 0
    outer: int = 0
    gram: bool = False
    widths: int = 0
    variants: int = 0
    applied: bool = False
    backward: bool = False
    accelerator: bool = False

    @property
    def blocks(self) -> list[int]:
        """Bytes of each dense block."""
        return [self.item * block.parameters for block in self.anatomy.blocks]

    @property
    def outside(self) -> int:
        """Bytes of embedding, norm and head."""
        return self.item * sum(math.prod(tensor.shape) for tensor in self.anatomy.outside)

    @property
    def least(self) -> Room:
        """What one candidate takes with one batch of sequences."""
        return Room(2 * self._batch * self.stream, 0, 0)

    @property
    def _batch(self) -> int:
        length = max(length for _, length in self.texts)
        return min(batch_size(length, self.accelerator), max(sequences for sequences, _ in self.texts))

    def passing(self) -> int:
        """What a block makes between its input and its output, of one batch."""
        widest = max(max(linear.inputs, linear.outputs) for block in self.anatomy.blocks for linear in block.linears)
        return self._batch * (4 * self.stream + 3 * self.stream * widest // self.anatomy.hidden_size)

    @property
    def stream(self) -> int:
        """Bytes of the hidden states of the longest sequence."""
        return max(length for _, length in self.texts) * self.anatomy.hidden_size * self.item

    @property
    def answers(self) -> int:
        """Bytes of the dense model's answers on all texts."""
        top = 0 if self.anatomy.headless else min(TOP, self.anatomy.vocabulary)
        token = top * (self.item + 4) + self.item + self.dense_hidden * self.anatomy.hidden_size * self.item
        return sum(sequences * length * token for sequences, length in self.texts)

    @property
    def _said(self) -> int:
        """Numbers that the model says of a token: one for each of the vocabulary, or without a head the stream's."""
        return self.anatomy.hidden_size if self.anatomy.headless else self.anatomy.vocabulary

    def logits(self) -> int:
        """Of what is scored at once, and what is made of it."""
        rows = min(HEAD_ROWS, max(length for _, length in self.texts))
        return rows * self._said * (self.item + 2 * FLOAT)

    def teaching(self, whole: bool) -> int:
        """While the dense model's answers are made: one sequence after another, or all side by side."""
        sequences, length = max(self.texts)
        at_once = max(HEAD_ROWS, LOGITS_BYTES // (12 * self.anatomy.vocabulary)) if whole else HEAD_ROWS
        logits = min(length, at_once) * self._said * (self.item + 2 * FLOAT)
        return logits + self.stream * (2 if whole else sequences + 1)

    def preparing(self) -> int:
        """While levels, orders and repairs of a block are made."""
        sequences, length = self.prepare
        hidden = 2 * sequences * length * self.anatomy.hidden_size * self.item if self.text else 0
        return hidden + max(self._preparing(block) for block in self.anatomy.blocks)

    def _preparing(self, block: Block) -> int:
        length = self.prepare[1]
        most = max(linear.outputs * linear.inputs for linear in block.linears)
        widest = max(linear.inputs for linear in block.linears)
        weights = sum(linear.outputs * linear.inputs for linear in block.linears)
        statistics = 3 * DOUBLE * length * widest if self.text else 0
        products = 0
        if self.gram:
            inputs = sorted({linear.inputs for linear in block.linears})
            products = DOUBLE * sum(size**2 for size in inputs) + FLOAT * widest**2
        making = 0
        if self.rows:
            making = weights + 2 * FLOAT * most + self._cast(most) + 3 * INDEX * min(most, AT_ONCE)
        if self.matrix:
            making = weights + (FLOAT + 3 * INDEX) * most + self._cast(most)
        if self.updates:
            making = 3 * DOUBLE * widest**2 + (3 * DOUBLE + FLOAT) * most
            products *= 2  # each with its factor
        if self.widths:
            making = max(making, 4 * DOUBLE * widest**2 + 2 * DOUBLE * most)
        return statistics + products + making

    def _cast(self, weights: int) -> int:
        return FLOAT * weights if self.item != FLOAT else 0

    def candidate(self) -> int:
        """Weights that a candidate's block is assembled to, or all its blocks, and the mask of one linear."""
        blocks = sum(self.blocks) if self.applied else max(self.blocks)
        outer = self.item * self._outer
        return blocks + 2 * self._most + outer if self.variants else 0

    @property
    def _most(self) -> int:
        """Weights of the largest matrix that has levels."""
        inside = max(linear.outputs * linear.inputs for block in self.anatomy.blocks for linear in block.linears)
        return max(inside, self._outer)

    @property
    def _outer(self) -> int:
        """Weights of the largest matrix outside the blocks, where one has levels."""
        sizes = [matrix.outputs * matrix.inputs for block in self.anatomy.blocks for matrix in block.outside]
        return max(sizes) if self.outer else 0

    def returning(self) -> int:
        """What a pass backwards keeps of all blocks, and what is made of one linear there."""
        if not self.backward:
            return 0
        length = max(length for _, length in self.texts)
        logits = LOGITS_COPIES * FLOAT * self._batch * length * self.anatomy.vocabulary
        return len(self.anatomy.blocks) * self.passing() + 4 * FLOAT * self._most + logits

    def levels(self) -> int:
        """On disk: what is prepared."""
        weights = self.anatomy.linear_weights
        planes = weights * (self.rows or self.matrix)
        updated = int(self.updates * weights * (self.item / 2 + 1 / 8))
        repaired = (
            self.widths
            * self.item
            * sum(
                sublayer.linears[-1].outputs * sublayer.linears[-1].inputs // 2
                for block in self.anatomy.blocks
                for sublayer in block.sublayers
            )
        )
        return planes + updated + repaired + self.packed

    def parts(self, placement: Placement) -> Iterator[Part]:
        """What a run holds."""
        room, whole = placement.room, placement.blocks is None
        # Blocks come whole.
        most = max(self.blocks)
        here = self.outside + (sum(self.blocks) if placement.blocks is None else placement.blocks // most * most)
        waiting = sum(self.blocks) if not whole and placement.offload == "cpu" else 0
        yield Part("weights", here, waiting)
        yield Part("hidden states", min(room.hidden, self._hidden(whole)), room.host)
        yield Part("statistics", self.preparing())
        yield Part("teacher", self.answers if self.accelerator else self.teaching(whole), 0, self.answers)
        assembled = min(room.assembled, self.variants * sum(self.blocks) + self.item * self.outer)
        # What is applied is held besides, unless there is room for that within.
        beside = self.applied and not room.stays(sum(self.blocks))
        assembled = assembled if beside else max(assembled, self.candidate())
        if whole and not self.accelerator:
            assembled = int(assembled * (1 + UNUSED))
        assembled += self.candidate() if beside else 0
        yield Part("levels", assembled, 0, self.levels())
        yield Part("logits", self.logits())

    def _hidden(self, whole: bool) -> int:
        """Hidden states of the calibration text, as far as they are held together."""
        held = len(self.anatomy.blocks) + 1 if whole else CANDIDATES
        return self.texts[0][0] * self.stream * held

    def peak(self, placement: Placement) -> int:
        """Bytes on the device in the stage that takes most."""
        parts = {part.name: part.device for part in self.parts(placement)}
        answers = self.answers if self.accelerator else 0
        passing = max(self.passing(), self.returning())
        evaluating = parts["hidden states"] + passing + parts["levels"] + parts["logits"]
        return parts["weights"] + answers + max(self.preparing(), self.teaching(placement.blocks is None), evaluating)

    def fits(self, memory: int) -> bool:
        """Whether the whole model can be on a device that gives `memory` bytes."""
        return self.peak(Placement(None, "disk", self.least)) <= memory

    def placed(self, memory: int, host: int, offload: Offload | None, given: str = "model.memory:") -> Placement:
        """How the model is placed on a device that gives `memory` bytes, and its host `host`; `given`: who says so.

        Raises:
            SecateurError: not even one block fits.
        """
        smallest, held = self.least, sum(self.blocks)
        if offload == "cpu" and not self.accelerator:
            raise SecateurError("model.offload: cpu is where the model is; write disk")
        if self.fits(memory):
            left = memory - self.peak(Placement(None, "disk", smallest))
            return Placement(None, "disk", Room(smallest.hidden + left // 4, 0, left // CACHES // 4))
        # A block, and the same as a candidate has it.
        needed = self.peak(Placement(max(self.blocks), "disk", smallest))
        if needed > memory:
            raise SecateurError(
                f"{given} {shown(memory)} are too few: {shown(needed)} would do"
                + self._advice(Placement(max(self.blocks), "disk", smallest))
            )
        left = memory - needed
        # More than all candidates of a batch take is of no use to hidden states, and may keep a few blocks there.
        hidden = min(left // 2, CANDIDATES * self.texts[0][0] * self.stream)
        if offload == "cpu" and held > host:
            raise SecateurError(f"model.offload: the blocks take {shown(held)}, the host has {shown(host)}; write disk")
        if offload is None:
            offload = "cpu" if self.accelerator and held < host // 2 else "disk"
        waiting = (host - held if offload == "cpu" else host) // 2 if self.accelerator else 0
        room = Room(smallest.hidden + hidden, waiting, left // CACHES // 4)
        return Placement(max(self.blocks) + left - hidden - left // 4, offload, room)

    def _advice(self, placement: Placement) -> str:
        """Of what most is, and what makes it less."""
        stages = {
            "the statistics that levels are made from": (self.preparing(), "fewer sequences, or another pruner"),
            "the dense model's answers": (self.teaching(False), "shorter sequences"),
            "a block of the model": (max(self.blocks) + self.candidate(), "a smaller dtype"),
        }
        name, (size, remedy) = max(stages.items(), key=lambda item: item[1][0])
        return f"; {name} alone take {shown(size)}: {remedy} would take less"


def batch_size(length: int, accelerator: bool) -> int:
    """Sequences of `length` tokens that go through a block at once."""
    return max(1, (ACCELERATOR_TOKENS if accelerator else BATCH_TOKENS) // length)


def shown(size: int) -> str:
    """Bytes as text, in units of a thousand."""
    power = min(3, max(0, len(str(size)) - 1) // 3)
    value = size / 1000**power
    digits = 0 if power == 0 or value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {('B', 'kB', 'MB', 'GB')[power]}"

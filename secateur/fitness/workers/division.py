"""How a batch is divided among workers: by common prefix first, then by sequences, so that little is done twice."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ...space.state import BlockState

ROUNDS = 4
"""Parts that a worker may get one after the other: what it has not returned is lost with it."""
ASSEMBLING = 0.2
"""What making a block's weights takes, of the time that a batch of sequences takes to go through it."""
NEARLY = 1.03
"""Of the shortest time: divisions that take no longer are as good, and the finest of them is taken."""

States = tuple[BlockState, ...]
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Part:
    """Which of the genomes, by their places, on which sequences."""

    genomes: range
    sequences: range


@dataclass(frozen=True, slots=True)
class Division:
    """The parts of a batch.

    Attributes:
        each: passes of sequences through blocks that each part takes.
        undivided: what one worker would take for the whole.
    """

    parts: tuple[Part, ...]
    each: tuple[int, ...]
    undivided: int

    @property
    def passes(self) -> int:
        """What all parts take together."""
        return sum(self.each)


def divide(states: Sequence[States], batches: Sequence[range], workers: int) -> Division:
    """Divides genomes and batches of sequences so that `workers` have finished soonest.

    Every genome goes through a batch of sequences in the same company as without workers, so these are not divided;
    genomes that share a prefix stay together.

    Args:
        states: of each genome; those next to each other share most.
        batches: adjacent sequences that go through a block at once.
    """
    new = _new_passes(states)
    whole = [sum(not state.removed for state in own) for own in states]
    size, sequences = max(map(len, batches)), sum(map(len, batches))
    best: tuple[float, list[tuple[int, int]], list[range]] | None = None
    for pieces, groups in _shapes(len(states), len(batches), workers):
        cuts = _cut(new, whole, groups)
        ranges = [range(some[0].start, some[-1].stop) for some in evenly(batches, pieces)]
        lengths = [len(part) + ASSEMBLING * size for part in ranges]
        time = finished([_passes(new, whole, cut) * length for length in lengths for cut in cuts], workers)
        # Finer ones come later.
        if best is None or time <= best[0] or (time <= NEARLY * best[0] and len(cuts) * pieces > _parts(best)):
            best = (min(time, best[0]) if best is not None else time, cuts, ranges)
    assert best is not None
    _, cuts, ranges = best
    parts = tuple(Part(range(start, stop), part) for part in ranges for start, stop in cuts)
    each = tuple(_passes(new, whole, cut) * len(part) for part in ranges for cut in cuts)
    return Division(parts, each, _passes(new, whole, (0, len(states))) * sequences)


def _parts(best: tuple[float, list[tuple[int, int]], list[range]]) -> int:
    return len(best[1]) * len(best[2])


def _shapes(genomes: int, batches: int, workers: int) -> Iterator[tuple[int, int]]:
    """(pieces of the sequences, groups of genomes) worth looking at, coarse ones first."""
    seen = set()
    for rounds in range(1, ROUNDS + 1):
        for pieces in sorted({*_powers(batches), min(batches, workers * rounds)}):
            groups = min(genomes, max(1, -(-workers * rounds // pieces)))
            if pieces <= workers * rounds and (pieces, groups) not in seen:
                seen.add((pieces, groups))
                yield pieces, groups


def _powers(most: int) -> list[int]:
    return [2**power for power in range(most.bit_length()) if 2**power <= most]


def _new_passes(states: Sequence[States]) -> list[int]:
    """Blocks that each genome has to go through if the one before it has."""
    counts = []
    before: States = ()
    for own in states:
        shared = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(before, own, strict=False)))
        counts.append(sum(not state.removed for state in own[shared:]))
        before = own
    return counts


def _passes(new: Sequence[int], whole: Sequence[int], cut: tuple[int, int]) -> int:
    """What a run of genomes takes for each sequence."""
    start, stop = cut
    return whole[start] + sum(new[start + 1 : stop])


def _cut(new: Sequence[int], whole: Sequence[int], groups: int) -> list[tuple[int, int]]:
    """Runs of genomes, at most `groups`, the longest of which is as short as can be."""
    low, high = max(whole), sum(whole)
    while low < high:
        middle = (low + high) // 2
        if len(_runs(new, whole, middle)) <= groups:
            high = middle
        else:
            low = middle + 1
    return _runs(new, whole, low)


def _runs(new: Sequence[int], whole: Sequence[int], most: int) -> list[tuple[int, int]]:
    """Runs of genomes that take at most `most` each, begun anew only where one is full."""
    runs, start, taken = [], 0, 0
    for place in range(len(new)):
        if place > start and taken + new[place] > most:
            runs.append((start, place))
            start, taken = place, 0
        taken += whole[place] if place == start else new[place]
    return [*runs, (start, len(new))]


def evenly(values: Sequence[Value], pieces: int) -> list[Sequence[Value]]:
    """Values in as many runs, as even as can be."""
    bounds = [len(values) * number // pieces for number in range(pieces + 1)]
    return [values[start:stop] for start, stop in itertools.pairwise(bounds)]


def finished(times: Sequence[float], workers: int) -> float:
    """When the last part is done, if whoever is free takes the next."""
    free = [0.0] * min(workers, len(times))
    for time in times:
        first = min(range(len(free)), key=free.__getitem__)
        free[first] += time
    return max(free, default=math.inf)

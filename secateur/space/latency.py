"""Latency as a cost: a table of seconds per sublayer, from which a genome's latency is composed.

The additive model of SPDY and Puzzletron (base, plus one entry per sublayer that is kept), here with an entry for the
rest of a block that is kept at all. The table is measured (`fitness.latency`) or estimated (`roofline`); how far the
sum is from the truth is for whoever timed the whole model to say. Seconds are kept as whole nanoseconds, so that
latency is an integer like every other cost.
"""

import itertools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from .anatomy import HIDDEN, Anatomy, Block
from .state import BlockState

Part = str
"""Of a model that is timed by itself: "base", "block", or the name of a sublayer."""
Size = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Workload:
    """One request: `prefill` tokens a sequence in a batch of `batch`, then `decode` tokens one by one (0: none)."""

    batch: int = 1
    prefill: int = 512
    decode: int = 32

    def __str__(self) -> str:
        batch = f"batch {self.batch}, " if self.batch > 1 else ""
        return f"{batch}{self.prefill} tokens in" + (f", {self.decode} out" if self.decode else "")


@dataclass(frozen=True, slots=True)
class Times:
    """Nanoseconds: of a prefill, and of decoding one token."""

    prefill: int = 0
    decode: int = 0

    def __add__(self, other: "Times") -> "Times":
        return Times(self.prefill + other.prefill, self.decode + other.decode)

    def request(self, workload: Workload) -> int:
        """Nanoseconds of a whole request."""
        return self.prefill + workload.decode * self.decode


@dataclass(frozen=True, slots=True)
class Ratio:
    """To the dense model, timed in turns with it: the median over repeats, and half its 95 % interval."""

    median: float
    spread: float

    @property
    def reliable(self) -> bool:
        """Whether it is known well enough to rank by: to a tenth."""
        return self.spread <= 0.1 * self.median


@dataclass(frozen=True, slots=True)
class Measured:
    """A whole model timed end to end: its own times, the dense model's, and the ratios by name of the latency."""

    device: str
    times: Times
    dense: Times
    ratios: Mapping[str, Ratio]
    repeats: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def measured_from_json(values: Mapping[str, Any]) -> Measured:
    """The inverse of `Measured.to_json`."""
    ratios = {name: Ratio(**ratio) for name, ratio in values["ratios"].items()}
    times, dense = Times(**values["times"]), Times(**values["dense"])
    return Measured(values["device"], times, dense, ratios, values["repeats"])


@dataclass(frozen=True, slots=True)
class Entry:
    """What one part takes: `times`, the median over repeats, and `spread`, half its 95 % interval.

    `part`: "base" (embedding, final norm, head, and what a call takes), "block" (what a block takes besides its
    sublayers), or a sublayer by its name, of `size`: what is kept of each of its dimensions. `kind` numbers blocks of
    equal shape (`kinds`); `hidden` is the residual width.
    """

    part: Part
    kind: int
    size: Size
    hidden: int
    times: Times
    spread: Times = Times()


@dataclass(frozen=True)
class LatencyTable:
    """Entries for every shape of a space, the workload, and where they are from.

    Attributes:
        device: its kind, as torch calls it, or the name that an estimate was made under.
        estimate: made from stated peaks and not measured.
        kinds: for each block, its number among blocks of equal shape.
        machine: what identifies the machine, its threads and versions; or the peaks of an estimate.
    """

    device: str
    estimate: bool
    workload: Workload
    kinds: tuple[int, ...]
    entries: tuple[Entry, ...]
    machine: Mapping[str, Any]

    @cached_property
    def _found(self) -> dict[tuple[Part, int, Size, int], Times]:
        return {(entry.part, entry.kind, entry.size, entry.hidden): entry.times for entry in self.entries}

    def outside(self, hidden: int) -> Times:
        """Of everything that is not in a block, at a residual width."""
        return self._found["base", 0, (), hidden]

    def block(self, block: Block, state: BlockState) -> Times:
        """Of one block in a state; nothing where it is removed."""
        if state.removed:
            return Times()
        kind, hidden = self.kinds[block.index], state.hidden
        times = self._found["block", kind, (), hidden]
        for sublayer in block.sublayers:
            if state.has(sublayer):
                times += self._found[sublayer.name, kind, state.widths(sublayer), hidden]
        return times

    def to_json(self) -> dict[str, Any]:
        rows = [
            [e.part, e.kind, list(e.size), e.hidden, e.times.prefill, e.times.decode, e.spread.prefill, e.spread.decode]
            for e in self.entries
        ]
        workload = {"batch": self.workload.batch, "prefill": self.workload.prefill, "decode": self.workload.decode}
        return {
            "device": self.device,
            "estimate": self.estimate,
            "workload": workload,
            "kinds": list(self.kinds),
            "entries": rows,
            "machine": dict(self.machine),
        }


def table_from_json(values: Mapping[str, Any]) -> LatencyTable:
    """The inverse of `LatencyTable.to_json`."""
    entries = tuple(
        Entry(part, kind, tuple(size), hidden, Times(prefill, decode), Times(wide, spread))
        for part, kind, size, hidden, prefill, decode, wide, spread in values["entries"]
    )
    workload = Workload(**values["workload"])
    return LatencyTable(
        values["device"], values["estimate"], workload, tuple(values["kinds"]), entries, values["machine"]
    )


def kinds(anatomy: Anatomy) -> tuple[int, ...]:
    """For each block, its number among blocks of equal shape (sliding windows make others)."""
    known: dict[Hashable, int] = {}
    return tuple(known.setdefault(block.shape, len(known)) for block in anatomy.blocks)


Shape = tuple[Part, int, Size, int]
"""(part, kind, size, residual width)"""


def shapes(states: Sequence[Sequence[BlockState]], anatomy: Anatomy) -> list[Shape]:
    """Every entry that a table needs; `states` has for each block the states it can take."""
    of = kinds(anatomy)
    found: dict[Shape, None] = {}
    for block, one_block in zip(anatomy.blocks, states, strict=True):
        kind = of[block.index]
        for state in one_block:
            found["base", 0, (), state.hidden] = None
            found["block", kind, (), state.hidden] = None
            for sublayer in block.sublayers:
                if state.has(sublayer):
                    found[sublayer.name, kind, state.widths(sublayer), state.hidden] = None
    return sorted(found)


def monotone(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Raises entries so that nothing larger is faster than anything smaller: noise, or what searches cannot use.

    No level may raise a cost; where a narrower shape really is slower, there is no point in choosing it for its
    latency, and the whole model's timing tells.
    """
    raised: dict[tuple[str, int, Size, int], Entry] = {}
    for entry in sorted(entries, key=lambda e: (e.part, e.kind, e.hidden, e.size)):
        times = Times(max(0, entry.times.prefill), max(0, entry.times.decode))
        for other in raised.values():
            smaller = other.hidden <= entry.hidden and all(a <= b for a, b in zip(other.size, entry.size, strict=False))
            if other.part == entry.part and other.kind == entry.kind and smaller:
                times = Times(max(times.prefill, other.times.prefill), max(times.decode, other.times.decode))
        raised[entry.part, entry.kind, entry.size, entry.hidden] = replace(entry, times=times)
    return tuple(raised.values())


@dataclass(frozen=True, slots=True)
class Peak:
    """What a device can do at most: floating-point operations and bytes of memory traffic a second."""

    flops: float
    bandwidth: float

    def nanoseconds(self, macs: float, traffic: float) -> int:
        """The slower of arithmetic and memory traffic (Williams et al. 2009, the roofline model)."""
        return round(1e9 * max(2 * macs / self.flops, traffic / self.bandwidth))


def roofline(anatomy: Anatomy, wanted: Sequence[Shape], workload: Workload, peak: Peak, name: str) -> LatencyTable:
    """An estimate for a device that is not at hand.

    Each part takes the longer of its arithmetic and of reading its weights once (and the KV cache when decoding), at
    the stated peaks; activations are taken to stay in the cache, launches to cost nothing. So it is a lower bound for
    that device, and never to be mistaken for a measurement.
    """
    of = kinds(anatomy)
    width = anatomy.bytes_per_parameter
    entries = []
    for part, kind, size, hidden in wanted:
        block = anatomy.blocks[of.index(kind)]
        sequences, tokens = workload.batch, workload.batch * workload.prefill
        if part == "block":
            times = Times()
        elif part == "base":
            head = anatomy.head_macs * hidden / anatomy.hidden_size
            # The head is needed for the last position of each sequence only.
            step = peak.nanoseconds(sequences * head, head * width)
            times = Times(step, step)
        else:
            sublayer = block.sublayer(part)
            kept = dict(zip(sublayer.dimensions, size, strict=True))
            sizes = block.sizes({**block.dimensions, **kept, HIDDEN: hidden})
            weights = sum(rows * columns for rows, columns in (one.shape(sizes) for one in sublayer.linears))
            seen = min(workload.prefill, block.window or workload.prefill)
            scores, cache = float(sublayer.mixing(sizes, seen)), float(sublayer.cached(sizes, seen) * width)
            times = Times(
                peak.nanoseconds(tokens * (weights + scores / 2), weights * width),
                peak.nanoseconds(sequences * (weights + scores), weights * width + sequences * cache),
            )
        entries.append(Entry(part, kind, size, hidden, times))
    machine = {"flops": peak.flops, "bandwidth": peak.bandwidth}
    return LatencyTable(name, True, workload, of, monotone(entries), machine)


def every_state(levels: Sequence[Mapping[str, Sequence[int]]]) -> list[list[BlockState]]:
    """For each block all combinations of what it can keep; `levels` by dimension."""
    return [
        [BlockState(dict(zip(one, kept, strict=True))) for kept in itertools.product(*one.values())] for one in levels
    ]

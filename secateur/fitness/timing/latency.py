"""Latency measured through torch: a table of sublayers timed in place, and whole models timed end to end.

Machines are noisy and drift, so nothing is timed by itself: all shapes take turns, an entry is the median of
differences to what was timed in the same turn, and a whole model is timed in turns with the dense one.
"""

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn

from ...space.anatomy import HIDDEN, Anatomy
from ...space.costs import LATENCIES
from ...space.latency import (
    Entry,
    LatencyTable,
    Measured,
    Ratio,
    Shape,
    Times,
    Workload,
    kinds,
    monotone,
    table_from_json,
)
from ...space.state import BlockState, dense_state
from ..cache import cache_folder, digest, read_json, usable, write_json
from ..model.blocks import Blocks
from ..model.device import device_name, synchronise
from ..subnets.materialise import materialised
from ..subnets.subnet import Subnet
from ..subnets.weights import Weights
from .turns import Sample, Turns

VERSION = 1
DECODED = 12
"""Tokens decoded for one sample of a table; their median counts."""
ROUNDS, LEAST = (5, 60), 3
"""At least and at most so many turns over all shapes; so many when time is over before that."""
SETTLED, PATIENCE = 0.03, 4
"""A ratio is known well enough when its 95 % interval is within so much of it; so many times the repeats are tried."""


@torch.inference_mode()
def request(model: Any, ids: torch.Tensor, decode: int) -> Sample:
    """Times one request: ids (batch, time) in, then `decode` tokens one by one over the cache.

    Only the last position's logits are asked for, as in generation.
    """
    options: dict[str, Any] = {"use_cache": decode > 0}
    if "logits_to_keep" in signature(model.forward).parameters:
        options["logits_to_keep"] = 1
    seconds, output = _seconds(lambda: model(input_ids=ids, **options), ids.device)
    steps = []
    for _ in range(decode):
        cache = output.past_key_values
        taken, output = _seconds(
            lambda: model(input_ids=ids[:, :1], past_key_values=cache, **options),  # noqa: B023
            ids.device,
        )
        steps.append(taken)
    return seconds, float(np.median(steps)) if steps else 0.0


def _seconds(action: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    synchronise(device)
    started = time.perf_counter()
    result = action()
    synchronise(device)
    return time.perf_counter() - started, result


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Torch with so many threads, as long as this is open."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def machine(device: torch.device, dtype: str, count: int | None) -> dict[str, Any]:
    """What a measurement depends on besides the model."""
    return {
        "processor": _processor() if device.type == "cpu" else device_name(device),
        "cores": os.cpu_count(),
        "threads": count or torch.get_num_threads(),
        "dtype": dtype,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


class _Contiguous(Weights):
    """Weights as a model of its own would have them: what is a view of the dense one is copied."""

    def __init__(self, weights: Weights) -> None:
        self.__dict__.update(weights.__dict__)

    def block(self, index: int, state: BlockState) -> dict[str, torch.Tensor]:
        parameters = super().block(index, state)
        return {name: tensor.contiguous() for name, tensor in parameters.items()}


def measure_table(
    blocks: Blocks,
    weights: Weights,
    wanted: Sequence[Shape],
    workload: Workload,
    dtype: str,
    count: int | None,
    spread: float,
    seconds: float,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> LatencyTable:
    """Times every shape of `wanted` in place, or reads the table if this machine has measured it before.

    A shape is put into all blocks of its kind at once, with nothing else in the model; less the time of the empty
    blocks, over their number, that is an entry. Turns are repeated until every entry's 95 % interval, over all its
    blocks, is within `spread` of the dense model's time, or `seconds` are over. A measurement that was stopped goes on
    with the turns it has.

    Raises:
        SecateurError: the cache cannot be written, or a file in it is damaged.
    """
    anatomy, of = blocks.anatomy, kinds(blocks.anatomy)
    identity = machine(blocks.device, dtype, count)
    shapes = [list(shape) for shape in wanted]
    name = digest(VERSION, identity, anatomy_digest(anatomy), shapes, str(workload), spread, seconds)
    path = cache_folder() / "latency" / f"{name}.json"
    if usable(path):
        return table_from_json(read_json(path))
    turns = Turns(path.with_suffix(".turns.json"))
    with threads(count):
        subnet = Subnet(blocks, _Contiguous(weights))
        samples = _samples(blocks, subnet, wanted, workload, spread, seconds, turns, watch)
    dense = np.median(samples.pop(None), axis=0)
    entries = []
    for shape in wanted:
        part, kind, size, hidden = shape
        taken, number = _less(samples, shape, of)
        middle, half = np.median(taken, axis=0) / number, _half_interval(taken) / number
        entries.append(Entry(part, kind, size, hidden, _times(middle), _times(half)))
    repeats = len(samples[wanted[0]])
    known = {**identity, "repeats": repeats, "dense": [round(1e9 * value) for value in dense.tolist()]}
    table = LatencyTable(blocks.device.type, False, workload, of, monotone(entries), known)
    write_json(path, table.to_json())
    turns.over()
    return table


def anatomy_digest(anatomy: Anatomy) -> str:
    """Names the shapes of a model."""
    return digest(anatomy.family, str(anatomy.blocks), str(anatomy.outside))


Samples = dict[Shape | None, tuple[Sample, ...]]


def _samples(
    blocks: Blocks,
    subnet: Subnet,
    wanted: Sequence[Shape],
    workload: Workload,
    spread: float,
    seconds: float,
    turns: Turns,
    watch: Callable[[int, int], None],
) -> Samples:
    """Seconds of every shape, turn by turn; those of the dense model under None."""
    ids = torch.zeros((workload.batch, workload.prefill), dtype=torch.int64, device=blocks.device)
    of = kinds(blocks.anatomy)
    decode = min(DECODED, workload.decode)
    order: list[Shape | None] = [None, *wanted]
    with subnet:
        for turn in range(len(turns.rows) - 1, ROUNDS[1]):
            found: dict[Shape | None, Sample] = {}
            for shape in order if turn % 2 else reversed(order):
                subnet.apply(_states(blocks.anatomy, of, shape))
                with blocks.exchanged([] if shape is not None and shape[0] == "base" else blocks.modules):
                    found[shape] = request(blocks.model, ids, decode)
            if turn >= len(turns.rows):  # the first turn only warms up
                turns.add([found[shape] for shape in order])
            watch(len(turns.rows), ROUNDS[1])
            over = turns.seconds > seconds
            if len(turns.rows) >= (LEAST if over else ROUNDS[0]):
                samples = turns.of(order)
                allowed = spread * np.median(samples[None], axis=0)
                halves = [_half_interval(_less(samples, shape, of)[0]) for shape in wanted]
                if all((half <= allowed).all() for half in halves) or over:
                    break
    return turns.of(order)


def _states(anatomy: Anatomy, of: Sequence[int], shape: Shape | None) -> list[BlockState]:
    """The model with one shape in all blocks of its kind and nothing in any other; None: the dense model."""
    if shape is None:
        return [dense_state(block) for block in anatomy.blocks]
    part, kind, size, hidden = shape
    states = []
    for block, number in zip(anatomy.blocks, of, strict=True):
        kept = dict.fromkeys(block.dimensions, 0) | {HIDDEN: hidden}
        for sublayer in block.sublayers:
            if number == kind and part == sublayer.name:
                kept |= zip(sublayer.dimensions, size, strict=True)
        states.append(BlockState(kept))
    return states


def _less(samples: Samples, shape: Shape, of: Sequence[int]) -> tuple[np.ndarray, int]:
    """(seconds less those of what it is put into, turn by turn; by how many blocks to divide)."""
    part, kind, _, hidden = shape
    taken = np.array(samples[shape])
    if part == "base":
        return taken, 1
    if part == "block":
        # All kinds share what an empty block takes.
        return taken - np.array(samples["base", 0, (), hidden]), len(of)
    return taken - np.array(samples["block", kind, (), hidden]), list(of).count(kind)


def _half_interval(samples: Any) -> np.ndarray:
    """Half the 95 % interval of a median, from the interquartile range as if normal: 1.96 * 1.253 / 1.349 = 1.82."""
    low, high = np.percentile(samples, [25, 75], axis=0)
    return np.asarray(1.82 * (high - low) / np.sqrt(len(samples)))


def _times(seconds: np.ndarray) -> Times:
    return Times(*(round(1e9 * value) for value in seconds.tolist()))


def time_model(
    model: nn.Module,
    anatomy: Anatomy,
    weights: Weights,
    states: Sequence[BlockState],
    workload: Workload,
    count: int | None,
    repeats: int,
) -> Measured:
    """Times a subnet as a model of its own, in turns with the dense one, `repeats` times.

    More often, up to `PATIENCE` times as often, while the 95 % interval of a ratio is wider than `SETTLED` of it.

    Raises:
        SecateurError: the subnet has no block left.
    """
    smaller = materialised(model, anatomy, states, weights)
    device = next(model.parameters()).device
    ids = torch.zeros((workload.batch, workload.prefill), dtype=torch.int64, device=device)
    pair = (smaller, model)
    with threads(count):
        for one in pair:
            request(one, ids, min(2, workload.decode))
        return until_settled(
            device.type, lambda: [request(one, ids, workload.decode) for one in pair], workload, repeats
        )


def until_settled(device: str, turn: Callable[[], Sequence[Sample]], workload: Workload, repeats: int) -> Measured:
    """Repeats a turn of (smaller, dense) until the ratios' intervals are narrow enough, or patience is over."""
    taken: list[Sequence[Sample]] = []
    while True:
        taken.append(turn())
        if len(taken) < repeats:
            continue
        measured = compared(device, taken, workload)
        settled = all(ratio.spread <= SETTLED * ratio.median for ratio in measured.ratios.values())
        if settled or len(taken) >= PATIENCE * repeats:
            return measured


def compared(device: str, taken: Sequence[Sequence[Sample]], workload: Workload) -> Measured:
    """From (smaller, dense) samples turn by turn."""
    seconds = np.array(taken)
    whole = seconds[..., 0] + workload.decode * seconds[..., 1]
    parts: Mapping[str, np.ndarray] = dict(zip(LATENCIES, (seconds[..., 0], seconds[..., 1], whole), strict=True))
    ratios = {}
    for name, values in parts.items():
        if (values[:, 1] > 0).all():
            ratio = values[:, 0] / values[:, 1]
            ratios[name] = Ratio(float(np.median(ratio)), float(_half_interval(ratio)))
    middle = np.median(seconds, axis=0)
    return Measured(device, _times(middle[0]), _times(middle[1]), ratios, len(seconds))

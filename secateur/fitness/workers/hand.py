"""A worker's side: it opens what it is given once, answers on it for as long as it lives, and says what it has."""

import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Generic, TypeVar

import torch

from ...space.errors import DeviceError, OutOfMemoryError, SecateurError, StorageError, said
from ...space.space import Space
from ..answers import Answers
from ..bench import Bench, versions
from ..cache import digest
from ..faults import is_of_device, is_of_memory
from ..model.device import device_name
from ..training import Training
from ..workplace import Loaded, Workplace, unwatched
from .device import own_device

LOOK = 1.0
"""Seconds between two looks for whoever started a process."""
T = TypeVar("T")
Papers = Mapping[str, str]
"""What a worker works with, by what it is: answers from workers that differ in any of it are not comparable."""


@dataclass(frozen=True, slots=True)
class Place:
    """What workers are given.

    Attributes:
        space: without what only the run knows: budgets, measured latency, and zeros that the model has by itself.
        training: how genomes are trained, and the title of the text for that.
        threads: that a worker computes with on a CPU; None: as torch chooses.
        papers: what the run itself works with; another model at the same path is another place.
        home: the process of the run, which works for nobody.
    """

    workplace: Workplace
    space: Space
    training: tuple[Training, str] | None = None
    threads: int | None = None
    papers: tuple[tuple[str, str], ...] = ()
    home: str = ""


class Hand:
    """A workplace that was opened in a worker."""

    def __init__(self, place: Place) -> None:
        self.place, self.space = place, place.space
        if place.threads is not None:
            torch.set_num_threads(place.threads)

    @cached_property
    def loaded(self) -> Loaded:
        """The model and its texts, before anything is put in order."""
        workplace = self.place.workplace
        with opening():
            return replace(workplace, device=own_device(workplace.device)).load()

    @cached_property
    def arranged(self) -> Bench:
        """Its bench, of which no level need be ready."""
        loaded = self.loaded
        with opening():
            return loaded.arranged(self.space)

    @cached_property
    def bench(self) -> Bench:
        """Its bench, ready for every genome."""
        bench = self.arranged
        with opening():
            bench.prepare(self.space, unwatched)
        return bench

    @cached_property
    def answers(self) -> Answers:
        """What answers questions on it."""
        trainer = None
        if self.place.training is not None:
            settings, title = self.place.training
            trainer = self.bench.trainer(self.space, settings, title)
        return Answers(self.bench, self.space, trainer)

    @property
    def is_arranged(self) -> bool:
        """Whether its model is in order already."""
        return "arranged" in self.__dict__

    @property
    def papers(self) -> Papers:
        """What it works with, as far as that is known by now."""
        return papers_of(self.arranged if self.is_arranged else self.loaded)


def papers_of(work: Loaded | Bench) -> Papers:
    """What a bench, or what is to become one, works with."""
    papers = {
        "model": work.digest,
        **{f"text '{title}'": text.digest for title, text in work.texts.items()},
        "device": device_name(work.blocks.device),
        "computing": computing(work.blocks.device.type),
        "versions": f"{versions()}, {platform.machine()}",
    }
    if isinstance(work, Bench):
        papers["order"] = digest(work.kept_orders()) if work.orders else ""
    return papers


def computing(device: str) -> str:
    """What numbers depend on besides a device's name: of a CPU, its instructions and how many threads share a sum."""
    return f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}" if device == "cpu" else ""


def worker() -> str:
    """This process, as others are told of it."""
    return f"{platform.node()}, process {os.getpid()}"


@contextmanager
def opening() -> Iterator[None]:
    """What cannot be opened here is no candidate's fault, and ends the run."""
    try:
        yield
    except (StorageError, DeviceError):
        raise
    except SecateurError as error:
        raise DeviceError(f"a worker ({worker()}): {error}") from error


Call = Callable[[Hand], T]
"""Something to be done at a bench; it can be pickled."""


@dataclass(frozen=True, slots=True)
class Lost:
    """In an answer's place: whoever was asked has died, hung, or run out of memory."""

    reason: str


@dataclass(frozen=True, slots=True)
class Answered(Generic[T]):
    """What a worker answers to the call of a number: also who it is, and what it works with."""

    number: int
    worker: str
    papers: Papers
    value: T | Lost


_kept: dict[str, Hand] = {}
"""The last place that was opened here, by its digest."""
_turns = threading.Lock()
"""A worker that is given several threads does one thing at a time: there is one model."""


def work(key: str, place: Place, number: int, call: Call[T]) -> Answered[T]:
    """Carries out a call in a worker, at the bench of a place that `key` names.

    Raises:
        DeviceError: it cannot be opened here; the message says where.
        SecateurError: what the call says of what it was given.
    """
    if worker() == place.home:
        return Answered(number, worker(), {}, Lost("no worker is there"))
    with _turns:
        try:
            if key not in _kept:
                _kept.clear()
                _kept[key] = Hand(place)
            hand = _kept[key]
            value = call(hand)
            return Answered(number, worker(), hand.papers, value)
        except Exception as error:
            reason = _loss(error)
            if reason is None:
                raise
            _kept.clear()  # with all that it held
            return Answered(number, worker(), {}, Lost(reason))


def _loss(error: Exception) -> str | None:
    """Why a worker is of no use for a call that others may carry out; None where the error says something else.

    One whose device has failed ends with what it has to say.
    """
    if isinstance(error, OutOfMemoryError) or is_of_memory(error):
        return said(error) if isinstance(error, OutOfMemoryError) else f"out of memory: {said(error)}"
    if not is_of_device(error) and not (isinstance(error, DeviceError) and is_of_device(error.__cause__ or error)):
        return None
    threading.Timer(LOOK, os._exit, (1,)).start()
    return said(error)


def forget() -> None:
    """Lets go of what a worker has opened."""
    with _turns:
        _kept.clear()


def begin(parent: int) -> None:
    """Has this process live as long as the one that started it, whatever it grows to.

    Signals of the keyboard are for that one. joblib ends a process that has grown by 300 MB since its first task; ours
    holds a model, and caches that grow.
    """
    from joblib.externals.loky import process_executor as executor

    executor._MAX_MEMORY_LEAK_SIZE = 2**62
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK)
        os._exit(1)

    threading.Thread(target=look, daemon=True).start()

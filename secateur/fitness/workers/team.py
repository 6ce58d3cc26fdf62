"""Workers at work: calls go out together, answers come as they are finished, and who is lost costs a repeat."""

import contextlib
import multiprocessing
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar, cast

import joblib

from ...space.errors import DeviceError, SecateurError, said
from .backends import Connection, Crew, connected
from .calls import open_place
from .hand import Answered, Call, Lost, Papers, Place, work

T = TypeVar("T")
TOGETHER, ALONE = 2, 2
"""How often calls are sent out side by side without an answer, before each is sent out by itself; how often that."""
PATIENCE = 24
"""How much longer than a few evaluations what is made once a run may take, or a training."""


class Team:
    """Workers that have opened one place, or will when they are first asked.

    Attributes:
        count: of workers.
        losses: how often a worker was lost.
        passes, undivided: of sequences through blocks, taken by all workers together; and what one would have taken.
    """

    def __init__(self, crew: Crew, place: Place) -> None:
        """
        Raises:
            SecateurError: the crew cannot be reached, or the place cannot be pickled.
        """
        self.crew, self.place, self.losses, self.passes, self.undivided = crew, place, 0, 0, 0
        try:
            self._key = joblib.hash(place)
        except Exception as error:  # whatever the user's own objects say to being pickled
            raise SecateurError(f"workers: they cannot be given this search: {said(error)}") from error
        self._stack = contextlib.ExitStack()
        self._connection: Connection = self._stack.enter_context(connected(crew))
        self.count = self._connection.count
        self._parallel: Any = None
        self._papers: dict[str, str] = {}
        self._reason = ""

    def __enter__(self) -> "Team":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hang_up()
        self._stack.close()

    @property
    def device(self) -> str:
        """What the workers compute on."""
        if "device" not in self._papers:
            self.one(open_place)
        return self._papers["device"]

    @property
    def whole(self) -> bool:
        """Whether each has the whole model on its device."""
        return self.place.workplace.placement.blocks is None

    def told(self) -> str:
        """What working together has cost, in a sentence."""
        twice = 100 * (self.passes / self.undivided - 1) if self.undivided else 0
        lost = f"; {self.losses} times workers were lost" if self.losses else ""
        return f"{self.count} workers: {twice:.0f} % of the layer passes were made more than once{lost}"

    def expect(self, papers: Papers) -> None:
        """Says what workers have to work with; on what they compute only they have to agree."""
        self._papers |= {name: value for name, value in papers.items() if name not in ("device", "computing")}

    def one(self, call: Call[T], patient: bool = False) -> T:
        """The answer to one call; raises DeviceError where whoever is asked is lost, again and again."""
        [(_, value)] = self.each([call], patient)
        if isinstance(value, Lost):
            raise DeviceError(f"workers: none of them could do what they were asked: {value.reason}")
        return value

    def each(self, calls: Sequence[Call[T]], patient: bool = False) -> Iterator[tuple[int, T | Lost]]:
        """The answers to all calls with their numbers, as they come; `Lost` to who loses workers when it is alone.

        `patient`: the calls take long; `PATIENCE` times the time-out is theirs.

        Raises:
            DeviceError: a worker has another model, other texts or another device, or cannot open its place.
        """
        left, fruitless = dict(enumerate(calls)), 0
        alone: Counter[int] = Counter()
        while left:
            first, answers = next(iter(left)), 0
            some = dict(left) if fruitless < TOGETHER else {first: left[first]}
            for number, value in self._round(some, patient):
                del left[number]
                answers += 1
                yield number, value
            if len(some) > 1:
                fruitless = 0 if answers else fruitless + 1
            elif not answers:
                alone[first] += 1
                if alone[first] == ALONE:
                    del left[first]
                    yield first, Lost(self._reason)

    def _round(self, calls: Mapping[int, Call[T]], patient: bool) -> Iterator[tuple[int, T]]:
        """Ends early where a worker is lost: who has no answer then is to be asked again."""
        self._reason = ""
        jobs = [joblib.delayed(work)(self._key, self.place, number, call) for number, call in calls.items()]
        try:
            self._connection.waited()
            for found in self._sent(jobs, patient):
                answered = cast(Answered[T], found)
                if isinstance(answered.value, Lost):
                    self._reason = f"{answered.value.reason} ({answered.worker})"
                    continue
                self._compare(answered)
                yield answered.number, answered.value
            self.losses += bool(self._reason)
            return
        except self._connection.lost as error:
            self._reason = f"the worker died: {said(error)}"
        except (TimeoutError, multiprocessing.TimeoutError) as error:
            self._reason = said(error) if str(error) else f"no worker answered in {self._seconds(patient):,.0f} s"
            self._connection.freed()
        self.losses += 1
        self._hang_up()

    def _seconds(self, patient: bool) -> float | None:
        return None if self.crew.timeout is None else self.crew.timeout * (PATIENCE if patient else 1)

    def _sent(self, jobs: Sequence[Any], patient: bool) -> Iterator[Any]:
        """What comes back, as it comes where the backend can do that."""
        sender = self._sender()
        sender.timeout = self._seconds(patient)
        if not self._connection.streams:
            for first in range(0, len(jobs), self.count):
                yield from sender(jobs[first : first + self.count])
            return
        answers = sender(jobs)
        try:
            yield from answers
        finally:
            with warnings.catch_warnings():  # that somebody has stopped listening, which is said elsewhere
                warnings.simplefilter("ignore")
                answers.close()

    def _compare(self, answered: Answered[Any]) -> None:
        for name, value in answered.papers.items():
            if self._papers.setdefault(name, value) != value:
                raise DeviceError(
                    f"workers: {answered.worker} has another {name} ({value}) than the run ({self._papers[name]}); "
                    "their numbers would not be comparable"
                )

    def _sender(self) -> Any:
        """joblib's; kept, since a new one may mean new workers."""
        if self._parallel is None:
            kind = "generator_unordered" if self._connection.streams else "list"
            with joblib.parallel_config(**self._connection.configured):
                self._parallel = joblib.Parallel(return_as=kind, pre_dispatch="all", batch_size=1)
            self._parallel.__enter__()
        return self._parallel

    def _hang_up(self) -> None:
        if self._parallel is not None:
            parallel, self._parallel = self._parallel, None
            parallel.__exit__(None, None, None)

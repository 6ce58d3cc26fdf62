"""What can be asked of a subnet. Whatever it is, what comes of it is kept, remembered and paid for in one way.

A question says how its answers are written, read, divided and joined, and what they cost. One that a search may ask has
a line in `QUESTIONS`, which names what answers it on a model, a file of `fitness`.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from .genome import Genome
from .space import Space
from .tables import load

Status = Literal["ok", "infeasible", "failed"]
Chain = tuple[int, ...]
"""Tokens of each stage of training that a subnet has been through."""
WHOLE = range(1)
"""The sequences of a question that is not put on sequences of a text."""


class Answer(Protocol):
    """What every answer says of itself.

    Attributes:
        genome: canonical.
        key: of the subnet (`Space.key`).
        sequences: which sequences of the pool it is about.
        status: `failed` where there is none: it is not asked on any of these sequences again.
        tokens: forwarded for it.
    """

    @property
    def genome(self) -> Genome: ...
    @property
    def key(self) -> str: ...
    @property
    def sequences(self) -> range: ...
    @property
    def status(self) -> Status: ...
    @property
    def tokens(self) -> int: ...


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """An answer to any question, as journals keep it: subnet, sequences, what came of it, and what it took.

    Attributes:
        content: what only the question understands; plain values of JSON.
        reason: why it failed.
        layer_passes: blocks really executed, once for each sequence.
        seconds: wall-clock.
    """

    genome: Genome
    key: str
    sequences: range
    content: Mapping[str, Any]
    status: Status = "ok"
    reason: str = ""
    tokens: int = 0
    layer_passes: int = 0
    seconds: float = 0.0


Told = TypeVar("Told", bound=Answer)


class Question(Protocol[Told]):
    """One thing that can be asked of a subnet: a frozen value, equal where the same is asked.

    Attributes:
        name: under which its answers are kept.
    """

    @property
    def name(self) -> str: ...

    def on(self, text: str) -> str:
        """What its answers on a text are filed under: the text's title, and whatever else tells them apart."""

    def within(self, answer: Told, sequences: range) -> Told | None:
        """What an answer says of some of its sequences; None where that cannot be told from the others."""

    def joined(self, answers: Sequence[Told], genome: Genome, sequences: range) -> Told:
        """Answers on adjacent sequences, in order, as one on `sequences`; or one that failed on some of these.

        `genome`: whose answer it is called; another one of the same subnet may have been asked.
        """

    def record(self, answer: Told) -> Record:
        """An answer as it is kept."""

    def read(self, record: Record) -> Told:
        """What `record` was made of; raises TypeError, ValueError or LookupError where that is no answer to this."""


class Priced(Question[Told], Protocol[Told]):
    """A question that a search may ask."""

    def charges(self, sequences: range, length: int) -> Mapping[Hashable, int]:
        """Tokens that an answer for one genome takes, by what is paid for once; sequences of `length` tokens.

        What passes backwards is counted by the forward passes that it is worth.
        """

    def failed(self, space: Space, genome: Genome, sequences: range, reason: str) -> Told:
        """In an answer's place, where whoever was asked did not live to give one."""


class Searchable(Priced[Told], Protocol[Told]):
    """One of `QUESTIONS`."""

    def fits(self, space: Space, score: str) -> bool:
        """Whether it can be asked in a space, where search minimises `score`."""


class Entry(NamedTuple):
    """Where a question is, as "module:object".

    Attributes:
        question: a `Searchable`.
        answered: makes, of space, subnet, teacher and score (`fitness`), a `search.memo.Asker`.
        whole: that needs the whole model on its device.
    """

    question: str
    answered: str
    whole: bool = False


QUESTIONS: dict[str, Entry] = {
    "slopes": Entry("secateur.space.slopes:SLOPES", "secateur.fitness.slopes:SubnetSlopes", whole=True),
}
"""What searches may ask beside losses, by name."""


def questions_of(space: Space, score: str, whole: bool = True) -> frozenset[str]:
    """Names of what can be asked in a space beside losses, where search minimises `score`.

    `whole`: the whole model is on its device.
    """
    possible = {name: entry for name, entry in QUESTIONS.items() if whole or not entry.whole}
    return frozenset(name for name, entry in possible.items() if load(entry.question, None).fits(space, score))

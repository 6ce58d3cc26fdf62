"""The facts that a journal can hold, each family typed: its name, its shape, and what messages call it."""

from dataclasses import dataclass
from typing import Any, Generic, NotRequired, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from ...space.errors import SecateurError

_closed = with_config(ConfigDict(extra="forbid"))


@_closed
class TextFact(TypedDict):
    """A text: where it came from, its digest, and how much of it there is, in sequences and tokens; of a mixture, the
    name of the text that each sequence is of."""

    source: str
    digest: str
    sequences: int
    length: int
    prefix: NotRequired[list[int]]
    parts: NotRequired[list[str]]


@_closed
class OrdersFact(TypedDict):
    """Importance orders of KV groups, query heads and channels by block, and of the residual stream."""

    groups: list[list[int]]
    queries: list[list[list[int]]]
    channels: list[list[int]]
    hidden: list[int] | None


@_closed
class ZerosFact(TypedDict):
    """Zeros of the dense model, in the blocks' linears and outside."""

    linears: int
    outside: int


@_closed
class WorkloadFact(TypedDict):
    """The request that is timed, in sequences and tokens."""

    batch: int
    prefill: int
    decode: int


@_closed
class LatencyFact(TypedDict):
    """A latency table; see `space.latency.LatencyTable.to_json`."""

    device: str
    estimate: bool
    workload: WorkloadFact
    kinds: list[int]
    entries: list[tuple[str, int, list[int], int, int, int, int, int]]
    machine: dict[str, Any]


@_closed
class TimesFact(TypedDict):
    """Nanoseconds of a prefill and of one token."""

    prefill: int
    decode: int


@_closed
class RatioFact(TypedDict):
    """A ratio to the dense model's time: the median over repeats, and how far they spread."""

    median: float
    spread: float


@_closed
class MeasuredFact(TypedDict):
    """A whole model, timed in turns with the dense one."""

    device: str
    times: TimesFact
    dense: TimesFact
    ratios: dict[str, RatioFact]
    repeats: int


@_closed
class CornersFact(TypedDict):
    """The corners of the box of a hypervolume, one value an objective."""

    worst: list[float]
    ideal: list[float]


@_closed
class CandidateFact(TypedDict):
    """A candidate's mean losses before training and after each stage, nats per token."""

    genome: list[int]
    untrained: float
    trained: list[float]


@_closed
class SelectionFact(TypedDict):
    """What a selection by training took (tokens) and came to."""

    chain: list[int]
    trained: int
    searched: bool
    failed: list[int]
    candidates: list[CandidateFact]


@_closed
class ValidationFact(TypedDict):
    """Who were the finalists of a search, which were as good as the best of them, and whom it would have answered with
    itself; from which sequence of the calibration text on they were compared."""

    first: int
    finalists: list[list[int]]
    good: list[list[int]]
    searched: list[int]


Shape = TypeVar("Shape", covariant=True)


@dataclass(frozen=True, slots=True)
class Fact(Generic[Shape]):
    """A family of facts: under which name they are noted, and what they look like.

    Attributes:
        name: of the fact; of several with that beginning, the rest of each says what it is about.
        shape: of its value, as JSON has it: anything else is a damaged journal.
        what: how messages call it; `{about}` is what it is about.
        several: each is about something.
    """

    name: str
    shape: type[Shape]
    what: str
    several: bool = False

    def key(self, about: str = "") -> str:
        """Under which the fact about something is kept."""
        assert self.several == bool(about), self.name
        return f"{self.name} {about}" if self.several else self.name

    def holds(self, key: str) -> bool:
        """Whether a key is of this family."""
        return key.startswith(f"{self.name} ") if self.several else key == self.name


Steps = list[tuple[int, int, float]]
"""(evaluations, tokens, value) at each step of a search."""
Values = dict[str, Any]

SCHEMA = Fact("schema_version", int, "the way the journal is written")
RECIPE = Fact("recipe", str, "the recipe")
RECIPE_VALUES = Fact("recipe values", Values, "the recipe")
CONFIG = Fact("config", Values, "the model's configuration")
MODEL = Fact("model", str, "the model")
TEXTS = Fact("texts", dict[str, TextFact], "the text")
COUNTING = Fact("counting", int, "the way of counting costs")
ZEROS = Fact("zeros", ZerosFact, "the model's own zeros")
SOURCE_BYTES = Fact("source bytes", int, "the size of the model's files")
SOURCE_TYPES = Fact("source types", dict[str, int], "the types that the model's file is in")
"""By the type of fewer bits, how many weights."""
BASE = Fact("base", Values, "the plan below all genomes")
IMPORTANCE = Fact("importance", str, "the importance matrix")
METADATA = Fact("file metadata", int, "the size of what a file says of the model")
WHOLE = Fact("whole", int, "whether the whole model is on its device")
THREADS = Fact("threads", int, "how many threads it is computed with")
ORDER = Fact("order", str, "the importance order of heads and channels")
ORDERS = Fact("orders", OrdersFact, "the importance order of heads and channels")
LATENCY = Fact("latency", LatencyFact, "the latency table")
TOKENS = Fact("tokens", int, "the tokens for the given minutes")
REVISIONS = Fact("revisions", dict[str, int], "how searches decide")
"""By the strategy."""
SEARCHED = Fact("searched", int, "whether the search has come to its end")
LIBRARIES = Fact("libraries", dict[str, str], "the version of what searches")
TIMED_ON = Fact("timed on", Values, "the machine that models are timed on")
CORNERS = Fact("corners", CornersFact, "the reference of the hypervolume")
SELECTION = Fact("selection by training", SelectionFact, "what training changed")
VALIDATION = Fact("validation", ValidationFact, "who was chosen on the text that was kept from the search")
DEVICE = Fact("evaluated on", str, "a device", several=True)
"""By its name, every device that evaluations were made on."""
PROVENANCE = Fact("provenance", Values, "what '{about}' evaluations were made with", several=True)
INITIAL = Fact("initial", list[int], "plan {about}", several=True)
PEER = Fact("baseline", list[int], "plan {about}", several=True)
SKIPPED = Fact("skipped", str, "baseline {about}", several=True)
"""By the baseline, why it does not apply."""
HYPERVOLUME = Fact("hypervolume", Steps, "the search of '{about}'", several=True)
RANKS = Fact("rank correlation", Steps, "the model of '{about}'", several=True)
"""By the search, Spearman's correlation of what its model said and what came out, of late."""
LOGGED = Fact("logged", str, "the run in {about}", several=True)
"""By the tracker, by what it knows the run."""
MEASURED = Fact("measured", MeasuredFact, "the time of a whole model", several=True)
"""By the key of a subnet."""
UNTIMED = Fact("untimed", str, "what could not be timed", several=True)
"""By the key of a subnet, why its time is not known."""
FACTS: tuple[Fact[Any], ...] = (
    *(
        SCHEMA,
        RECIPE,
        RECIPE_VALUES,
        CONFIG,
        MODEL,
        TEXTS,
        COUNTING,
        ZEROS,
        SOURCE_BYTES,
        SOURCE_TYPES,
        BASE,
        IMPORTANCE,
        METADATA,
        ORDER,
        ORDERS,
        LATENCY,
        TOKENS,
        WHOLE,
        THREADS,
    ),
    *(
        REVISIONS,
        SEARCHED,
        LIBRARIES,
        TIMED_ON,
        CORNERS,
        SELECTION,
        VALIDATION,
        PROVENANCE,
        DEVICE,
        INITIAL,
        PEER,
        SKIPPED,
        HYPERVOLUME,
        RANKS,
        MEASURED,
        UNTIMED,
        LOGGED,
    ),
)
_ADAPTERS = {fact.name: TypeAdapter(fact.shape) for fact in FACTS}


def check_fact(key: str, value: Any, where: str) -> None:
    """Raises SecateurError where the value is not what a fact of that key holds; unknown keys hold anything."""
    known = next((fact for fact in FACTS if fact.holds(key)), None)
    if known is None:
        return
    try:
        _ADAPTERS[known.name].validate_python(value, strict=False)
    except (ValidationError, RecursionError) as error:
        raise SecateurError(f"{where}: the fact '{key[:80]}' is damaged; restore the journal from a copy") from error

"""What the facts of a journal look like, by the beginning of their names: anything else is a damaged journal."""

from typing import Any, NotRequired

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from ...space.errors import SecateurError

_closed = with_config(ConfigDict(extra="forbid"))


@_closed
class _Text(TypedDict):
    source: str
    digest: str
    sequences: int
    length: int
    prefix: NotRequired[list[int]]


@_closed
class _Orders(TypedDict):
    groups: list[list[int]]
    queries: list[list[list[int]]]
    channels: list[list[int]]
    hidden: list[int] | None


@_closed
class _Zeros(TypedDict):
    linears: int
    outside: int


@_closed
class _Workload(TypedDict):
    batch: int
    prefill: int
    decode: int


@_closed
class _Latency(TypedDict):
    device: str
    estimate: bool
    workload: _Workload
    kinds: list[int]
    entries: list[tuple[str, int, list[int], int, int, int, int, int]]
    machine: dict[str, Any]


@_closed
class _Times(TypedDict):
    prefill: int
    decode: int


@_closed
class _Ratio(TypedDict):
    median: float
    spread: float


@_closed
class _Measured(TypedDict):
    device: str
    times: _Times
    dense: _Times
    ratios: dict[str, _Ratio]
    repeats: int


@_closed
class _Corners(TypedDict):
    worst: list[float]
    ideal: list[float]


@_closed
class _Candidate(TypedDict):
    genome: list[int]
    untrained: float
    trained: list[float]


@_closed
class _Selection(TypedDict):
    chain: list[int]
    trained: int
    searched: bool
    failed: list[int]
    candidates: list[_Candidate]


@_closed
class _Task(TypedDict):
    task: str
    stages: list[int]
    limit: int | None
    fewshot: int | None
    seed: int
    documents: int
    metrics: dict[str, tuple[float, float | None]]
    lm_eval: str
    definitions: NotRequired[str]


@_closed
class _Slopes(TypedDict):
    genome: list[int]
    key: str
    sequences: tuple[int, int]
    first: list[list[float | None]]
    second: list[list[float | None]]
    reason: str
    tokens: int
    seconds: float


_SHAPES: dict[str, Any] = {
    "schema_version": int,
    "recipe": str,
    "recipe values": dict[str, Any],
    "config": dict[str, Any],
    "model": str,
    "texts": dict[str, _Text],
    "counting": int,
    "zeros": _Zeros,
    "source bytes": int,
    "order": str,
    "orders": _Orders,
    "latency": _Latency,
    "tokens": int,
    "libraries": dict[str, str],
    "timed on": dict[str, Any],
    "corners": _Corners,
    "selection by training": _Selection,
    "provenance ": dict[str, Any],
    "initial ": list[int],
    "baseline ": list[int],
    "skipped ": str,
    "hypervolume ": list[tuple[int, int, float]],
    "rank correlation ": list[tuple[int, int, float]],
    "measured ": _Measured,
    "untimed ": str,
    "task ": _Task,
    "slopes ": _Slopes,
}
"""Names that end in a space are followed by what the fact is about."""
_ADAPTERS = {name: TypeAdapter(shape) for name, shape in _SHAPES.items()}


def check_fact(name: str, value: Any, where: str) -> None:
    """Raises SecateurError where the value is not what a fact of that name holds; unknown names hold anything."""
    known = next((one for one in _ADAPTERS if name == one or (one.endswith(" ") and name.startswith(one))), None)
    if known is None:
        return
    try:
        _ADAPTERS[known].validate_python(value, strict=False)
    except (ValidationError, RecursionError) as error:
        raise SecateurError(f"{where}: the fact '{name[:80]}' is damaged; restore the journal from a copy") from error

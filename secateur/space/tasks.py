"""What downstream tasks say of a model, and as a question that is asked of the subnets of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from .genome import Genome
from .question import WHOLE, Chain, Record, Status


@dataclass(frozen=True, slots=True)
class TaskResult:
    """One lm-eval task: its metrics, each a value and its standard error (None where lm-eval gives none).

    `shots`: examples before each question.
    """

    task: str
    documents: int
    shots: int
    metrics: Mapping[str, tuple[float, float | None]]


@dataclass(frozen=True, slots=True)
class TaskAnswer:
    """What a task says of a subnet.

    Attributes:
        genome, key: of the subnet.
        trained: the stages of training that it has been through.
        limit: the most documents that were asked for; None: all.
        seed: that drew the examples.
        lm_eval: its version.
        definitions: digest of the files that define tasks; empty where a run of before has not noted it.
        seconds: wall-clock.
    """

    genome: Genome
    key: str
    result: TaskResult
    trained: Chain
    limit: int | None
    seed: int
    lm_eval: str
    definitions: str
    seconds: float = 0.0

    @property
    def sequences(self) -> range:
        """A task is answered whole."""
        return WHOLE

    @property
    def status(self) -> Status:
        """What cannot be carried out ends the command."""
        return "ok"

    @property
    def tokens(self) -> int:
        """Not counted: they are lm-eval's."""
        return 0


class _Content(TypedDict):
    """A result and what it was asked for with."""

    task: str
    documents: int
    shots: int
    metrics: dict[str, tuple[float, float | None]]
    trained: list[int]
    limit: int | None
    seed: int
    lm_eval: str
    definitions: str


_CONTENT = TypeAdapter(_Content)


@dataclass(frozen=True, slots=True)
class TaskQuestion:
    """What a task says of subnets: `settings` is the digest of how it is asked, and of what defines it."""

    settings: str = ""

    @property
    def name(self) -> str:
        """Of all tasks."""
        return "task"

    def on(self, text: str) -> str:
        """The task, whose documents are the text, and how it is asked."""
        return f"{text} {self.settings}"

    def within(self, answer: TaskAnswer, sequences: range) -> TaskAnswer:
        """The whole."""
        return answer

    def joined(self, answers: Sequence[TaskAnswer], genome: Genome, sequences: range) -> TaskAnswer:
        """The one there is."""
        [answer] = answers
        return replace(answer, genome=genome)

    def record(self, answer: TaskAnswer) -> Record:
        """With the result and its settings."""
        content = {
            "task": answer.result.task,
            "documents": answer.result.documents,
            "shots": answer.result.shots,
            "metrics": {name: list(values) for name, values in answer.result.metrics.items()},
            "trained": list(answer.trained),
            "limit": answer.limit,
            "seed": answer.seed,
            "lm_eval": answer.lm_eval,
            "definitions": answer.definitions,
        }
        return Record(answer.genome, answer.key, WHOLE, content, seconds=answer.seconds)

    def read(self, record: Record) -> TaskAnswer:
        """Raises ValueError where it is no result of a task."""
        if record.status != "ok":
            raise ValueError("status")
        content = _CONTENT.validate_python(record.content)
        result = TaskResult(content["task"], content["documents"], content["shots"], content["metrics"])
        return TaskAnswer(
            record.genome,
            record.key,
            result,
            tuple(content["trained"]),
            content["limit"],
            content["seed"],
            content["lm_eval"],
            content["definitions"],
            record.seconds,
        )


TASKS = TaskQuestion()
"""Of any settings, to read what was answered."""

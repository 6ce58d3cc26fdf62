"""What a downstream task says of a model."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TaskResult:
    """One lm-eval task: its metrics, each a value and its standard error (None where lm-eval gives none).

    `shots`: examples before each question.
    """

    task: str
    documents: int
    shots: int
    metrics: Mapping[str, tuple[float, float | None]]

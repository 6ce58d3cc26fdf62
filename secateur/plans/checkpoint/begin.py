"""What writes the weights of a subnet: a check of all that needs none, then the writing itself."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from ...fitness.bench import Bench
from ..features import Subject

Finish = Callable[[Bench, Path], None]
"""Writes the subnet of a prepared model into a new folder, whole or not at all."""


class Begin(Protocol):
    """The first half of a format that takes weights (`Format.weights`)."""

    def __call__(self, subject: Subject, options: Mapping[str, str], trusted: bool, /) -> Finish:
        """Refuses what can be refused without the weights; returns what writes them.

        Args:
            subject: of a plan.
            options: what else was said, by the names of `Format.options`.
            trusted: code of the model's authors may run.

        Raises:
            SecateurError: an option that does not fit.
        """

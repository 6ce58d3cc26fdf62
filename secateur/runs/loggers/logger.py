"""What every tracker is given, and what it has to do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

Ending = Literal["finished", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class Subject:
    """The run that is logged.

    Attributes:
        name: of its folder.
        folder: of the run.
        recipe: every setting, nested.
        project: under which a tracker files it.
        address: of the tracker; None: where its own settings say.
        known: by what the tracker knows the run, where it was begun before.
    """

    name: str
    folder: Path
    recipe: Mapping[str, Any]
    project: str
    address: str | None
    known: str | None


class Logger(Protocol):
    """One run in one tracker, for as long as it is open."""

    @property
    def known(self) -> str:
        """By what the tracker knows the run."""

    def measure(self, tokens: int, values: Mapping[str, float]) -> None:
        """Values after a search has spent so many tokens."""

    def end(self, ending: Ending, values: Mapping[str, float], files: Sequence[Path]) -> None:
        """Closes the run: how it ended, what came of it, and the files that say more."""

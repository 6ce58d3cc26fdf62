"""Who is told what a run is doing."""

from collections.abc import Callable
from dataclasses import dataclass


class Watcher:
    """Told what a run is doing; this one keeps quiet."""

    def phase(self, title: str, total: int | None) -> None:
        """A new phase of `total` units of work (tokens, blocks); None when that is not known."""

    def advance(self, amount: int) -> None:
        """Work done within the phase."""

    def at(self, completed: int, note: str) -> None:
        """Work done so far in the phase, and the best so far in a few words."""

    def blocks(self, title: str, done: int, total: int) -> None:
        """Blocks done in the phase `title`, of how many."""

    def say(self, message: str) -> None:
        """A line worth keeping."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a run is doing.

    Attributes:
        phase: in words; of what is only said, the words.
        completed, total: units of work (tokens, blocks) done, of how many; total is None where that is not known.
        note: the best so far, in a few words.
        said: a line worth keeping, and no progress.
    """

    phase: str
    completed: int = 0
    total: int | None = None
    note: str = ""
    said: bool = False


class Calling(Watcher):
    """Tells a function of everything."""

    def __init__(self, tell: Callable[[Progress], None]) -> None:
        self._tell, self._now = tell, Progress("")

    def phase(self, title: str, total: int | None) -> None:
        self._at(Progress(title, 0, total))

    def advance(self, amount: int) -> None:
        now = self._now
        self._at(Progress(now.phase, now.completed + amount, now.total, now.note))

    def at(self, completed: int, note: str) -> None:
        self._at(Progress(self._now.phase, completed, self._now.total, note))

    def blocks(self, title: str, done: int, total: int) -> None:
        self._at(Progress(title, done, total))

    def say(self, message: str) -> None:
        self._tell(Progress(message, said=True))

    def _at(self, now: Progress) -> None:
        self._now = now
        self._tell(now)

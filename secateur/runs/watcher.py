"""Who is told what a run is doing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType


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

    def measured(self, search: str, tokens: int, values: Mapping[str, float]) -> None:
        """What a search has come to after so many tokens, by name: `loss`, `hypervolume`, …"""

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
        search: whose `values` these are, such as "found"; empty where nothing was measured.
        tokens: that the search has spent.
        values: what it has come to, by name: `loss`, `sequences`, `baseline`, `hypervolume`, `front`,
            `rank_correlation`, `tokens_per_second`.
    """

    phase: str
    completed: int = 0
    total: int | None = None
    note: str = ""
    said: bool = False
    search: str = ""
    tokens: int = 0
    values: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


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

    def measured(self, search: str, tokens: int, values: Mapping[str, float]) -> None:
        now = self._now
        self._tell(replace(now, search=search, tokens=tokens, values=MappingProxyType(dict(values))))

    def say(self, message: str) -> None:
        self._tell(Progress(message, said=True))

    def _at(self, now: Progress) -> None:
        self._now = now
        self._tell(now)

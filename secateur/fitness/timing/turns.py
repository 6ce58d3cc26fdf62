"""Turns of a measurement that takes minutes, kept on disk, so that one that was stopped goes on."""

import time
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TypeVar

from ..cache import read_json, usable, write_json

Thing = TypeVar("Thing", bound=Hashable)
Sample = tuple[float, float]
"""Seconds of a prefill and of one decoded token."""
SECONDS = 1.0
"""Between two times that turns are kept."""


class Turns:
    """Samples of the same things in the same order, turn by turn; `path`: where they are kept while it lasts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: list[list[Sample]] = []
        self._before = 0.0
        if usable(path):
            kept = read_json(path)
            self._before = float(kept["seconds"])
            self.rows = [[(float(first), float(second)) for first, second in row] for row in kept["rows"]]
        self._began = self._kept = time.perf_counter()

    @property
    def seconds(self) -> float:
        """That the measurement has taken, also before it was stopped."""
        return self._before + time.perf_counter() - self._began

    def add(self, row: list[Sample]) -> None:
        """Another turn; raises StorageError where it cannot be kept."""
        self.rows.append(row)
        if time.perf_counter() - self._kept >= SECONDS:
            write_json(self._path, {"seconds": self.seconds, "rows": self.rows})
            self._kept = time.perf_counter()

    def of(self, things: Sequence[Thing]) -> dict[Thing, tuple[Sample, ...]]:
        """The samples of each, in the order in which turns have them."""
        return dict(zip(things, zip(*self.rows, strict=True), strict=True))

    def over(self) -> None:
        """Forgets what was kept."""
        self._path.unlink(missing_ok=True)

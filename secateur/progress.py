"""Progress in the terminal: what is being done, how far, best so far, time left; silent when it is no terminal."""

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn


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


class TerminalWatcher(Watcher):
    """Draws one line per phase."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[best]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None

    def phase(self, title: str, total: int | None) -> None:
        self._finish()
        self._task = self._progress.add_task(title, total=total, best="")

    def advance(self, amount: int) -> None:
        if self._task is not None:
            self._progress.advance(self._task, amount)

    def at(self, completed: int, note: str) -> None:
        if self._task is not None:
            self._progress.update(self._task, completed=completed, best=note)

    def blocks(self, title: str, done: int, total: int) -> None:
        if self._task is None or self._progress.tasks[self._task].description != title:
            self.phase(title, total)
        assert self._task is not None
        self._progress.update(self._task, completed=done, total=total)

    def say(self, message: str) -> None:
        if not self._progress.disable:
            self._progress.console.print(message, markup=False)

    def _finish(self) -> None:
        if self._task is not None:
            task = self._progress.tasks[self._task]
            self._progress.update(self._task, total=max(1.0, task.completed), completed=max(1.0, task.completed))

    def __enter__(self) -> "TerminalWatcher":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._finish()
        self._progress.stop()

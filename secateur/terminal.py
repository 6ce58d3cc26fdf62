"""The terminal: what is printed and how, what a run is doing while it lasts, and how it is stopped.

Whatever comes from outside (names in recipes, journals, other people's files, messages of libraries) is shown as it is:
`Terminal` takes no markup from it and no control characters.
"""

import _thread
import contextlib
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column as RichColumn
from rich.text import Text

from .runs.watcher import Watcher
from .space.errors import Stopped

WIDTH = 140
"""Of tables where there is no terminal to ask: they get the room they need."""
WIDE = 120
"""Of a terminal that has room for a longer bar."""
LONGEST = 1800
"""Characters of a message; of a longer one the beginning is shown."""
SECONDS = 60.0
"""Between two lines of progress where the output is no terminal."""
SAME_WISH, AGAIN = 1.0, 10.0
"""Seconds within which a second signal says nothing new, and after which one that was lost is raised again."""
PATIENCE = 60.0
"""Seconds after which a program that was to stop is left, whatever it waits for."""
BROKEN_PIPE = 128 + signal.SIGPIPE
"""Status of a command whose reader went away, as of one that was killed for it."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: str) -> str:
    """Text from outside without what a terminal obeys: control characters, changes of direction, lone surrogates."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def shortened(message: str) -> str:
    """The beginning of a message that is longer than anybody reads."""
    if len(message) <= LONGEST:
        return message
    return f"{message[:LONGEST]} … ({len(message) - LONGEST:,} more characters)"


class Terminal(Console):
    """A console that shows text as it is, and outlives whoever reads it."""

    def __init__(self, stderr: bool = False) -> None:
        stream = sys.stderr if stderr else sys.stdout
        width = None if stream is not None and stream.isatty() else WIDTH
        super().__init__(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)
        self.broken = self.silent = False

    def print(self, *objects: Any, **options: Any) -> None:
        """Prints, unless nothing but errors and JSON is wanted."""
        if not self.silent:
            super().print(*objects, **options)

    def status(self, *arguments: Any, **options: Any) -> Any:
        """A spinner while something lasts, unless nothing is wanted."""
        return contextlib.nullcontext() if self.silent else super().status(*arguments, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(plain(text), **options)

    def on_broken_pipe(self) -> None:
        """Whoever read has left: nothing more is shown, and the work goes on to its end."""
        self.quiet = self.broken = True
        redirect(sys.stderr if self.stderr else sys.stdout)


def redirect(stream: Any) -> None:
    """Sends what a stream still holds, and all that follows, nowhere."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def open_streams() -> None:
    """Gives closed standard streams somewhere to go, so that no file is opened in their place and written to."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is the closed one.
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


# -- being stopped -----------------------------------------------------------------------------------------------------


_wishes: list[Stopped] = []
"""The signal that has come, if any."""


def wish() -> Stopped | None:
    """What the user or the system has asked for, though a library may have caught it and gone on."""
    return _wishes[0] if _wishes else None


def heed() -> None:
    """Raises `Stopped` again where a library has caught it."""
    if _wishes:
        raise _wishes[0]


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Raises `Stopped` at the first signal, so that everything is put away; a second one ends the program at once.

    What follows within a second is the same wish: `timeout` and batch systems signal a process and then its group.
    Where a library has caught it and waits, or goes on and tells nobody, it is raised again after a while. The program
    ends with this: nothing else can end it then. And where it has not ended after `PATIENCE` seconds, whatever for, it
    is left.
    """
    first, ended = 0.0, False

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal first
        now = time.monotonic()
        if not _wishes:
            first = now
            _wishes.append(Stopped(number, "interrupted" if number == signal.SIGINT else "terminated"))
            # Not by `threading`, one of whose locks the code that was interrupted may hold.
            _thread.start_new_thread(leave, (number,))
            signal.signal(signal.SIGALRM, again)
            signal.setitimer(signal.ITIMER_REAL, AGAIN, AGAIN)
            raise _wishes[0]
        if now - first > SAME_WISH:
            with contextlib.suppress(OSError):
                os.write(2, b"\nsecateur: left at once; what was finished is kept\n")
            os._exit(128 + number)

    def leave(number: int) -> None:
        time.sleep(PATIENCE)
        if ended:
            return
        with contextlib.suppress(OSError):
            os.write(2, b"\nsecateur: something does not end, and is left; what was finished is kept\n")
        os._exit(128 + number)

    def again(_number: int, _frame: FrameType | None) -> None:
        heed()

    # What whoever started us has us ignore stays ignored, as of jobs in the background.
    heard = [one for one in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(one) is not signal.SIG_IGN]
    for number in heard:
        signal.signal(number, stop)
    try:
        yield
    finally:
        ended = True
        for number in heard:
            signal.signal(number, signal.SIG_IGN)
        if _wishes:
            signal.setitimer(signal.ITIMER_REAL, 0)


@contextlib.contextmanager
def goes_on(how: str) -> Iterator[None]:
    """Says how to go on, should the work inside be stopped, whatever a library has made of that."""
    try:
        yield
    except BaseException as error:
        stop = error if isinstance(error, Stopped) else wish()
        if stop is None:
            raise
        stop.add_note(how)
        if stop is error:
            raise
        raise stop from error


# -- progress ----------------------------------------------------------------------------------------------------------


class TerminalWatcher(Watcher):
    """Draws one line per phase. Whoever tells it something is stopped by that, if a signal has come and was lost."""

    def __init__(self, console: Console) -> None:
        # What matters is never cut: a line has the phase, its share and its time, and the last one what was found.
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn(
                "{task.description}", markup=False, table_column=RichColumn(max_width=max(12, console.width - 44))
            ),
            BarColumn(bar_width=30 if console.width >= WIDE else 12),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._note = Text()
        self._live = Live(console=console, get_renderable=self._shown, refresh_per_second=10)
        self._task: TaskID | None = None

    def phase(self, title: str, total: int | None) -> None:
        heed()
        self._finish()
        self._task = self._progress.add_task(plain(title), total=total)
        self._note.plain = ""

    def advance(self, amount: int) -> None:
        heed()
        if self._task is not None:
            self._progress.advance(self._task, amount)

    def at(self, completed: int, note: str) -> None:
        heed()
        if self._task is not None:
            self._progress.update(self._task, completed=completed)
        self._note.plain = f"  {plain(note)}"

    def blocks(self, title: str, done: int, total: int) -> None:
        heed()
        if self._task is None or self._progress.tasks[self._task].description != plain(title):
            self.phase(title, total)
        assert self._task is not None
        self._progress.update(self._task, completed=done, total=total)

    def say(self, message: str) -> None:
        self._progress.console.print(message)

    def _shown(self) -> RenderableType:
        return Group(self._progress, self._note) if self._note.plain.strip() else self._progress

    def _finish(self) -> None:
        if self._task is not None:
            task = self._progress.tasks[self._task]
            self._progress.update(self._task, total=max(1.0, task.completed), completed=max(1.0, task.completed))

    def __enter__(self) -> "TerminalWatcher":
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._finish()
        self._live.stop()


class LogWatcher(Watcher):
    """For logs of batch systems: a line when a phase begins, and now and then while it lasts. It stops as the other.

    `write` takes a line; `clock` gives seconds; `every` so many seconds a line says how far the phase is, when it moves
    or `tell` is called, which `watching` does for phases of one long step.
    """

    def __init__(
        self, write: Callable[[str], None], every: float = SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write, self._every, self._clock = write, every, clock
        self._title, self._note, self._done, self._total = "", "", 0, None  # type: tuple[str, str, int, int | None]
        self._began = self._said = clock()

    def phase(self, title: str, total: int | None) -> None:
        heed()
        self._title, self._note, self._done, self._total = title, "", 0, total
        self._began = self._said = self._clock()
        self._write(title)

    def advance(self, amount: int) -> None:
        heed()
        self._done += amount
        self.tell()

    def at(self, completed: int, note: str) -> None:
        heed()
        self._done, self._note = completed, note
        self.tell()

    def blocks(self, title: str, done: int, total: int) -> None:
        heed()
        if title != self._title:
            self.phase(title, total)
        self._done, self._total = done, total
        self.tell()

    def say(self, message: str) -> None:
        self._write(message)

    def tell(self) -> None:
        """Says how far it is, where that was not said lately."""
        now = self._clock()
        if not self._title or now - self._said < self._every:
            return
        self._said = now
        passed, share = now - self._began, min(1.0, self._done / self._total) if self._total else 0.0
        parts = [f"{share:.0%}"] if self._total else []
        parts += [self._note] if self._note else []
        parts.append(f"{_duration(passed)} so far")
        if share > 0:
            parts.append(f"{_duration(passed / share - passed)} left")
        self._write(f"{self._title}: {', '.join(parts)}")


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"


@contextlib.contextmanager
def watching(console: Terminal, errors: Terminal) -> Iterator[Watcher]:
    """Progress drawn where the output is a terminal, and lines with the time of day on standard error where not."""
    if console.silent:
        yield Watcher()
        return
    if console.is_terminal:
        with TerminalWatcher(console) as watcher:
            yield watcher
        return
    log = LogWatcher(lambda line: errors.print(f"{time.strftime('%H:%M:%S')} {' '.join(line.split())}", soft_wrap=True))
    over = threading.Event()

    def beat() -> None:
        while not over.wait(SECONDS / 4):
            log.tell()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield log
    finally:
        over.set()
        thread.join()

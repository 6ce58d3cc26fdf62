"""Tells the trackers that a recipe names what a run measures, beside whoever watches it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..space.errors import SecateurError, Stopped, border
from .loggers.logger import Ending, Logger, Subject
from .loggers.table import check_logs, module_of
from .problem import space_of
from .record.facts import LOGGED
from .record.folder import RunFolder
from .report.front import FrontSummary, summarise_front
from .report.summary import summarise
from .report.write import write_report
from .watcher import Watcher

PLANS = ("found", "knee")
"""The plan that a run is about, of one budget and of a front."""
Results = Callable[[], tuple[Mapping[str, float], Sequence[Path]]]
"""What a run has come to: values by name, and files."""


class Logging(Watcher):
    """Passes everything on to another watcher, and what is measured to trackers too.

    A tracker that fails is told of once and left out from then on: the run goes on without it.
    """

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._loggers: dict[str, Logger] = {}

    def phase(self, title: str, total: int | None) -> None:
        self._watcher.phase(title, total)

    def advance(self, amount: int) -> None:
        self._watcher.advance(amount)

    def at(self, completed: int, note: str) -> None:
        self._watcher.at(completed, note)

    def blocks(self, title: str, done: int, total: int) -> None:
        self._watcher.blocks(title, done, total)

    def say(self, message: str) -> None:
        self._watcher.say(message)

    def measured(self, search: str, tokens: int, values: Mapping[str, float]) -> None:
        self._watcher.measured(search, tokens, values)
        named = {f"{search}/{name}": value for name, value in values.items()}
        self._each(lambda logger: logger.measure(tokens, named))

    def add(self, name: str, logger: Logger) -> None:
        """Another tracker."""
        self._loggers[name] = logger

    def end(self, ending: Ending, values: Mapping[str, float], files: Sequence[Path]) -> None:
        """Closes them all."""
        self._each(lambda logger: logger.end(ending, values, files))

    def _each(self, tell: Callable[[Logger], None]) -> None:
        for name, logger in list(self._loggers.items()):
            try:
                with border(f"log: {name}"):
                    tell(logger)
            except SecateurError as error:
                del self._loggers[name]
                self._watcher.say(f"{error}; nothing more is written there")


@contextmanager
def logged(folder: RunFolder, watcher: Watcher, results: Results) -> Iterator[Watcher]:
    """The watcher of a run that is carried out while this is open; `results`: what it has come to, once it is over.

    Raises:
        SecateurError: a tracker cannot be begun with.
    """
    if not folder.recipe.log:
        yield watcher
        return
    check_logs(folder.recipe.log)
    logging = Logging(watcher)
    try:
        _begin(logging, folder)
        yield logging
        values, files = results()
    except BaseException as error:
        logging.end("stopped" if isinstance(error, Stopped | KeyboardInterrupt) else "failed", {}, ())
        raise
    logging.end("finished", values, files)


def _begin(logging: Logging, folder: RunFolder) -> None:
    recipe = folder.recipe
    for settings in recipe.log:
        place = " ".join(filter(None, (settings.to, settings.project, settings.address)))
        subject = Subject(
            folder.path.resolve().name,
            folder.path,
            recipe.model_dump(mode="json"),
            settings.project,
            settings.address,
            folder.journal.of(LOGGED, place),
        )
        with border(f"log: {settings.to} (--set log=[] goes on without)"):
            logger: Logger = module_of(settings.to).begin(subject)
        folder.journal.note(LOGGED, logger.known, place)
        logging.add(settings.to, logger)


def results(folder: RunFolder) -> tuple[dict[str, float], list[Path]]:
    """What a finished run has come to: costs and scores of every plan, by "plan/what"; its report, and its plan.

    Raises:
        StorageError: the report cannot be written.
    """
    space = space_of(folder)
    found = summarise_front(folder, space) or summarise(folder, space)
    write_report(folder, space, found)
    values: dict[str, float] = {}
    for row in (found.summary if isinstance(found, FrontSummary) else found).rows:
        values |= {f"{row.name}/{cost}": float(value) for cost, value in row.costs.items()}
        for text, scores in row.scores.items():
            values |= {f"{row.name}/{text} {name}": score.mean for name, score in scores.items()}
    files = [folder.path / "report" / "index.html", *(folder.path / "plans" / f"{name}.json" for name in PLANS)]
    return values, [file for file in files if file.is_file()]

"""A run on disk: the resolved recipe, the journal, and files that can be rebuilt from those two."""

import fcntl
import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from ...files import write_text
from ...space.errors import SecateurError, StorageError
from ..asked.reading import read_recipe, with_others
from ..asked.recipe import ASIDE, Recipe
from .facts import CONFIG, MODEL, RECIPE, RECIPE_VALUES, TEXTS, Fact
from .journal import Journal, difference

OWN = ("recipe.yaml", ".lock", *(f"journal.sqlite{suffix}" for suffix in ("", "-journal", "-wal", "-shm")))
"""The files of a run that are written, or say what is."""


MOMENT = 0.05
"""Seconds after which a lock is tried again."""
GIVEN = "secateur-given"
"""The folder of a run with the objects that it was begun with."""


def check_free(path: Path) -> None:
    """Raises SecateurError when there is something at `path` already."""
    if (path / "recipe.yaml").exists():
        raise SecateurError(f"{path} is a run already; 'secateur resume {path}' continues it, --out names another")
    # A kill while a run is begun leaves hidden temporary files, or objects that were given, and nothing else.
    if path.exists() and (
        not path.is_dir()
        or any(file.name != GIVEN and not file.name.startswith(".recipe.yaml.") for file in path.iterdir())
    ):
        raise SecateurError(f"{path} exists and is not empty; --out names another folder")


def begun_with(path: Path, recipe: Recipe, differing: bool = False) -> bool:
    """Whether a run is at `path` that was begun with a recipe, whoever its workers are.

    Raises:
        SecateurError: it was begun with another one, unless `differing` is answered too.
    """
    file = path / "recipe.yaml"
    if not file.is_file():
        return False
    try:
        there = read_recipe(file, kept=True)
    except SecateurError:
        if differing:
            return False
        raise
    if there.digest() == recipe.digest():
        return True
    if differing:
        return False
    what = difference(there.model_dump(mode="json"), recipe.model_dump(mode="json"))
    raise SecateurError(
        f"{path} is the run of another recipe ({what}); --out names another folder, or go on with that run: "
        f"secateur resume {path}"
    )


def worked_on(path: Path) -> bool:
    """Whether a process is carrying the run out now."""
    try:
        handle = os.open(path / ".lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


class RunFolder:
    """An open run. One process at a time writes to it; the lock goes with the process, however that ends."""

    def __init__(self, path: Path, recipe: Recipe, journal: Journal, lock: int | None) -> None:
        self.path, self.recipe, self.journal, self._lock = path, recipe, journal, lock

    @classmethod
    def create(cls, path: Path, recipe: Recipe) -> "RunFolder":
        """Begins a run in `path`, which must be empty or not exist.

        Raises:
            SecateurError: there is something already, or the folder cannot be written.
        """
        check_free(path)
        write_text(path / "recipe.yaml", recipe.to_yaml())
        return cls.open(path)

    @classmethod
    def open(
        cls, path: Path, writing: bool = True, settings: Sequence[str] = (), asked: Recipe | None = None
    ) -> "RunFolder":
        """Opens a run for reading, or for continuing it; `settings`, or what is `asked` now: other workers and logs.

        Raises:
            SecateurError: not a run, its recipe was changed, or another process is writing to it.
        """
        file = path / "recipe.yaml"
        if not file.is_file():
            raise SecateurError(f"{path} is no run: it has no recipe.yaml")
        recipe = with_others(read_recipe(file, kept=True), settings)
        if asked is not None:
            recipe = recipe.model_copy(update={name: getattr(asked, name) for name in ASIDE})
        if not writing and not (path / "journal.sqlite").is_file():
            raise SecateurError(f"{path} has no journal yet; 'secateur resume {path}' starts it")
        for name in OWN:
            if (path / name).is_symlink():
                raise SecateurError(f"{path / name} is a link out of the run's folder; put the file itself there")
        lock = _locked(path) if writing else None
        try:
            journal = Journal(path / "journal.sqlite")
            if writing or journal.of(RECIPE) is not None:
                _check_recipe(journal, recipe, file)
        except SecateurError:
            if lock is not None:
                os.close(lock)
            raise
        return cls(path, _with_given(recipe, path), journal, lock)

    def check_begun(self) -> None:
        """Raises SecateurError where nothing has been evaluated yet."""
        needed: tuple[Fact[Any], ...] = (CONFIG, MODEL, TEXTS)
        if any(self.journal.of(fact) is None for fact in needed):
            raise SecateurError(f"{self.path}: nothing has been evaluated yet; 'secateur resume {self.path}' goes on")

    def inside(self, folder: str, name: str) -> Path:
        """A file in one of the run's own folders, for writing.

        Raises:
            StorageError: the name leads elsewhere, or the folder is a link to another place.
        """
        path = self.path / folder / name
        if Path(name).name != name or (self.path / folder).is_symlink() or path.is_symlink():
            raise StorageError(f"cannot write {path}: it leads out of the run's folder")
        return path

    def close(self) -> None:
        """Closes the journal, and lets others write."""
        self.journal.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _check_recipe(journal: Journal, recipe: Recipe, file: Path) -> None:
    """Raises SecateurError where the recipe is another than the run began with, and says in what."""
    values = recipe.model_dump(mode="json")
    noted = journal.of(RECIPE)
    if noted is not None and noted != recipe.digest():
        before = journal.of(RECIPE_VALUES)
        what = difference(before, values) if before is not None else "its digest differs"
        raise SecateurError(f"{file} is not what this run began with ({what}); put that back, or start a new run")
    if noted is None:
        journal.note(RECIPE_VALUES, values, what=f"{file}")
        journal.note(RECIPE, recipe.digest(), what=f"{file}")


def _with_given(recipe: Recipe, path: Path) -> Recipe:
    """The recipe of a run that was begun with objects, which are in its folder, wherever that is now."""

    def here(name: str) -> str:
        own = path.absolute() / GIVEN / Path(name).name
        return str(own) if Path(name).parent.name == GIVEN and not Path(name).exists() and own.exists() else name

    texts = [text.model_copy(update={"source": here(text.source)}) for text in (recipe.calibration, *recipe.held_out)]
    model = recipe.model.model_copy(update={"path": here(recipe.model.path)})
    return recipe.model_copy(update={"model": model, "calibration": texts[0], "held_out": tuple(texts[1:])})


def _locked(path: Path) -> int:
    try:
        handle = os.open(path / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise SecateurError(f"{path}: cannot be written: {error}") from error
    for last in (False, True):  # who only asks whether it is taken holds it for a moment
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if last:
                os.close(handle)
                raise SecateurError(f"{path}: another process is working on this run") from None
            time.sleep(MOMENT)
    return handle

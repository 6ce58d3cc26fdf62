"""Trackers by the names that recipes have for them: each is an extra of that name, and a module here."""

import importlib
from types import ModuleType

from ...space.errors import SecateurError, border
from ..asked.settings import LogSettings


def module_of(name: str) -> ModuleType:
    """What writes to a tracker: `check(address)` without any work, and `begin(subject)`, which makes a `Logger`."""
    return importlib.import_module(f".{name}", __package__)


def check_logs(wanted: tuple[LogSettings, ...]) -> None:
    """Raises SecateurError where a tracker is not installed, or its user not known to it."""
    for settings in wanted:
        try:
            with border(f"log: {settings.to}"):
                module_of(settings.to).check(settings.address)
        except SecateurError as error:
            if isinstance(error.__cause__, ImportError):
                raise SecateurError(
                    f"log: {settings.to} is not installed; pip install 'secateur[{settings.to}]'"
                ) from error
            raise

"""What open tables have in common: sections of a recipe told apart by a name, and entries that name a module."""

import importlib
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any

from .errors import suggest
from .settings import Settings


def section(key: str, known: Iterable[str], settings: Callable[[str], type[Settings]]) -> Callable[[object], object]:
    """A validator of sections that say by `key` which settings the rest is; what is no section passes as it is.

    It raises ValueError where there is none of that name, or (pydantic's) for what does not fit its settings.
    """

    def read(values: object) -> object:
        if not isinstance(values, Mapping):
            return values
        if key not in values:
            raise ValueError(f"write which, as {key}: one of {', '.join(known)}")
        name = values[key]
        if not isinstance(name, str) or name not in known:
            raise ValueError(f"unknown {key} '{str(name)[:40]}'; {suggest(str(name)[:40], known)}")
        return settings(name).model_validate(values)

    return read


def load(where: str, package: str | None) -> Any:
    """What "module:object" names; a module that begins with a dot is of `package`."""
    module, _, name = where.partition(":")
    return attrgetter(name)(importlib.import_module(module, package))

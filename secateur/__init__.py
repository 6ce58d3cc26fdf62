"""Secateur searches for non-uniform compression plans of transformer models."""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from .fitness.model.registration import register_when_imported
from .space.errors import SecateurError

if TYPE_CHECKING:
    from .api import Drawn, Plan, Progress, Run, describe, draw, resume, run

__all__ = ["Drawn", "Plan", "Progress", "Run", "SecateurError", "describe", "draw", "resume", "run"]

try:
    __version__ = version("secateur")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0+unknown"


register_when_imported()


def __getattr__(name: str) -> Any:
    """Loads the interface, and torch with it, only when it is asked for."""
    if name != "SecateurError" and name in __all__:
        from . import api

        return getattr(api, name)
    raise AttributeError(f"module 'secateur' has no attribute '{name}'")

"""Makes transformers load our checkpoints without remote code, once both are imported and not before.

Importing secateur must not import transformers, so that a search over something else starts at once: where transformers
is not there yet, an import hook waits for its registry of configurations.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

CONFIGURATIONS, MODELS = (f"transformers.models.auto.{name}_auto" for name in ("configuration", "modeling"))


def register_when_imported() -> None:
    """Registers the configurations now, or as soon as transformers' registries have been imported."""
    if CONFIGURATIONS in sys.modules:
        _register()
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _register() -> None:
    importlib.import_module("secateur.fitness.model.registered").register()


class _Finder(importlib.abc.MetaPathFinder):
    """Stands aside for everything but the two registries, whose loaders it wraps."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in (CONFIGURATIONS, MODELS):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    """Loads as before, and registers afterwards."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        # Every configuration needs the registry of models, which itself imports that of configurations.
        if module.__name__ == MODELS or MODELS not in sys.modules:
            _register()

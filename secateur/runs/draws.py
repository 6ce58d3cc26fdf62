"""A search repeated on several draws of its texts: a run for each, side by side in one folder.

How much an answer owes to the text that it was searched on is not seen in one run ("On the Impact of Calibration Data
in Post-training Quantization and Pruning", Williams and Aletras 2023, arXiv 2311.09755, found it to be as much as
methods differ by). Every draw has the same held-out text, so that their plans can be compared.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ..files import write_text
from ..space.errors import SecateurError
from ..space.space import Space
from .asked.reading import kept_recipe
from .asked.recipe import Recipe
from .asked.values import read_values
from .problem import space_of
from .record.folder import RunFolder, check_free
from .record.journal import FOUND

DRAWS = "draws.yaml"


def drawn(recipe: Recipe, path: Path) -> list[tuple[int, Path, Recipe]]:
    """(seed, folder, recipe) of each draw of a recipe with `seeds`."""
    held = recipe.held_out_seed if recipe.held_out_seed is not None else recipe.draws[0]
    return [
        (seed, path / f"draw-{seed}", recipe.model_copy(update={"seed": seed, "seeds": None, "held_out_seed": held}))
        for seed in recipe.draws
    ]


def is_drawn(path: Path) -> bool:
    """Whether a folder has the draws of a recipe."""
    return (path / DRAWS).is_file()


def recipe_of(path: Path) -> Recipe:
    """The recipe that is drawn there; raises SecateurError where it cannot be read."""
    file = path / DRAWS
    return kept_recipe(read_values(file, f"recipe {file}"), f"recipe {file}")


def drawn_with(path: Path, recipe: Recipe) -> bool:
    """Whether the draws in a folder are of a recipe."""
    if not is_drawn(path):
        return False
    try:
        there = recipe_of(path)
    except SecateurError:
        return False
    return there.digest() == recipe.digest()


def begin_draws(recipe: Recipe, path: Path) -> bool:
    """Makes the folder, or finds that it was begun before with the same recipe; whether it was.

    Raises:
        SecateurError: the folder is taken by something else.
    """
    if not is_drawn(path):
        check_free(path)
        write_text(path / DRAWS, recipe.to_yaml())
        return False
    if not drawn_with(path, recipe):
        raise SecateurError(f"{path}: was begun with another recipe; name another folder by --out")
    return True


@contextmanager
def opened(path: Path) -> Iterator[list[tuple[int, RunFolder, Space]]]:
    """The draws that have been finished, (seed, run, space), as long as this is open."""
    with ExitStack() as stack:
        found = []
        for seed, folder, _ in drawn(recipe_of(path), path):
            with suppress(SecateurError):  # one that has not been begun, or was stopped before there was a journal
                run = stack.enter_context(RunFolder.open(folder, writing=False))
                if FOUND in run.journal.choices():
                    found.append((seed, run, space_of(run)))
        yield found

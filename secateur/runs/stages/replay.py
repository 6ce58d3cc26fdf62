"""What a replay rests on: a search that is answered from its journal has to decide as it did."""

from importlib.metadata import version

from ...search.strategies.table import STRATEGIES, load
from ...space.errors import SecateurError
from ..asked.recipe import Recipe
from ..record.facts import CONFIG, LIBRARIES, REVISIONS, SEARCHED, SKIPPED
from ..record.folder import RunFolder
from ..record.journal import CALIBRATION, FOUND, Journal

OF_FRONTS = ("moocore",)
"""Libraries whose versions decide what is on a front."""
FIRST = 1
"""The revision of whatever a run of before has begun, which noted none."""


def is_searched(journal: Journal) -> bool:
    """Whether the search that was asked for has come to its end, so that it need not be replayed."""
    if journal.of(SEARCHED) is not None:
        return True
    # A run of before did not note that; what comes after the search has begun there.
    later = journal.of(REVISIONS) is None and FOUND in journal.choices()
    return later and any(text.partition(",")[0] != CALIBRATION for text, _ in journal.evaluations())


def note_deciding(recipe: Recipe, folder: RunFolder) -> None:
    """Notes what decides what the searches of a run do, which is to be the same to the end of each.

    Raises:
        SecateurError: a search that is not at its end was begun by other decisions, or with other libraries.
    """
    journal, strategy, searched = folder.journal, recipe.strategy, is_searched(folder.journal)
    warming = strategy.warming()
    own = [] if searched else [strategy.name, *([warming.name] if warming else [])]
    chosen = journal.choices()
    others = [name for name in recipe.wanted_baselines() if name in STRATEGIES]
    others = [name for name in others if name not in chosen and journal.of(SKIPPED, name) is None]
    begun, noted = journal.of(CONFIG) is not None, journal.of(REVISIONS)
    now = {name: load(name).revision for name in dict.fromkeys([*own, *others])}
    for name, revision in now.items():
        then = (noted or {}).get(name, FIRST) if noted is not None or begun else revision
        if then != revision:
            raise SecateurError(
                f"{folder.path}: its search by {name} was begun by a secateur that decides otherwise (revision {then}, "
                f"this is {revision}); go on with that version, or start a new run. What it has found so far can be "
                "reported and exported"
            )
    if searched and journal.of(SEARCHED) is None:
        journal.note(SEARCHED, 1)  # of a run of before, while that can still be told
    if noted is None:
        journal.note(REVISIONS, now)
    if not searched:
        _note_libraries(recipe, journal)


def _note_libraries(recipe: Recipe, journal: Journal) -> None:
    names, front = recipe.strategy.libraries, bool(recipe.objectives) or recipe.smallest
    if not front and not names:
        return
    versions = {name: version(name) for name in ("numpy", *names, *(OF_FRONTS if front else ()))}
    noted = journal.of(LIBRARIES)
    if noted is not None:  # a run of before may have noted others, too
        versions = {**noted, **{name: versions[name] for name in versions if name in noted}}
    journal.note(LIBRARIES, versions)

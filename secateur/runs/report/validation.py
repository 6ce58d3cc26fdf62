"""How much of what a search came to is owed to the text it was compared on, in words."""

from collections.abc import Sequence

from ...space.evaluation import Evaluation, mean_and_error
from ..record.facts import VALIDATION
from ..record.folder import RunFolder
from .rows import JUDGED


def validation_note(folder: RunFolder, found: Sequence[Evaluation]) -> str:
    """What the found plan comes to on the text of its search and on what was kept from that; empty where nothing was.

    `found`: its evaluations on parts of the calibration text.
    """
    noted, score = folder.journal.of(VALIDATION), folder.recipe.scores[0]
    if noted is None:
        return ""
    seen, kept = (
        [
            value
            for one in found
            if one.losses and (one.sequences.start >= noted["first"]) == later
            for value in one.losses[score]
        ]
        for later in (False, True)
    )
    if not seen or not kept:
        return ""
    (before, _), (after, error) = mean_and_error(seen), mean_and_error(kept)
    told = (
        f"Overfitting: {JUDGED.get(score, score)} {before:.4f} on the {len(seen)} sequences that it was searched on, "
        f"{after:.4f} ± {error:.4f} on {len(kept)} that were kept from the search"
    )
    told += f" ({100 * (after / before - 1):+.0f} %)" if before > 0 else ""
    count, good = len(noted["finalists"]), len(noted["good"])
    told += f"; of {count} finalists {good} {'were' if good > 1 else 'was'} as good there within one standard error"
    return f"{told}, of which the cheapest was taken." if good > 1 else f"{told}."

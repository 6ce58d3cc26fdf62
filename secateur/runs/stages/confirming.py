"""Scores what was chosen on text that no search saw."""

from ...fitness.scores.own import is_function
from ...search.steps import Batch
from ...space.objective import is_own
from ...space.scores import always_scored
from ..record.journal import OWN_SCORES
from ..workplace import memo_of
from .searching import Execution
from .trained import trained_finalists


def confirm(execution: Execution) -> None:
    """Scores every choice, and the dense model, on held-out text that no search saw.

    Functions of the user's own are asked for themselves, so that where one fails the other scores are there.
    """
    genomes = {choice.genome: None for choice in execution.folder.journal.choices().values()}
    batch = tuple(dict.fromkeys((execution.space.dense, *genomes)))
    own = tuple(filter(is_function, execution.recipe.scores))
    limited = [limit.objective.score for limit in execution.recipe.limits if not is_own(limit.objective.score)]
    scores = tuple(dict.fromkeys((*always_scored(execution.space.anatomy), *limited)))
    folder, space, bench, watcher, team = (
        execution.folder,
        execution.space,
        execution.bench,
        execution.watcher,
        execution.team,
    )
    for text in execution.recipe.held_out:
        memo = memo_of(folder, space, bench, text.title, scores, watcher, team)
        total = len(batch) * text.sequences * text.length
        watcher.phase(
            f"confirming on {'held-out text' if text.title == 'held-out' else f'held-out {text.title}'}", total
        )
        memo(Batch(batch, range(text.sequences)))
        finalists, chain = trained_finalists(execution.folder.journal)
        if finalists:
            memo(Batch(finalists, range(text.sequences), trained=chain))
        if own:
            watcher.phase(f"scoring {text.title} by {', '.join(own)}", total)
            by_own = memo_of(folder, space, bench, text.title, own, watcher, team, text.title + OWN_SCORES)
            by_own(Batch(batch, range(text.sequences)))

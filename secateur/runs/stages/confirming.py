"""Scores what was chosen on text that no search saw."""

from ...fitness.scores.own import is_function
from ...search.steps import Batch
from ...space.losses import LOSSES
from ..record.facts import PROVENANCE
from ..record.journal import HELD_OUT_SCORES
from ..workplace import memo_of
from .searching import Execution
from .trained import trained_finalists


def confirm(execution: Execution) -> None:
    """Scores every choice, and the dense model, on held-out text that no search saw."""
    genomes = {choice.genome: None for choice in execution.folder.journal.choices().values()}
    batch = (execution.space.dense, *genomes)
    for text in execution.recipe.held_out:
        folder, space, bench, watcher = execution.folder, execution.space, execution.bench, execution.watcher
        memo = memo_of(folder, space, bench, text.title, _scores(execution, text.title), watcher, execution.team)
        total = len(set(batch)) * text.sequences * text.length
        watcher.phase(
            f"confirming on {'held-out text' if text.title == 'held-out' else f'held-out {text.title}'}", total
        )
        memo(Batch(tuple(dict.fromkeys(batch)), range(text.sequences)))
        finalists, chain = trained_finalists(execution.folder.journal)
        if finalists:
            memo(Batch(finalists, range(text.sequences), trained=chain))


def _scores(execution: Execution, title: str) -> tuple[str, ...]:
    """What held-out text is scored by: what all are, and functions of the user's own; of a run of before, as it was."""
    noted = execution.folder.journal.of(PROVENANCE, LOSSES.on(title))
    if noted is not None and len(noted["scores"]) == len(HELD_OUT_SCORES):
        return HELD_OUT_SCORES
    return (*HELD_OUT_SCORES, *filter(is_function, execution.recipe.scores))

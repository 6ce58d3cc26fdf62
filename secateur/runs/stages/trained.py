"""What a run notes of the training of its candidates, and who is confirmed after it."""

from ...search.memo import Memo
from ...search.steps import Batch
from ...search.trained import Comparison, TrainedSelection, training_chains
from ...space.genome import Genome
from ...space.losses import TRAINING_PASSES, Losses
from ...space.question import Chain
from ..asked.recipe import Recipe
from ..record.facts import SELECTION, SelectionFact
from ..record.journal import CALIBRATION, FOUND, UNTRAINED, Choice, Journal

FINALISTS = 8
"""Candidates of a strategy that trains its own of which the report says what training changed."""


def note_training(recipe: Recipe, journal: Journal, memo: Memo, selection: TrainedSelection | None) -> None:
    """Notes candidates before and after training, what it cost, and whom the search would have chosen without.

    Of a strategy that trains its own those that came to the last stage most lately are compared, which takes their
    scores without training.
    """
    found = journal.choices()[FOUND]
    if journal.of(SELECTION) is not None:
        return
    if selection is not None:
        comparisons, chain = selection.comparisons, tuple(stage.tokens for stage in selection.stages)
        untrained, trained, failed = selection.untrained or found.genome, selection.trained_tokens, selection.failed
    else:
        chain, failed = _own_chain(recipe), []
        comparisons, trained = _own_comparisons(journal, memo, found.genome, chain)
        untrained = min(comparisons, key=lambda one: one.untrained).genome if comparisons else found.genome
    values: SelectionFact = {
        "chain": list(chain),
        "trained": trained,
        "searched": selection is not None,
        "failed": failed,
        "candidates": [
            {"genome": list(one.genome.levels), "untrained": one.untrained, "trained": list(one.trained)}
            for one in comparisons
        ],
    }
    if untrained != found.genome:
        journal.choose(Choice(UNTRAINED, untrained, 0, 0, 0.0))
    journal.note(SELECTION, values)


def trained_tokens(journal: Journal) -> int:
    """What training took of a search's tokens."""
    values = journal.of(SELECTION)
    return TRAINING_PASSES * int(values["trained"]) if values else 0


def trained_finalists(journal: Journal) -> tuple[tuple[Genome, ...], Chain]:
    """Whom to confirm after training, and after which: the answer, and what it would have been without training."""
    values, choices = journal.of(SELECTION), journal.choices()
    if not values:
        return (), ()
    genomes = [choices[name].genome for name in (FOUND, UNTRAINED) if name in choices]
    return tuple(genomes), tuple(values["chain"])


def _own_chain(recipe: Recipe) -> Chain:
    assert recipe.training_text is not None
    return training_chains(recipe.strategy.trained(), recipe.training_text.length)[-1]


def _own_comparisons(journal: Journal, memo: Memo, found: Genome, chain: Chain) -> tuple[list[Comparison], int]:
    """The last candidates to be trained to the end, on the sequences of the first of them; and all tokens trained."""
    stages = [chain[: count + 1] for count in range(len(chain))]
    texts = [list(journal.answers(Losses(stage), CALIBRATION)) for stage in stages]
    total = sum(stage[-1] * len({one.genome for _, one in rows}) for stage, rows in zip(stages, texts, strict=True))
    finished = [one for _, one in texts[-1] if one.status == "ok"]
    # In the order in which they came first: what is scored here is on record too when a killed run comes by again.
    came = list(dict.fromkeys(one.genome for one in finished))
    genomes = tuple(dict.fromkeys([found, *reversed(came)]))[:FINALISTS]
    used = range(max((len(one.sequences) for one in finished), default=1))
    before = memo(Batch(genomes, used))
    after = memo(Batch(genomes, used, trained=chain))
    return [
        Comparison(one.genome, one.loss, (two.loss,))
        for one, two in zip(before, after, strict=True)
        if one.status == two.status == "ok"
    ], total

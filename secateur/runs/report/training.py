"""What a report says of a run that trained its candidates before it chose among them."""

import math
from itertools import accumulate

from scipy.stats import spearmanr

from ...space.evaluation import Evaluation
from ...space.genome import Genome
from ...space.losses import Losses
from ...space.space import Space
from ..record.facts import SELECTION
from ..record.folder import RunFolder
from ..record.journal import FOUND, UNTRAINED
from .prediction import predicted_loss


def training_notes(
    folder: RunFolder, space: Space, losses: dict[tuple[str, str], list[Evaluation]], held_out: tuple[str, ...]
) -> tuple[str, ...]:
    """Cost, rank correlation, whether another one won, and the answer on held-out text after training; may be empty."""
    values, choices = folder.journal.of(SELECTION), folder.journal.choices()
    if not values:
        return ()
    chain, candidates = tuple(values["chain"]), values["candidates"]
    notes = [f"Training of candidates took {values['trained']:,} trained tokens (stages of {_listed(chain)})."]
    for stage, count in enumerate(values.get("failed", ()), start=1):
        if count:
            notes.append(f"In stage {stage} training failed for {count} of those that came to it.")
    for stage in range(max((len(one["trained"]) for one in candidates), default=0)):
        both = [(one["untrained"], one["trained"][stage]) for one in candidates if len(one["trained"]) > stage]
        if len(both) >= 3:
            value = float(spearmanr(*zip(*both, strict=True)).statistic)
            shown = f"{value:.2f}" if math.isfinite(value) else "not defined"
            what = f"stage {stage + 1}" if values["searched"] else "their training"
            notes.append(f"Rank correlation of {len(both)} candidates before and after {what}: {shown} (Spearman).")
    if UNTRAINED in choices:
        own = "without it the search would have answered with 'untrained'"
        best = f"'untrained' was the best of the {len(candidates)} compared before training"
        notes.append(f"Training changed the winner: {own if values['searched'] else best}.")
    elif any(len(one["trained"]) == (len(chain) if values["searched"] else 1) for one in candidates):
        notes.append("Training did not change the winner.")
    else:
        notes.append("No candidate came through all of its training; the answer is chosen without the rest of it.")
    winner = next((one for one in candidates if tuple(one["genome"]) == choices[FOUND].genome.levels), None)
    points = list(zip(accumulate(chain), winner["trained"], strict=False)) if winner is not None else []
    more = 2 * sum(chain)
    if (prediction := predicted_loss(points, more)) is not None:
        notes.append(
            f"Prediction, not a measurement (P² law through the winner's {len(points)} stages): {more:,} tokens would "
            f"leave it a loss of {prediction:.4f} on calibration text."
        )
    for name in (FOUND, UNTRAINED):
        if name in choices:
            parts = [_trained(choices[name].genome, space, losses, text, chain) for text in held_out]
            if parts and all(parts):
                notes.append(f"{name} after training, held-out: " + "; ".join(part for part in parts if part) + ".")
    return tuple(notes)


def _listed(chain: tuple[int, ...]) -> str:
    return ", ".join(f"{tokens:,}" for tokens in chain)


def _trained(
    genome: Genome,
    space: Space,
    losses: dict[tuple[str, str], list[Evaluation]],
    text: str,
    chain: tuple[int, ...],
) -> str:
    """The scores of a trained genome on one text; empty where it has none."""
    rows = losses.get((Losses(chain).on(text), space.key(genome)), [])
    if not rows or any(row.status == "failed" for row in rows):
        return ""
    whole = {name: [value for row in rows for value in row.losses[name]] for name in rows[0].losses}
    means = {name: sum(column) / len(column) for name, column in whole.items()}
    return f"{text} " + ", ".join(
        f"perplexity {math.exp(min(mean, 700.0)):.2f}" if name == "cross_entropy" else f"{name} {mean:.4f}"
        for name, mean in means.items()
    )

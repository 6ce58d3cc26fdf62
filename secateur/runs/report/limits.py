"""Whether budgets on scores hold, on the text that was searched on and on text that was not, in words."""

from collections.abc import Mapping, Sequence

from ...plans.plan import Score
from ...space.limits import Limit
from ..record.journal import CALIBRATION

Scores = Mapping[str, Mapping[str, Score]]
"""By text and score."""


def limit_lines(limits: Sequence[Limit], plans: Sequence[tuple[str, Scores]], dense: Scores) -> tuple[str, ...]:
    """A line for each budget on a score: on each text, what each plan comes to and whether that keeps it."""
    lines = []
    for limit in limits:
        texts = dict.fromkeys(text for _, scores in plans for text in scores if not text.startswith(f"{CALIBRATION}:"))
        told = []
        for text in texts:
            groups: dict[bool, list[str]] = {}
            for name, scores in plans:
                value, most = value_of(limit, scores.get(text, {})), most_of(limit, dense.get(text, {}))
                if limit.relative and _count(limit, scores.get(text)) != _count(limit, dense.get(text)):
                    continue  # of other sequences, which may be easier
                if value is not None and most is not None:
                    groups.setdefault(value <= most, []).append(f"{name} ({value:.4g})")
            if groups:
                parts = [f"{'kept' if how else 'NOT kept'} by {', '.join(groups[how])}" for how in sorted(groups)]
                where = "the calibration text" if text == CALIBRATION else f"held-out {text}"
                told.append(f"on {where} {' and '.join(parts)}")
        if told:
            lines.append(f"{limit}: {'; '.join(told)}")
    return tuple(lines)


def _count(limit: Limit, scores: Mapping[str, Score] | None) -> int:
    """Sequences that the score was measured on."""
    score = (scores or {}).get(limit.objective.score)
    return score.sequences if score is not None else 0


def value_of(limit: Limit, scores: Mapping[str, Score]) -> float | None:
    """What a limited score comes to on a text; None where it was not scored there."""
    score = scores.get(limit.objective.score)
    return limit.objective.mean(score.mean) if score is not None else None


def most_of(limit: Limit, dense: Mapping[str, Score]) -> float | None:
    """The most that it may come to there; None where that is relative to what was not scored."""
    if not limit.relative:
        return limit.most
    value = value_of(limit, dense)
    return None if value is None else limit.most * value

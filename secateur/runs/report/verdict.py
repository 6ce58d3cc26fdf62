"""What a run comes to, in words: the first lines of every report of one plan."""

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

from ...space.limits import Limit
from ..asked.recipe import Recipe
from ..record.journal import FOUND, UNTRAINED
from .limits import most_of, value_of
from .rows import JUDGED, ORIGINS, Row, mean_held_out

KIN = 3
"""Genes by which a plan may differ from a published rule's and still be called its kin."""


def verdict(rows: list[Row], held_out: tuple[str, ...], when: str, judged: str) -> str:
    """The first line of every report; `when` says of which weights."""
    if not rows or rows[0].name != FOUND:
        return "No plan found yet: the search has not finished."
    if not held_out:
        return "Not confirmed: the recipe names no held-out text, so nothing is claimed."
    baselines = [row for row in rows if row.name not in (FOUND, UNTRAINED, *ORIGINS)]
    if not math.isfinite(mean_held_out(rows[0], held_out, judged)):
        return "Not confirmed yet: the found plan has not been scored on held-out text."
    scored = comparable(rows)
    if not scored and any(row.broken and not row.slack for row in baselines):
        return (
            "Not compared: on held-out text no baseline that uses the budgets on costs up keeps those on scores that "
            "the found plan keeps."
        )
    if not scored and any(row.slack for row in baselines):
        return (
            "Not compared, since the sides are unequal: every baseline keeps less than the budgets and the found plan. "
            "Searched baselines, such as greedy and random, use budgets up."
        )
    if not scored:
        return "Not compared: the run has no baseline that was scored on held-out text."
    best = min(scored, key=lambda row: mean_held_out(row, held_out, judged))
    assert best.against is not None
    d = best.against
    unit = " nats per token" if judged in JUDGED else ""
    numbers = f"{JUDGED.get(judged, judged)} {d.mean:+.4f}{unit}, 95 % interval [{d.low:+.4f}, {d.high:+.4f}]"
    numbers += f", {d.sequences} sequences"
    if d.better:
        return f"The found plan {when}beats the best baseline ({best.name}) on held-out text: {numbers}."
    if best.genome == rows[0].genome:
        return f"The found plan is that of the best baseline ({best.name}); the search has found nothing better."
    return f"The found plan {when}does NOT beat the best baseline ({best.name}) on held-out text: {numbers}."


def comparable(rows: Sequence[Row]) -> list[Row]:
    """The baselines that a verdict counts."""
    others = [row for row in rows if row.name not in (FOUND, UNTRAINED, *ORIGINS)]
    return [row for row in others if row.against is not None and not row.slack and not row.broken]


def by_domain(rows: Sequence[Row], held_out: tuple[str, ...], judged: str) -> str:
    """The found plan against the best baseline on each held-out text, with intervals; empty where there is one text."""
    scored = comparable(rows)
    if len(held_out) < 2 or not scored:
        return ""
    best = min(scored, key=lambda row: mean_held_out(row, held_out, judged))
    told = [
        f"{text} {difference.mean:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"
        for text, difference in best.by_text.items()
    ]
    return f"Found minus {best.name}, text by text (95 %): {', '.join(told)}."


def smallest(recipe: Recipe, rows: Sequence[Row], held_out: Sequence[str]) -> str:
    """The first line where the smallest plan was asked for that keeps a score."""
    if not rows or rows[0].name != FOUND:
        return "No plan found yet: the search has not finished."
    found, cost = rows[0], recipe.score
    kept = " and ".join(map(str, recipe.limits))
    others = [row for row in rows if row.name not in (FOUND, *ORIGINS, *recipe.peers)]
    origin = ORIGINS[rows[-1].name]
    if found.costs[cost] >= rows[-1].costs[cost]:
        return f"No plan that is smaller than {origin} was found to keep {kept} on the calibration text."

    def share(row: Row) -> str:
        return f"{row.costs[cost] / max(1, rows[-1].costs[cost]):.4f} of {origin}'s {cost}"

    told = f"The smallest plan found that keeps {kept} on the calibration text takes {share(found)}"
    if others:
        best = min(others, key=lambda row: row.costs[cost])
        told += f"; the smallest of the baselines that do ({best.name}) {share(best)}"
    broken = [
        f"{limit.objective.name} {value_of(limit, found.scores[text]):.4g} on {text}"
        for limit in recipe.limits
        for text in held_out
        if _keeps(limit, text, found, rows[-1]) is False
    ]
    known = [_keeps(limit, text, found, rows[-1]) is not None for limit in recipe.limits for text in held_out]
    if broken:
        told += f". On held-out text it does NOT keep them all: {', '.join(broken)}"
    elif known and all(known):
        told += "; it keeps them on held-out text too"
    elif known:
        told += "; whether it does on held-out text has not been scored"
    return f"{told}."


def kin(rows: Sequence[Row], others: Collection[str], genes: int) -> str:
    """What is said of a found plan that is nearly that of a published rule; `others`: rows that are of none."""
    if not rows or rows[0].name != FOUND:
        return ""
    rules = [row for row in rows[1:] if row.name not in others and row.genome != rows[0].genome]
    changes = {row.name: len(rows[0].genome.changed(row.genome)) for row in rules}
    nearest = min(changes, key=lambda name: changes[name], default="")
    if not nearest or not 0 < changes[nearest] <= KIN:
        return ""
    return f"The found plan is {nearest}'s but for {changes[nearest]} of {genes} genes."


def with_broken(recipe: Recipe, rows: list[Row], held_out: Sequence[str]) -> list[Row]:
    """With marks where budgets on scores are not kept on held-out text that the found plan keeps there."""
    if not recipe.limits or rows[0].name != FOUND:
        return rows
    found, dense = rows[0], rows[-1]
    kept = [(limit, text) for limit in recipe.limits for text in held_out if _keeps(limit, text, found, dense)]
    others = [replace(row, broken=any(_keeps(*one, row, dense) is False for one in kept)) for row in rows[1:-1]]
    return [rows[0], *others, rows[-1]]


def _keeps(limit: Limit, text: str, row: Row, dense: Row) -> bool | None:
    """Whether a plan keeps a budget on a score on a text; None where that is not known."""
    value, most = value_of(limit, row.scores.get(text, {})), most_of(limit, dense.scores.get(text, {}))
    return None if value is None or most is None else value <= most

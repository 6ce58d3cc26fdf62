"""Races: challengers against an incumbent on the same text, more of it only for those who may still win.

All see the same shuffled sequences in the same order, and the incumbent has been scored on them before, so it costs
nothing. After each look at twice as many sequences a challenger leaves whose paired difference to the incumbent says
that it is worse (Student's t, one-sided). The k-th look may err with probability risk / (k (k + 1)): these add up to
`risk` over however many looks, so that the test loses a challenger that is truly better with probability `risk` at
most, wherever the race ends: a union bound over looks, as in racing since Maron and Moore 1994. It is less, since looks
without a test, on few sequences and the last, use nothing of their share. The bound holds for differences that are
normal, and an incumbent that was not chosen on the same sequences; skewed differences and a lucky incumbent make it
larger, which is why nobody is tested on fewer than `FEWEST` sequences. Beyond the test at most half of the challengers
go on after a look, those with the least loss, so that a field of equals is not carried to the end.
"""

import math
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from ..space.evaluation import Evaluation
from ..space.genome import Genome
from ..space.question import Chain
from .archive import Goal
from .steps import Batch, best_of

FEWEST = 4
"""Sequences under which nobody is dropped by the test."""


def looks(first: int, last: int) -> tuple[int, ...]:
    """How many sequences each look has: `first`, then twice as many each time, at last `last`."""
    counts = [min(first, last)]
    while counts[-1] < last:
        counts.append(min(2 * counts[-1], last))
    return tuple(counts)


def worse(challenger: Sequence[float], incumbent: Sequence[float], risk: float) -> bool:
    """Whether the mean of paired differences (sequences,) is above zero; wrong with probability `risk` if normal."""
    difference = np.subtract(challenger, incumbent)
    mean, count = float(difference.mean()), len(difference)
    if count < FEWEST or mean <= 0:
        return False
    error = float(difference.std(ddof=1)) / math.sqrt(count)
    return mean > error * float(scipy.special.stdtrit(count - 1, 1 - risk))


def spent(risk: float, look: int) -> float:
    """The part of `risk` that the `look`-th look (from 1) may use up; all looks together use less than all of it."""
    return risk / (look * (look + 1))


def race(
    challengers: Sequence[Genome],
    incumbent: Genome | None,
    counts: Sequence[int],
    risk: float,
    halve: bool = True,
    answer: Genome | None = None,
    trained: Sequence[Chain] = (),
) -> Generator[Batch, list[Evaluation], Evaluation | None]:
    """Runs one race on the first `counts[-1]` sequences at most; of equals the incumbent wins.

    Args:
        challengers: distinct, none equal to the incumbent.
        incumbent: None: the challengers race among themselves, nobody is dropped by the test.
        counts: sequences at each look, ascending.
        risk: that the test drops a challenger that is better than the incumbent, under the conditions above.
        halve: at most half of the challengers go on after a look, whatever the test says.
        answer: the best answer so far, for whoever watches.
        trained: what all are trained on before each look; an incumbent that has come as far before costs nothing then
            either.

    Returns:
        The winner's evaluation on all of the sequences; where all challengers were dropped before, the incumbent's on
        those that it took. None where all have failed.
    """
    left = list(challengers)
    for look, count in enumerate(counts, 1):
        entrants = (*left, *([incumbent] if incumbent is not None else []))
        told = yield Batch(entrants, range(count), answer, trained=trained[look - 1] if trained else ())
        results = {one.genome: one for one in told if one.status == "ok"}
        if look == len(counts):
            return best_of([*told[len(left) :], *told])
        champion = results.get(incumbent) if incumbent is not None else None
        left = [genome for genome in left if genome in results]
        if champion is not None:
            known, share = champion.compared, spent(risk, look)
            left = [genome for genome in left if not worse(results[genome].compared, known, share)]
        left.sort(key=lambda genome: results[genome].rank)
        if halve:
            del left[max(1, -(-len(challengers) // 2**look)) :]
        if not left:
            return champion
    return None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a race against a front says of a challenger: its last evaluation, and where it stands among the objectives.

    `point` is measured on all of the goal's sequences, or, of who was dropped, estimated: the losses of its rival on
    all of them plus the mean paired difference on those that were scored. Empty where the challenger failed.
    """

    evaluation: Evaluation
    point: tuple[float, ...]


def measured(evaluation: Evaluation, goal: Goal) -> Outcome:
    """What an evaluation on all of the goal's sequences says, or a failed one."""
    return Outcome(evaluation, () if evaluation.status == "failed" else goal.point(evaluation))


def race_front(
    challengers: Sequence[Genome],
    front: Iterable[Evaluation],
    goal: Goal,
    risk: float,
    answer: Genome | None = None,
) -> Generator[Batch, list[Evaluation], list[Outcome]]:
    """Scores challengers on the goal's sequences, but for those that a member of the front proves to dominate.

    A challenger's rival is the member with the least first score among those that cost no more in anything: chosen
    without a look at the challenger's losses, so that `risk` stays that of a single comparison. After each look,
    from `FEWEST` sequences on, who is worse than its rival in every score is dropped.

    Args:
        challengers: may be repeated.
        front: evaluated on all of the goal's sequences.
        goal: its scores are compared, its costs are exact.
        risk: that a challenger is dropped which its rival does not dominate, under the conditions above.
        answer: the best answer so far, for whoever watches.

    Returns:
        One for each challenger, in their order.
    """
    members = list(front)
    found: dict[Genome, Outcome] = {}
    left = tuple(dict.fromkeys(challengers))
    counts = looks(min(FEWEST, goal.sequences), goal.sequences)
    for look, count in enumerate(counts, 1):
        told = yield Batch(left, range(count), answer)
        for one in told:
            rival = _rival(one, members, goal)
            if one.status == "failed" or count == goal.sequences:
                found[one.genome] = measured(one, goal)
            elif rival is not None and _dominated(one, rival, goal, spent(risk, look)):
                found[one.genome] = Outcome(one, _estimated(one, rival, goal))
        left = tuple(genome for genome in left if genome not in found)
        if not left:
            break
    return [found[genome] for genome in challengers]


def _rival(challenger: Evaluation, members: Sequence[Evaluation], goal: Goal) -> Evaluation | None:
    costs = [objective for objective in goal.objectives if objective.is_cost]
    cheap = [one for one in members if all(cost.of(one) <= cost.of(challenger) for cost in costs)]
    return min(cheap, key=lambda one: one.loss, default=None)


def _dominated(challenger: Evaluation, rival: Evaluation, goal: Goal, risk: float) -> bool:
    names = [objective.score for objective in goal.objectives if not objective.is_cost]
    rows = [(challenger.losses[name], rival.losses[name]) for name in names]
    return all(worse(own, other[: len(own)], risk) for own, other in rows)


def _estimated(challenger: Evaluation, rival: Evaluation, goal: Goal) -> tuple[float, ...]:
    values = []
    for objective in goal.objectives:
        if objective.is_cost:
            values.append(objective.of(challenger))
        else:
            own, other = challenger.losses[objective.score], rival.losses[objective.score]
            difference = float(np.mean(np.subtract(own, other[: len(own)])))
            values.append(objective.mean(float(np.mean(other)) + difference))
    return tuple(values)

"""What a search has been told so far, as rows that a model can be fitted to."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...space.evaluation import Evaluation
from ...space.genome import Genome

MOST = 400
"""Evaluations that a model is fitted on; its time grows with their cube."""
NEAR = 0.3


@dataclass
class Known:
    """All losses so far, by genome, on the longest prefix of the text each was scored on; and what has failed.

    `over`: how far each is over the budgets on scores, in shares of the way from dense to the limit, at most 0 where it
    keeps them; nothing where there are none.
    """

    losses: dict[Genome, tuple[float, ...]] = field(default_factory=dict)
    over: dict[Genome, float] = field(default_factory=dict)
    failed: set[Genome] = field(default_factory=set)

    def add(self, told: Sequence[Evaluation]) -> None:
        for one in told:
            if one.status == "failed":
                self.failed.add(one.genome)
            elif len(one.primary) > len(self.losses.get(one.genome, ())):
                self.losses[one.genome] = one.primary
                if one.excess is not None:
                    self.over[one.genome] = one.excess

    def excess(self, genome: Genome, dense: Genome, sequences: int | None = None) -> float:
        """Mean loss over that of the dense model, on all sequences that were scored or the first ones."""
        row = self.losses[genome][:sequences]
        return float(np.mean(np.subtract(row, self._base(dense, len(row)))))

    def beyond(self, genome: Genome) -> float:
        """How far it is over the budgets on scores; 0 where it keeps them, or there are none."""
        return max(0.0, self.over.get(genome, 0.0))

    def limited(self, dense: Genome) -> tuple[list[Genome], list[float], list[int]]:
        """Genomes other than the dense one, how much of the way from dense to the limits each goes, and on how many
        sequences that was measured; the nearest to the limits where there are many."""
        genomes = [genome for genome in self.over if genome != dense]
        ways = [1 + self.over[genome] for genome in genomes]
        order = np.argsort(np.abs(_log(ways)), kind="stable")[:MOST]
        chosen = sorted(order.tolist())
        return [genomes[i] for i in chosen], [ways[i] for i in chosen], [len(self.losses[genomes[i]]) for i in chosen]

    def rows(self, dense: Genome, around: Sequence[Genome] = ()) -> tuple[list[Genome], list[float], list[int]]:
        """Genomes other than the dense one, what each loses to it, and on how many sequences that was measured.

        Text differs in difficulty: what is lost on few sequences is scaled by what those sequences make of the genomes
        that were scored on the most. The model is wanted near the losses of `around`: what loses less than `NEAR` of
        the least of them is left out, above all single changes where cuts are deep, of which the prior knows already
        (where that one loses nothing, all stay); and of more than `MOST` those count whose losses are nearest.
        """
        genomes = [genome for genome in self.losses if genome != dense]
        most = max((len(self.losses[genome]) for genome in genomes), default=0)
        base = self._base(dense, most)
        full = np.array([self.losses[genome] for genome in genomes if len(self.losses[genome]) == most]) - base
        counts = [len(self.losses[genome]) for genome in genomes]
        eases = {count: _ease(full, count) for count in set(counts)}
        losses = [
            float(np.mean(np.subtract(self.losses[genome], base[:count]))) / eases[count]
            for genome, count in zip(genomes, counts, strict=True)
        ]
        chosen = _nearest(genomes, losses, around)
        return [genomes[i] for i in chosen], [losses[i] for i in chosen], [counts[i] for i in chosen]

    def _base(self, dense: Genome, count: int) -> NDArray[np.float64]:
        """The dense model's losses (count,); where it was scored on less, its mean stands for the rest."""
        row = np.array(self.losses.get(dense, (0.0,)), dtype=float)[:count]
        return np.concatenate([row, np.full(count - len(row), row.mean() if len(row) else 0.0)])


def _ease(full: NDArray[np.float64], count: int) -> float:
    """What the first `count` sequences make of genomes (genomes, sequences), relative to what all make of them."""
    part, whole = float(full[:, :count].mean()), float(full.mean())
    return part / whole if part > 0 and whole > 0 else 1.0


def _nearest(genomes: Sequence[Genome], losses: Sequence[float], around: Sequence[Genome]) -> list[int]:
    places = {genome: index for index, genome in enumerate(genomes)}
    wanted = [losses[places[genome]] for genome in around if genome in places]
    if not wanted:
        return list(range(len(genomes)))
    least = NEAR * min(wanted) if min(wanted) > 0 else -np.inf
    distance = np.where(np.less(losses, least), np.inf, np.abs(_log(losses)[:, None] - _log(wanted)).min(1))
    order = np.argsort(distance, kind="stable")[:MOST]
    return sorted(order[np.isfinite(distance[order])].tolist())


def _log(losses: Sequence[float]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = np.log(np.maximum(losses, 1e-9))
    return result

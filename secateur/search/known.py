"""What a search has been told so far, as rows that a model can be fitted to."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..space.evaluation import Evaluation
from ..space.genome import Genome

MOST = 400
"""Evaluations that a model is fitted on; its time grows with their cube."""


@dataclass
class Known:
    """All losses so far, by genome, on the longest prefix of the text each was scored on; and all that was tried."""

    losses: dict[Genome, tuple[float, ...]] = field(default_factory=dict)
    tried: set[Genome] = field(default_factory=set)

    def add(self, told: Sequence[Evaluation]) -> None:
        for one in told:
            self.tried.add(one.genome)
            if one.status != "failed" and len(one.primary) > len(self.losses.get(one.genome, ())):
                self.losses[one.genome] = one.primary

    def mean(self, genome: Genome, sequences: int | None = None) -> float:
        return float(np.mean(self.losses[genome][:sequences]))

    def rows(self, dense: Genome, around: Sequence[Genome] = ()) -> tuple[list[Genome], list[float], list[int]]:
        """Genomes other than the dense one, what each loses to it, and on how many sequences that was measured.

        Of more than `MOST` those count whose losses are nearest to those of `around`: the model is wanted there.

        Text differs in difficulty: losses on few sequences are scaled by what those sequences make of the genomes that
        were scored on the most.
        """
        genomes = self._nearest([genome for genome in self.losses if genome != dense], around)
        most = max((len(self.losses[genome]) for genome in genomes), default=0)
        full = np.array([self.losses[genome] for genome in genomes if len(self.losses[genome]) == most])
        base = self.losses.get(dense, (0.0,))
        eases: dict[int, float] = {}
        losses, counts = [], []
        for genome in genomes:
            row = self.losses[genome]
            count = len(row)
            if count not in eases:
                eases[count] = float(np.mean(full[:, :count].mean(1) / full.mean(1)))
            counts.append(count)
            losses.append((float(np.mean(row)) - float(np.mean(base[:count]))) / max(eases[count], 1e-6))
        return genomes, losses, counts

    def _nearest(self, genomes: list[Genome], around: Sequence[Genome]) -> list[Genome]:
        if len(genomes) <= MOST or not around:
            return genomes
        wanted = np.log([max(1e-9, self.mean(genome)) for genome in around])
        losses = np.log([max(1e-9, self.mean(genome)) for genome in genomes])
        distance = np.abs(losses[:, None] - wanted).min(1)
        return [genomes[index] for index in sorted(np.argsort(distance, kind="stable")[:MOST].tolist())]

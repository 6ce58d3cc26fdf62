"""Which genes matter, given the others, and the one genome that stands for all genomes of a subnet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from .anatomy import Anatomy
from .gene import Gene, Place
from .genome import Genome

PATTERNS = 10_000
"""Of what is silenced, for which it is remembered what that makes of the genes."""


@dataclass(frozen=True)
class Activity:
    """What genes make of each other: a dropped MLP has no sparsity, a dropped block no attention."""

    anatomy: Anatomy
    genes: tuple[Gene, ...]
    gone: frozenset[Place] = frozenset()
    """What has been dropped before any gene decides."""

    @cached_property
    def _places(self) -> tuple[frozenset[Place], ...]:
        """For each gene, where it decides."""
        return tuple(gene.kind.places(gene, self.anatomy) - self.gone for gene in self.genes)

    @cached_property
    def _silencing(self) -> tuple[tuple[int, Mapping[int, frozenset[Place]]], ...]:
        """Genes that can make others matter no more, and where they do at which levels."""
        found = []
        for index, gene in enumerate(self.genes):
            silenced = (gene.kind.silences(gene, level, self.anatomy) - self.gone for level in range(len(gene.levels)))
            levels = dict(enumerate(silenced))
            if levels := {level: places for level, places in levels.items() if places}:
                found.append((index, levels))
        return tuple(found)

    @cached_property
    def independent(self) -> bool:
        """Whether every gene matters whatever the others are, so that every genome is canonical."""
        who: dict[Place, set[int]] = {}
        for index, levels in self._silencing:
            for place in frozenset().union(*levels.values()):
                who.setdefault(place, set()).add(index)
        alone = all(who.get(place, set()) <= {index} for index, places in enumerate(self._places) for place in places)
        return alone and not any(
            who[place] - {index}
            for index, levels in self._silencing
            if self.genes[index].kind.absorbs
            for place in frozenset().union(*levels.values())
        )

    def active(self, genome: Genome) -> tuple[bool, ...]:
        """Which genes matter, given the others: a dropped MLP has no sparsity, a dropped block no attention.

        In canonical form a gene that does not matter is at level 0.
        """
        if self.independent:
            return (True,) * len(self.genes)
        silent = self._silent(genome)
        if silent not in self._known_active:
            if len(self._known_active) >= PATTERNS:
                self._known_active.clear()
            who = self._silenced(genome)
            active = [True] * len(self.genes)
            for index in {index for place in who for index in self._deciding.get(place, ())}:
                active[index] = any(not who.get(place, set()) - {index} for place in self._places[index])
            self._known_active[silent] = tuple(active)
        return self._known_active[silent]

    @cached_property
    def _deciding(self) -> Mapping[Place, Sequence[int]]:
        """By place, the genes that decide there."""
        found: dict[Place, list[int]] = {}
        for index, places in enumerate(self._places):
            for place in places:
                found.setdefault(place, []).append(index)
        return found

    def _silent(self, genome: Genome) -> tuple[int, ...]:
        """The levels of a genome that silence something, 0 for those that do not."""
        levels = genome.levels
        return tuple([levels[index] if levels[index] in places else 0 for index, places in self._silencing])

    def _silenced(self, genome: Genome) -> dict[Place, set[int]]:
        """By whom places are silenced."""
        who: dict[Place, set[int]] = {}
        for index, levels in self._silencing:
            for place in levels.get(genome.levels[index], ()):
                who.setdefault(place, set()).add(index)
        return who

    @cached_property
    def _known_active(self) -> dict[tuple[int, ...], tuple[bool, ...]]:
        """Which genes matter, by what is silenced: nothing else decides that."""
        return {}

    def canonical(self, genome: Genome) -> Genome:
        """The one genome that stands for all genomes of the same subnet."""
        if self.independent or not any(self._silent(genome)):
            return genome
        levels = list(genome.levels)
        if self._absorbing:
            who = self._silenced(genome)
            for index, last, blocks in self._absorbing:
                if any(all(who.get(place, set()) - {index} for place in places) for places in blocks):
                    levels[index] = last
        active = self.active(Genome(tuple(levels)))
        return Genome(tuple([level if on else 0 for level, on in zip(levels, active, strict=True)]))

    @cached_property
    def _absorbing(self) -> tuple[tuple[int, int, tuple[tuple[Place, ...], ...]], ...]:
        """Genes whose last level stands for what others silence, that level, and what it silences of each block."""
        found = []
        for index, levels in self._silencing:
            gene = self.genes[index]
            if gene.kind.absorbs:
                last = len(gene.levels) - 1
                blocks = tuple(tuple(place for place in levels[last] if place[0] == block) for block in gene.blocks)
                found.append((index, last, blocks))
        return tuple(found)

"""A genome: which level each gene of a space is at."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Genome:
    """A frozen tuple of level indices, one per gene, in the order of the space's genes. Level 0 is dense."""

    levels: tuple[int, ...]

    def with_level(self, gene: int, level: int) -> "Genome":
        """The genome with one gene at another level."""
        return Genome((*self.levels[:gene], level, *self.levels[gene + 1 :]))

    def changed(self, other: "Genome") -> tuple[int, ...]:
        """Indices of the genes at which the two differ."""
        return tuple(i for i, (a, b) in enumerate(zip(self.levels, other.levels, strict=True)) if a != b)

"""Genes: one decision each, with levels ordered from dense to smallest, and what a kind of gene is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from .anatomy import Anatomy, Block
from .errors import SecateurError
from .state import BlockState
from .treatments import DENSE, Sparsity, Treatment

Level = int | Treatment
"""What is kept, 0 meaning dropped; or a treatment of linears."""
Place = tuple[int, str]
"""A sublayer of a block: what can be there or not."""
Feature = Literal["drops", "widths", "zeros", "bits", "treatments", "stream"]
"""What genes can do to a model: drop sublayers or blocks, narrow them, set weights of linears to zero, store them in
fewer bits, treat linears otherwise, narrow the stream."""


class Kind(Protocol):
    """What the genes of one kind decide, and everything that others want to know of them.

    One file in `kinds/` has a kind with its settings, one line in `kinds/table.py` makes recipes know it. Methods take
    a gene of the kind and the index of one of its levels.

    Attributes:
        name: in recipes, in the keys of genes and in reports.
        dimension: of blocks, whose length its levels give; empty where they give none.
        free: what a level costs adds to what the other genes cost, as long as what it is about is there.
        everywhere: what everything else costs depends on its level.
        absorbs: where others have silenced all that its last level silences, that level stands for theirs.
    """

    @property
    def name(self) -> str: ...
    @property
    def dimension(self) -> str: ...
    @property
    def free(self) -> bool: ...
    @property
    def everywhere(self) -> bool: ...
    @property
    def absorbs(self) -> bool: ...

    def features(self, gene: "Gene") -> frozenset[Feature]:
        """What its levels can do."""

    def apply(self, gene: "Gene", level: int, block: Block, state: BlockState) -> BlockState:
        """What a level makes of one of the blocks that the gene touches. Never undoes what others have made."""

    def places(self, gene: "Gene", anatomy: Anatomy) -> frozenset[Place]:
        """Where it decides: it matters as long as one of them is not silenced by others. None: it always matters."""

    def silences(self, gene: "Gene", level: int, anatomy: Anatomy) -> frozenset[Place]:
        """Where nothing matters any more at a level."""

    def removed(self, gene: "Gene", level: int) -> float:
        """The share that a level removes, in [0, 1]."""

    def nearest(self, gene: "Gene", states: Sequence[BlockState], anatomy: Anatomy) -> int:
        """The level that is nearest to what another plan makes of the blocks."""


@dataclass(frozen=True, slots=True)
class Gene:
    """One decision: what it decides (`kind`), where (`site`), and its `levels` from dense (level 0) to smallest.

    `members` are the (block, linear) pairs that it covers, or (block, -1) for each block that it touches.
    """

    kind: Kind
    site: str
    levels: tuple[Level, ...]
    members: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        if len(self.levels) < 2:
            raise SecateurError(f"gene {self.key}: needs at least two levels, got {len(self.levels)}")
        # Types of other treatments are in the order of their bytes, which depend on the linear.
        plain = all(isinstance(level, int | Sparsity) for level in self.levels)
        sizes = [-level if isinstance(level, int) else level.share for level in self.levels if plain]
        if sizes != sorted(sizes) or len(set(self.levels)) != len(self.levels):
            raise SecateurError(f"gene {self.key}: levels must differ and go from dense to smallest")
        if not isinstance(self.levels[0], int) and self.levels[0] != DENSE:
            raise SecateurError(f"gene {self.key}: the first {self.kind.name} level must be 0 (dense)")

    @property
    def key(self) -> str:
        """Stable name, for example `sparsity@3.mlp.up_proj` or `attention@7`."""
        return f"{self.kind.name}@{self.site}"

    @property
    def blocks(self) -> tuple[int, ...]:
        """The blocks that it touches."""
        return tuple(dict.fromkeys(block for block, _ in self.members))

    @property
    def features(self) -> frozenset[Feature]:
        """What its levels can do."""
        return self.kind.features(self)

    @property
    def drops(self) -> bool:
        """Whether its last level removes what it is about."""
        return "drops" in self.features

    @property
    def narrows(self) -> bool:
        """Whether one of its levels keeps a part, but not all."""
        return "widths" in self.features

    @property
    def counts(self) -> tuple[int, ...]:
        """Its levels that say how much is kept, those that drop left out."""
        return tuple(level for level in self.levels if isinstance(level, int) and level)

    @property
    def treatments(self) -> tuple[Treatment, ...]:
        """Its levels that are treatments of linears."""
        return tuple(level for level in self.levels if not isinstance(level, int))

    def removed(self, level: int) -> float:
        """The share that a level removes, in [0, 1]."""
        return self.kind.removed(self, level)

    def label(self, level: int) -> float | int | str:
        """The value of a level as written to JSON."""
        value = self.levels[level]
        return value if isinstance(value, int) else value.to_json()


def nearest_level(gene: Gene, share: float) -> int:
    """The level of `gene` that removes a share closest to `share`; the denser one when two are as close."""
    return min(range(len(gene.levels)), key=lambda level: (abs(gene.removed(level) - share), level))


def features_of(genes: Iterable[Gene]) -> frozenset[Feature]:
    """What any of the genes can do."""
    return frozenset(feature for gene in genes for feature in gene.features)

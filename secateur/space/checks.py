"""What does not fit together in a space, said before anything is tried."""

from collections.abc import Sequence
from dataclasses import dataclass

from .anatomy import Anatomy, Axis
from .base import Base
from .costs import Costs
from .errors import SecateurError
from .gene import Gene
from .state import treated_of
from .treatments import Sparsity, Treatment, words


def check_genes(anatomy: Anatomy, genes: Sequence[Gene]) -> None:
    """Raises SecateurError where there are no genes, or two that decide on the same."""
    if not genes:
        raise SecateurError("the space has no genes; add at least one under 'genes'")
    keys = [gene.key for gene in genes]
    if len(set(keys)) != len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise SecateurError(f"gene {twice} is declared twice")
    deciding: dict[tuple[str, int, int], str] = {}
    for gene in genes:
        # A linear has one treatment, whichever kind's genes decide on it.
        what = "linear" if gene.treatments else gene.kind.dimension or gene.kind.name
        for block, linear in gene.members:
            other = deciding.setdefault((what, block, linear), gene.key)
            if other == gene.key:
                continue
            if linear < 0:
                raise SecateurError(f"block {block}: both {other} and {gene.key} decide on it; restrict their 'layers'")
            raise SecateurError(
                f"{anatomy.place(block, linear)}: covered by both {other} and {gene.key}; give each linear to one "
                f"{gene.kind.name if other.startswith(gene.kind.name + '@') else 'such'} gene"
            )


def check_patterns(anatomy: Anatomy, genes: Sequence[Gene], base: Base) -> None:
    """Raises SecateurError where a pattern N:M, or a type of whole blocks, would not fit narrower inputs of a linear.

    Patterns are those of the dense matrix, and have to fit what stays together of it; types are of the narrower one.
    `base`: the states that genes begin with.
    """
    widths = _Widths(anatomy, genes, base)
    wanted = [(*member, level) for gene in genes for level in gene.treatments for member in gene.members]
    for one in (*wanted, *treated_of(anatomy.blocks, base)):
        _check_rising(widths, *one)
        _check_multiple(widths, *one)


def _check_multiple(widths: "_Widths", index: int, place: int, level: Treatment) -> None:
    columns = widths.anatomy.blocks[index].matrices[place].columns
    if level.multiple == 1:
        return
    for size in sorted((widths.runs if isinstance(level, Sparsity) else widths.rows)(index, columns)):
        if size % level.multiple:
            kind = "pattern" if isinstance(level, Sparsity) else "level"
            raise SecateurError(
                f"{widths.anatomy.place(index, place)}: the {kind} {words(level)} does not fit a width of {size} "
                f"inputs; set 'multiple_of' to a multiple of {level.multiple}, or leave it out"
            )


def _check_rising(widths: "_Widths", index: int, place: int, level: Treatment) -> None:
    """Raises SecateurError where a narrower linear would take more bytes, since its rows fall to a larger type."""
    if not isinstance(level, Sparsity) and level.multiple == 1:
        anatomy = widths.anatomy
        linear = anatomy.blocks[index].matrices[place]
        sizes = sorted(widths.rows(index, linear.columns))
        needed = [level.at(size).bytes(1, size, anatomy.bytes_per_parameter) for size in sizes]
        for size, own, larger, more in zip(sizes, needed, sizes[1:], needed[1:], strict=False):
            if own > more:
                raise SecateurError(
                    f"{anatomy.place(index, place)}: a row of {size} inputs takes {own} bytes as "
                    f"{words(level)}, one of {larger} only {more}; set "
                    "'multiple_of' so that widths are whole blocks of the type, or multiples of 32"
                )


@dataclass(frozen=True)
class _Widths:
    """What rows of linears can be as long as."""

    anatomy: Anatomy
    genes: Sequence[Gene]
    base: Base

    def runs(self, index: int, columns: Axis) -> set[int]:
        """The lengths that `columns` can take in runs that stay together: whole heads, channels, residual width."""
        block, kept = self.anatomy.blocks[index], self.base[index].kept
        if len(columns) != 1:
            return set()
        segment = block.segments[columns[0]]
        if segment.unit > 1:
            own = [gene for gene in self._touching(index) if gene.kind.dimension in segment.dimensions]
            below = any(0 < kept[one] < block.dimensions[one] for one in segment.dimensions)
            narrowed = below or any(gene.narrows for gene in own)
            return {segment.unit} if narrowed else {block.dense_sizes[columns[0]]}
        # Units of the last dimension lie side by side in each unit of those before it.
        return self._counts(index, segment.dimensions[-1], dropped=True)

    def rows(self, index: int, columns: Axis) -> set[int]:
        """The lengths that `columns` can have in all."""
        if len(columns) != 1:
            return set()
        segment = self.anatomy.blocks[index].segments[columns[0]]
        found = {segment.unit}
        for dimension in segment.dimensions:
            found = {size * count for size in found for count in self._counts(index, dimension)}
        return found

    def _touching(self, index: int) -> list[Gene]:
        return [gene for gene in self.genes if index in gene.blocks]

    def _counts(self, index: int, dimension: str, dropped: bool = False) -> set[int]:
        own = [gene for gene in self._touching(index) if gene.kind.dimension == dimension]
        counts = {count for gene in own for count in gene.levels if isinstance(count, int) and (count or dropped)}
        return counts or {self.base[index].kept[dimension]}


def check_projection(anatomy: Anatomy, gene: Gene, dense: Costs, first: Costs) -> None:
    """Raises SecateurError where the projection that a rotation adds outweighs what the first level removes."""
    if first.parameters > dense.parameters or first.macs > dense.macs:
        raise SecateurError(
            f"hidden: level {gene.levels[1]} would cost more than the full width "
            f"{anatomy.hidden_size}, since a rotated residual stream with tied embeddings needs a projection "
            "before the head; begin with a smaller level"
        )

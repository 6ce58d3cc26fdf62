"""What does not fit together in a space, said before anything is tried."""

from collections.abc import Sequence

from .anatomy import Anatomy, Axis
from .costs import Costs
from .errors import SecateurError
from .gene import Gene
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


def check_patterns(anatomy: Anatomy, genes: Sequence[Gene]) -> None:
    """Raises SecateurError where a pattern N:M, or a type of whole blocks, would not fit narrower inputs of a linear.

    Patterns are those of the dense matrix, and have to fit what stays together of it; types are of the narrower one.
    """
    for gene in genes:
        for level in gene.treatments:
            _check_rising(anatomy, genes, gene, level)
            if level.multiple == 1:
                continue
            for index, linear in gene.members:
                columns = anatomy.blocks[index].matrices[linear].columns
                sizes = _input_sizes if isinstance(level, Sparsity) else _row_sizes
                for size in sorted(sizes(anatomy, genes, index, columns)):
                    if size % level.multiple:
                        kind = "pattern" if isinstance(level, Sparsity) else "level"
                        raise SecateurError(
                            f"{anatomy.place(index, linear)}: the {kind} {words(level)} does not fit a width of {size} "
                            f"inputs; set 'multiple_of' to a multiple of {level.multiple}, or leave it out"
                        )


def _check_rising(anatomy: Anatomy, genes: Sequence[Gene], gene: Gene, level: Treatment) -> None:
    """Raises SecateurError where a narrower linear would take more bytes, since its rows fall to a larger type."""
    for index, place in gene.members if not isinstance(level, Sparsity) and level.multiple == 1 else ():
        linear = anatomy.blocks[index].matrices[place]
        sizes = sorted(_row_sizes(anatomy, genes, index, linear.columns))
        needed = [level.at(size).bytes(1, size, anatomy.bytes_per_parameter) for size in sizes]
        for size, own, larger, more in zip(sizes, needed, sizes[1:], needed[1:], strict=False):
            if own > more:
                raise SecateurError(
                    f"{anatomy.place(index, place)}: a row of {size} inputs takes {own} bytes as "
                    f"{words(level)}, one of {larger} only {more}; set "
                    "'multiple_of' so that widths are whole blocks of the type, or multiples of 32"
                )


def _input_sizes(anatomy: Anatomy, genes: Sequence[Gene], index: int, columns: Axis) -> set[int]:
    """The lengths that `columns` can take in runs that stay together: whole heads, channels, residual width."""
    block = anatomy.blocks[index]
    touching = [gene for gene in genes if index in gene.blocks]
    if len(columns) != 1:
        return set()
    segment = block.segments[columns[0]]
    own = [gene for gene in touching if gene.kind.dimension in segment.dimensions]
    if segment.unit > 1:
        return {segment.unit} if any(gene.narrows for gene in own) else {block.dense_sizes[columns[0]]}
    # Units of the last dimension lie side by side in each unit of those before it.
    last = segment.dimensions[-1]
    counts = {level for gene in own if gene.kind.dimension == last for level in gene.levels if isinstance(level, int)}
    return counts or {block.dimensions[last]}


def _row_sizes(anatomy: Anatomy, genes: Sequence[Gene], index: int, columns: Axis) -> set[int]:
    """The lengths that `columns` can have in all."""
    block = anatomy.blocks[index]
    if len(columns) != 1:
        return set()
    segment = block.segments[columns[0]]
    found = {segment.unit}
    for dimension in segment.dimensions:
        own = [gene for gene in genes if index in gene.blocks and gene.kind.dimension == dimension]
        counts = {count for gene in own for count in gene.levels if isinstance(count, int) and count}
        found = {size * count for size in found for count in counts or {block.dimensions[dimension]}}
    return found


def check_projection(anatomy: Anatomy, gene: Gene, dense: Costs, first: Costs) -> None:
    """Raises SecateurError where the projection that a rotation adds outweighs what the first level removes."""
    if first.parameters > dense.parameters or first.macs > dense.macs:
        raise SecateurError(
            f"hidden: level {gene.levels[1]} would cost more than the full width "
            f"{anatomy.hidden_size}, since a rotated residual stream with tied embeddings needs a projection "
            "before the head; begin with a smaller level"
        )

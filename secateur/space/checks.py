"""What does not fit together in a space, said before anything is tried."""

from collections.abc import Mapping, Sequence

from .anatomy import Anatomy, Axis
from .costs import Costs
from .errors import SecateurError
from .gene import Gene, Sparsity

Structure = Mapping[tuple[str, int], int]
"""Index of the structured gene of a kind at a block."""


def check_genes(genes: Sequence[Gene]) -> None:
    """Raises SecateurError where there are no genes, or two of a kind decide on the same block."""
    if not genes:
        raise SecateurError("the space has no genes; add at least one under 'genes'")
    keys = [gene.key for gene in genes]
    if len(set(keys)) != len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise SecateurError(f"gene {twice} is declared twice")
    deciding: dict[tuple[str, int], str] = {}
    for gene in genes:
        for block, _ in gene.members if gene.kind != "sparsity" else ():
            other = deciding.setdefault((gene.kind, block), gene.key)
            if other != gene.key:
                raise SecateurError(f"block {block}: both {other} and {gene.key} decide on it; restrict their 'layers'")


def check_covered(anatomy: Anatomy, genes: Sequence[Gene]) -> None:
    """Raises SecateurError where two sparsity genes decide on the same linear."""
    covered: dict[tuple[int, int], str] = {}
    for gene in genes:
        if gene.kind != "sparsity":
            continue
        for member in gene.members:
            if member in covered:
                linear = anatomy.blocks[member[0]].linears[member[1]].name
                raise SecateurError(
                    f"block {member[0]}, {linear}: covered by both {covered[member]} and {gene.key}; "
                    "give each linear to one sparsity gene"
                )
            covered[member] = gene.key


def check_patterns(anatomy: Anatomy, genes: Sequence[Gene], structure: Structure) -> None:
    """Raises SecateurError where a pattern N:M would not fit the narrower inputs of a linear."""
    for gene in genes:
        for level in gene.levels:
            if not isinstance(level, Sparsity) or not level.of:
                continue
            for index, linear in gene.members:
                columns = anatomy.blocks[index].linears[linear].columns
                for size in _input_sizes(anatomy, genes, structure, index, columns):
                    if size % level.of:
                        name = anatomy.blocks[index].linears[linear].name
                        raise SecateurError(
                            f"block {index}, {name}: the pattern {level} does not fit a width of {size} inputs; "
                            f"set 'multiple_of' to a multiple of {level.of}, or leave the pattern out"
                        )


def _input_sizes(anatomy: Anatomy, genes: Sequence[Gene], structure: Structure, index: int, columns: Axis) -> set[int]:
    """The lengths that `columns` can take in runs that stay together: whole heads, channels, residual width."""
    block = anatomy.blocks[index]
    if columns == ("query",):
        found = [structure.get((kind, index)) for kind in ("attention", "queries")]
        narrows = any(genes[gene].narrows for gene in found if gene is not None)
        return {block.head_dim} if narrows else {block.heads * block.head_dim}
    kind = "mlp" if columns == ("channel",) else "hidden" if columns == ("hidden",) else ""
    gene = structure.get((kind, index))
    return {int(level) for level in genes[gene].levels if isinstance(level, int)} if gene is not None else set()


def check_projection(anatomy: Anatomy, gene: Gene, dense: Costs, first: Costs) -> None:
    """Raises SecateurError where the projection that a rotation adds outweighs what the first level removes."""
    if first.parameters > dense.parameters or first.macs > dense.macs:
        raise SecateurError(
            f"hidden: level {gene.levels[1]} would cost more than the full width "
            f"{anatomy.hidden_size}, since a rotated residual stream with tied embeddings needs a projection "
            "before the head; begin with a smaller level"
        )

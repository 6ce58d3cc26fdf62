"""A plan below a space: what it has done to the blocks already, on top of which genes decide."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from .anatomy import Anatomy
from .errors import SecateurError
from .gene import Feature, Gene, Place
from .state import BlockState, dense_state
from .treatments import TREATMENTS, words

Base = tuple[BlockState, ...]
"""The states of all blocks."""


def begun(anatomy: Anatomy, base: Base | None) -> Base:
    """The states that genes begin with: those of the base, or the dense ones."""
    return base if base is not None else tuple(dense_state(block) for block in anatomy.blocks)


def gone(anatomy: Anatomy, base: Base | None) -> frozenset[Place]:
    """The sublayers that the base has dropped."""
    pairs = zip(anatomy.blocks, base, strict=True) if base is not None else ()
    return frozenset((block.index, one.name) for block, state in pairs for one in block.sublayers if not state.has(one))


def features_of_states(anatomy: Anatomy, base: Base) -> frozenset[Feature]:
    """What a base has done, as `features_of` says it of genes."""

    def found() -> Iterator[Feature]:
        if gone(anatomy, base):
            yield "drops"
        if base[0].hidden < anatomy.hidden_size:
            yield from ("stream", "widths")
        for block, state in zip(anatomy.blocks, base, strict=True):
            if any(state.narrowed(block, one) for one in block.sublayers):
                yield "widths"
            yield from (TREATMENTS[level.name].feature for level in state.treated.values())

    return frozenset(found())


def left_of(anatomy: Anatomy, genes: Sequence[Gene], base: Base) -> tuple[Gene, ...]:
    """Genes over what the base has left: those of dropped sublayers are not among them.

    Raises:
        SecateurError: a gene decides on what the base has decided on, or none is left.
    """
    dropped, found = gone(anatomy, base), []
    for gene in genes:
        members = []
        for member in gene.members:
            alone = replace(gene, members=(member,))
            last = gene.kind.silences(alone, len(gene.levels) - 1, anatomy)
            if any(places and places <= dropped for places in (gene.kind.places(alone, anatomy), last)):
                continue
            _check_undecided(anatomy, gene, member, base[member[0]])
            members.append(member)
        if members:
            found.append(replace(gene, members=tuple(members)))
            _check_falling(anatomy, found[-1], base)
    if not found:
        raise SecateurError("base: the plan has dropped everything that the genes are about; leave it out")
    return tuple(found)


def _check_undecided(anatomy: Anatomy, gene: Gene, member: tuple[int, int], state: BlockState) -> None:
    block, dimension = anatomy.blocks[member[0]], gene.kind.dimension
    if dimension and state.kept[dimension] < block.dimensions[dimension]:
        where = "the residual stream" if gene.kind.everywhere else f"layer {block.index}"
        raise SecateurError(
            f"base: the plan keeps {state.kept[dimension]} of {block.dimensions[dimension]} {dimension} of {where} "
            f"already, and gene {gene.key} decides on them; leave that out of 'genes'"
        )
    if gene.treatments and (level := state.level(block.matrices[member[1]].name)):
        raise SecateurError(
            f"base: the plan has {anatomy.place(*member)} at {words(level)} already, and gene {gene.key} decides on "
            "it; leave that out of 'genes'"
        )


def _check_falling(anatomy: Anatomy, gene: Gene, base: Base) -> None:
    """Raises SecateurError where levels are no longer in the order of their bytes, since rows are narrower."""
    linears = [
        anatomy.blocks[index].matrices[place].shape(base[index].sizes(anatomy.blocks[index]))
        for index, place in (gene.members if gene.treatments else ())
    ]
    width = anatomy.bytes_per_parameter
    sizes = [
        sum(level.at(inputs).bytes(outputs, inputs, width) for outputs, inputs in linears) for level in gene.treatments
    ]
    for number, (first, then) in enumerate(pairwise(sizes)):
        if then > first:
            one, other = (words(level) for level in gene.treatments[number : number + 2])
            raise SecateurError(
                f"base: gene {gene.key}: in rows as the plan has left them {other} takes more than {one}; leave one out"
            )

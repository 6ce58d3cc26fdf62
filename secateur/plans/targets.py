"""What plans are for: a recipe's `target`, and the space without what that could not carry out.

Every format is a target. Besides: `llama.cpp`, the `gguf` with MLP widths in whole blocks of its quantised types;
`transformers-plain`, checkpoints of the stock class; `vllm`, what its Transformers backend has been read to take
(version 0.33, in source only: it refuses layers without attention).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..space.errors import SecateurError, suggest
from ..space.gene import Gene
from ..space.genome import Genome
from ..space.layout import stock_widths
from ..space.space import Space
from .features import ALL, Subject
from .formats.form import Format
from .formats.gguf import GGUF
from .formats.hf import HF
from .formats.table import FORMATS, refusal

BLOCK_32 = 32
"""Weights in a block of llama.cpp's simple quantised types; K-quants have 256 (`multiple_of: 256`)."""


@dataclass(frozen=True, slots=True)
class Target:
    """A consumer.

    Attributes:
        form: what it can express, and its checks.
        multiple: of what MLP widths have to be multiples.
        uniform: widths have to be the same in all layers.
        stock: repairs and rotations may add no parameters to the family's own.
    """

    form: Format
    multiple: int = 1
    uniform: bool = False
    stock: bool = False


def _stock(subject: Subject) -> str | None:
    if stock_widths(subject.anatomy, subject.states) is None:
        return "the stock class has no sizes of its own per layer, and this one would need them"
    return HF.refuses(subject)


CONSUMERS: dict[str, Target] = {
    "llama.cpp": Target(GGUF, multiple=BLOCK_32),
    "transformers-plain": Target(replace(HF, carries=ALL - {"sublayers"}, refuses=_stock), uniform=True, stock=True),
    "vllm": Target(replace(HF, carries=ALL - {"sublayers"})),
}
"""Those that ask for more than their format does."""


def target_of(name: str) -> Target:
    """Raises SecateurError when there is no such target."""
    if name in CONSUMERS:
        return CONSUMERS[name]
    if name not in FORMATS:
        raise SecateurError(f"target: unknown '{name}'; {suggest(name, (*FORMATS, *CONSUMERS))}")
    return Target(FORMATS[name])


def restricted(space: Space, name: str, path: str, dtype: str, config: Mapping[str, Any]) -> tuple[Gene, ...]:
    """The genes with those levels alone that the target can carry out, each tried by itself on the dense model (of a
    stock class, with the widths of the genes before it).

    `path`, `dtype` and `config` are those of the dense model.

    Raises:
        SecateurError: all genes of a kind would be left without a decision, or something is added to the stock class.
    """
    target = target_of(name)
    if target.stock and space.additions.bias:
        raise SecateurError(f"target: {name} has no place for added biases; choose another repair in 'widths'")
    if target.stock and space.additions.projection:
        raise SecateurError(
            f"target: {name} has no place for the matrix behind a rotated stream; widths: {{hidden: magnitude}}"
        )
    shape = space.anatomy
    if space.additions.bias and (refused := target.form.biases(shape)) is not None:
        raise SecateurError(refused)
    if space.base is not None and (refused := refusal(target.form, Subject(shape, space.base, config, path, dtype))):
        raise SecateurError(f"target: {name} cannot carry out the plan below: {refused}")
    if space.base is not None and target.form.first and not all(space.base[0].kept.values()):
        raise SecateurError(f"target: {name} reads sizes off layer 0, of which the plan below has dropped something")
    genes: list[Gene] = []
    reasons: dict[str, str] = {}
    # Widths of a stock class depend on each other: one gene's levels are tried with all that the ones before may take.
    widths: list[Genome] = [space.dense]
    for index, gene in enumerate(space.genes):
        kept: list[Any] = [gene.levels[0]]
        tried = widths if target.stock and gene.narrows else [space.dense]
        fitting = []
        for level in range(1, len(gene.levels)):
            combined = [genome.with_level(index, level) for genome in tried]
            refusals = (
                refusal(target.form, Subject(shape, space.states(space.canonical(genome)), config, path, dtype))
                for genome in combined
            )
            reason = next((one for one in refusals if one is not None), None)
            if reason is None:
                kept.append(gene.levels[level])
                fitting += combined
            else:
                reasons.setdefault(gene.kind.name, reason)
        owner = shape.blocks[gene.blocks[0]].with_dimension(gene.kind.dimension)
        alone = owner is not None and owner.dimensions == (gene.kind.dimension,)
        if tried is widths and not alone:
            widths = [*widths, *fitting]
        if len(kept) > 1:
            genes.append(replace(gene, levels=tuple(kept)))
        elif genes and gene.treatments and any(one.kind.name == gene.kind.name for one in genes):
            # Of linears that have no level left while others have, nobody would know.
            raise SecateurError(f"target: {name} leaves nothing to decide for {gene.key}: {reasons[gene.kind.name]}")
    for kind, reason in reasons.items():
        if not any(gene.kind.name == kind for gene in genes):
            raise SecateurError(f"target: {name} leaves nothing to decide for {kind} genes: {reason}")
    return tuple(genes)

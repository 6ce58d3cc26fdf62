"""Widths prepared once: the importance order of every axis, the model permuted by it, and repaired weights per width.

A folder is named by what went into it: the model, the text, the order. It has one file with the order of each block,
one with the basis of the residual stream where that is searched, and one for each repaired width of a sublayer.
"""

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ...space.anatomy import Block, Linear, Sublayer
from ...space.space import Space
from ..cache import cache_folder, digest, read_tensors, usable, write_tensors
from ..model.blocks import Blocks
from ..text import Sequences, predicted
from ..zeros.level_store import as_matrix
from ..zeros.preparation import block_statistics
from .axes import Order, kept_positions, permuted, unit_sums
from .orders import ACTIVATION_ORDERS, NEEDS_GRAM, flap_scores
from .repairs import REPAIRS

VERSION = 1
"""Part of every folder's address: raise it when an order or a repair changes."""
GRADIENT_SEQUENCES = 8
"""Sequences whose gradients the order `taylor` adds up."""
Watch = Callable[[int, int], None]
Widths = tuple[int, ...]
"""What is kept of each of a sublayer's dimensions: (KV groups, query heads in each) of an attention."""


@dataclass(frozen=True, slots=True)
class WidthSettings:
    """How widths are made: importance `order`, `repair` of what is left or None, `hidden` order or None."""

    order: str
    repair: str | None = None
    hidden: str | None = None


def width_folder(model_digest: str, settings: WidthSettings, text: Sequences) -> Path:
    """Where the widths of a model live."""
    name = digest(VERSION, model_digest, settings.order, settings.hidden or "", text.digest)
    return cache_folder() / "widths" / f"{settings.order}-{name}"


def find_orders(blocks: Blocks, order: str, text: Sequences, folder: Path, watch: Watch) -> list[Order]:
    """Every block's order, as `measure_orders` has it."""
    measure_orders(blocks, order, text, folder, range(len(blocks.modules)), watch)
    return [read_tensors(_order_file(folder, block.index)) for block in blocks.anatomy.blocks]


def measure_orders(
    blocks: Blocks, order: str, text: Sequences, folder: Path, layers: Collection[int], watch: Watch
) -> None:
    """Measures the dense model where the folder has no order of a layer yet, from where an earlier attempt stopped.

    Raises:
        SecateurError: the folder cannot be written, or a file in it is damaged.
    """
    paths = {index: _order_file(folder, index) for index in layers}
    todo = sorted(index for index, path in paths.items() if not usable(path))
    if todo:
        gradients = _weight_times_gradient(blocks, text) if order == "taylor" else {}
        for block, hidden in blocks.inputs(text.ids if order in ACTIVATION_ORDERS else (), todo[-1] + 1):
            if block.index in todo:
                found = _order(blocks, block, order, hidden, gradients)
                write_tensors(paths[block.index], {name: t.contiguous() for name, t in found.items()})
                watch(todo.index(block.index) + 1, len(todo))


def _order_file(folder: Path, block: int) -> Path:
    return folder / f"block-{block:03d}.order.safetensors"


def _order(
    blocks: Blocks, block: Block, order: str, hidden: list[torch.Tensor], gradients: Mapping[str, torch.Tensor]
) -> Order:
    parameters, prefix = blocks.dense(block.index), blocks.anatomy.block_prefix(block.index)
    if order in ACTIVATION_ORDERS:
        lasts = [sublayer.linears[-1] for sublayer in block.sublayers]
        statistics = block_statistics(blocks, block, hidden, order in NEEDS_GRAM, lasts)

        def ranked(sublayer: Sublayer, dimensions: tuple[str, ...]) -> torch.Tensor:
            last = sublayer.linears[-1]
            weight = as_matrix(last, parameters[f"{last.name}.weight"]).double()
            return ACTIVATION_ORDERS[order](weight, statistics[last.name], _unit(block, sublayer, dimensions))

    else:

        def ranked(sublayer: Sublayer, dimensions: tuple[str, ...]) -> torch.Tensor:
            names = [tensor.name for tensor in sublayer.parameters()]
            values = {name: parameters[name].double().square() for name in names}
            if order == "taylor":
                values = {name: gradients[prefix + name] for name in names}
            return unit_sums(block, sublayer, values, dimensions).argsort(descending=True, stable=True)

    found = {}
    for sublayer in block.sublayers:
        for dimension, dimensions in _prefixes(sublayer):
            place = ranked(sublayer, dimensions).cpu().argsort()
            found[dimension] = place.reshape([block.dimensions[one] for one in dimensions]).argsort(dim=-1)
    return found


def _prefixes(sublayer: Sublayer) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each dimension of a sublayer, and the dimensions that count its units: those before it, and itself."""
    for number, dimension in enumerate(sublayer.dimensions):
        yield dimension, sublayer.dimensions[: number + 1]


def _unit(block: Block, sublayer: Sublayer, dimensions: tuple[str, ...]) -> int:
    """How many inputs of the sublayer's last linear a unit writes."""
    [name] = sublayer.linears[-1].columns
    segment = block.segments[name]
    return segment.unit * math.prod(block.dimensions[one] for one in segment.dimensions[len(dimensions) :])


def same_order(block: Block) -> Order:
    """The order in which the units of a block are anyway."""
    return {
        dimension: torch.arange(counts[-1]).expand(*counts).clone()
        for sublayer in block.sublayers
        for dimension, dimensions in _prefixes(sublayer)
        for counts in [[block.dimensions[one] for one in dimensions]]
    }


def _weight_times_gradient(blocks: Blocks, text: Sequences) -> dict[str, torch.Tensor]:
    """|weight * gradient of the next-token loss| of every parameter of the blocks, by full name."""
    prefix = f"{blocks.anatomy.blocks_path}."
    named = {name: p for name, p in blocks.model.named_parameters() if name.startswith(prefix)}
    for parameter in named.values():
        parameter.requires_grad_(True)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            for sequence in range(min(GRADIENT_SEQUENCES, len(text))):
                _, targets = predicted(text, sequence)
                torch.autograd.backward(blocks.loss(text.ids[sequence][None].clone(), targets[None].clone()))
        return {name: (p.data * p.grad).abs() for name, p in named.items() if p.grad is not None}
    finally:
        for parameter in named.values():
            parameter.requires_grad_(False)
            parameter.grad = None


def permute_model(blocks: Blocks, orders: Iterable[Order], hidden: torch.Tensor | None) -> None:
    """Puts heads, channels and (with `hidden`) residual features in order; the model computes what it did before."""
    anatomy = blocks.anatomy
    ordered = list(orders)
    blocks.change(lambda index, tensor, values: permuted(tensor, values, anatomy.blocks[index], ordered[index], hidden))
    if hidden is not None:
        first = anatomy.blocks[0]
        unchanged = same_order(first)
        for tensor in anatomy.outside:
            parameter = blocks.model.get_parameter(tensor.name)
            parameter.data = permuted(tensor, parameter.data, first, unchanged, hidden)


def narrower_sublayers(space: Space) -> dict[int, set[tuple[str, Widths]]]:
    """Every narrower width that a sublayer can have in a space, by block."""
    wanted: dict[int, set[tuple[str, Widths]]] = {}
    for block in space.anatomy.blocks:
        levels = {gene.kind.dimension: gene.counts for gene in space.genes if block.index in gene.blocks}
        wanted[block.index] = set()
        for sublayer in block.sublayers:
            full = tuple(block.dimensions[one] for one in sublayer.dimensions)
            begun = space.begun[block.index].kept
            counts = [levels.get(one, (begun[one],)) for one in sublayer.dimensions]
            kept = {one for one in itertools.product(*counts) if one != full and all(one)}
            wanted[block.index] |= {(sublayer.name, one) for one in kept}
    return wanted


def repair_file(folder: Path, block: int, sublayer: str, widths: Widths, repair: str) -> Path:
    """Where the repaired last linear of a sublayer is kept for a width."""
    name = "x".join(map(str, widths if len(widths) > 1 else (*widths, 0)))
    return folder / f"block-{block:03d}.{sublayer}-{name}.{repair}.safetensors"


def prepare_repairs(
    blocks: Blocks,
    repairs: Sequence[str],
    wanted: Mapping[int, Iterable[tuple[str, Widths]]],
    text: Sequences,
    folder: Path,
    watch: Watch,
) -> None:
    """Writes the repaired last linears of every wanted width, by block; the model must be dense and permuted.

    Statistics are those of the dense model, so that one preparation serves every genome; several repairs share them.

    Raises:
        SecateurError: the folder cannot be written.
    """
    missing = {
        index: [
            (repair, *one)
            for repair in repairs
            for one in sorted(widths)
            if not usable(repair_file(folder, index, *one, repair))
        ]
        for index, widths in sorted(wanted.items())
    }
    todo = [index for index, files in missing.items() if files]
    if not todo:
        return
    for block, hidden in blocks.inputs(text.ids, todo[-1] + 1):
        if block.index in todo:
            lasts: dict[str, Linear] = {sublayer.name: sublayer.linears[-1] for sublayer in block.sublayers}
            names = {name for _, name, _ in missing[block.index]}
            linears = [linear for name, linear in lasts.items() if name in names]
            gram = any(repair != "bias" for repair, _, _ in missing[block.index])
            statistics = block_statistics(blocks, block, hidden, gram, linears)
            for repair, name, widths in missing[block.index]:
                last, dimensions = lasts[name], block.sublayer(name).dimensions
                dense = blocks.dense(block.index)[f"{last.name}.weight"]
                matrix = as_matrix(last, dense).double()
                counts = {**block.dimensions, **dict(zip(dimensions, widths, strict=True))}
                kept = kept_positions(last.columns, last.inputs, block, counts)
                repaired, bias = REPAIRS[repair](matrix, statistics[last.name], kept)
                tensors = {"weight": repaired.to("cpu", dense.dtype).contiguous()}
                if bias is not None:
                    tensors["bias"] = bias.to("cpu", dense.dtype)
                write_tensors(repair_file(folder, block.index, name, widths, repair), tensors)
            watch(todo.index(block.index) + 1, len(todo))


def fluctuations(blocks: Blocks, text: Sequences, sequences: int) -> list[dict[str, torch.Tensor]]:
    """FLAP's scores of each block's units by the first dimension of their sublayer, standardised within it.

    FLAP (An et al. 2024, arXiv 2312.11983, sec. 4.2): so that units of different sublayers compare.
    """
    scores = []
    for block, hidden in blocks.inputs(text.ids[:sequences]):
        lasts = [sublayer.linears[-1] for sublayer in block.sublayers]
        statistics = block_statistics(blocks, block, hidden, False, lasts)
        row = {}
        for sublayer, linear in zip(block.sublayers, lasts, strict=True):
            weight = blocks.dense(block.index)[f"{linear.name}.weight"]
            size = _unit(block, sublayer, sublayer.dimensions[:1])
            score = flap_scores(as_matrix(linear, weight).double(), statistics[linear.name], size)
            spread = score.std(correction=0)  # of a single unit there is none
            row[sublayer.dimensions[0]] = (score - score.mean()) / spread.clamp_min(1e-12)
        scores.append(row)
    return scores

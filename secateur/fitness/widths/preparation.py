"""Widths prepared once: the importance order of every axis, the model permuted by it, and repaired weights per width.

A folder is named by what went into it: the model, the text, the order. It has one file with the order of each block,
one with the basis of the residual stream where that is searched, and one for each repaired width of a sublayer.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ...space.anatomy import Block, Linear, Sublayer
from ...space.space import Space
from ..cache import cache_folder, digest, read_tensors, usable, write_tensors
from ..model.blocks import Blocks
from ..scores.rows import predicted
from ..text import Sequences
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
Widths = tuple[int, int]
"""(KV groups, query heads in each) of an attention; (channels, 0) of an MLP."""


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
    """Measures the dense model where the folder has no order yet, from where an earlier attempt stopped.

    Raises:
        SecateurError: the folder cannot be written, or a file in it is damaged.
    """
    paths = {block.index: folder / f"block-{block.index:03d}.order.safetensors" for block in blocks.anatomy.blocks}
    todo = [index for index, path in paths.items() if not usable(path)]
    if todo:
        gradients = _weight_times_gradient(blocks, text) if order == "taylor" else {}
        for block, hidden in blocks.inputs(text.ids if order in ACTIVATION_ORDERS else (), todo[-1] + 1):
            if block.index in todo:
                found = _order(blocks, block, order, hidden, gradients)
                tensors = {"groups": found.groups, "queries": found.queries, "channels": found.channels}
                write_tensors(paths[block.index], {name: t.contiguous() for name, t in tensors.items()})
                watch(todo.index(block.index) + 1, len(todo))
    return [Order(**read_tensors(path)) for path in paths.values()]


def _order(
    blocks: Blocks, block: Block, order: str, hidden: list[torch.Tensor], gradients: Mapping[str, torch.Tensor]
) -> Order:
    module, prefix = blocks.modules[block.index], blocks.anatomy.block_prefix(block.index)
    if order in ACTIVATION_ORDERS:
        lasts = [sublayer.linears[-1] for sublayer in block.sublayers]
        statistics = block_statistics(blocks, block, hidden, order in NEEDS_GRAM, lasts)
        rank = ACTIVATION_ORDERS[order]
        weights = [as_matrix(one, module.get_parameter(f"{one.name}.weight").data).double() for one in lasts]
        inputs = [statistics[one.name] for one in lasts]
        groups = rank(weights[0], inputs[0], block.queries * block.head_dim)
        heads = rank(weights[0], inputs[0], block.head_dim)
        channels = rank(weights[1], inputs[1], 1)
    else:

        def by_sum(sublayer: Sublayer, unit: str) -> torch.Tensor:
            names = [tensor.name for tensor in sublayer.parameters()]
            values = {name: module.get_parameter(name).data.double().square() for name in names}
            if order == "taylor":
                values = {name: gradients[prefix + name] for name in names}
            return unit_sums(block, sublayer, values, unit).argsort(descending=True, stable=True)

        groups, heads = by_sum(block.attention, "groups"), by_sum(block.attention, "heads")
        channels = by_sum(block.mlp, "channels")
    place = heads.cpu().argsort().reshape(block.kv_heads, block.queries)
    return Order(groups.cpu(), place.argsort(dim=1), channels.cpu())


def same_order(block: Block) -> Order:
    """The order in which the units of a block are anyway."""
    heads = torch.arange(block.queries).repeat(block.kv_heads, 1)
    return Order(torch.arange(block.kv_heads), heads, torch.arange(block.channels))


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
                blocks.loss(text.ids[sequence][None].clone(), targets[None].clone()).backward()  # type: ignore[no-untyped-call]
        return {name: (p.data * p.grad).abs() for name, p in named.items() if p.grad is not None}
    finally:
        for parameter in named.values():
            parameter.requires_grad_(False)
            parameter.grad = None


def permute_model(blocks: Blocks, orders: Iterable[Order], hidden: torch.Tensor | None) -> None:
    """Puts heads, channels and (with `hidden`) residual features in order; the model computes what it did before."""
    anatomy = blocks.anatomy
    for block, order in zip(anatomy.blocks, orders, strict=True):
        for sublayer in block.sublayers:
            for tensor in sublayer.parameters():
                parameter = blocks.modules[block.index].get_parameter(tensor.name)
                parameter.data = permuted(tensor, parameter.data, block, order, hidden)
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
        attention = {
            ("attention", (groups, queries))
            for groups in levels.get("groups", (block.kv_heads,))
            for queries in levels.get("queries", (block.queries,))
            if groups * queries < block.heads
        }
        mlp = {("mlp", (channels, 0)) for channels in levels.get("channels", ()) if channels < block.channels}
        wanted[block.index] = attention | mlp
    return wanted


def repair_file(folder: Path, block: int, kind: str, widths: Widths, repair: str) -> Path:
    """Where the repaired last linear of a sublayer is kept for a width."""
    return folder / f"block-{block:03d}.{kind}-{widths[0]}x{widths[1]}.{repair}.safetensors"


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
            lasts: dict[str, Linear] = {sublayer.kind: sublayer.linears[-1] for sublayer in block.sublayers}
            kinds = {kind for _, kind, _ in missing[block.index]}
            linears = [linear for kind, linear in lasts.items() if kind in kinds]
            gram = any(repair != "bias" for repair, _, _ in missing[block.index])
            statistics = block_statistics(blocks, block, hidden, gram, linears)
            for repair, kind, widths in missing[block.index]:
                weight = blocks.modules[block.index].get_parameter(f"{lasts[kind].name}.weight").data
                matrix = as_matrix(lasts[kind], weight).double()
                kept = kept_positions(lasts[kind].columns, lasts[kind].inputs, block, _sizes(block, kind, widths))
                repaired, bias = REPAIRS[repair](matrix, statistics[lasts[kind].name], kept)
                tensors = {"weight": repaired.float().cpu().contiguous()}
                if bias is not None:
                    tensors["bias"] = bias.float().cpu()
                write_tensors(repair_file(folder, block.index, kind, widths, repair), tensors)
            watch(todo.index(block.index) + 1, len(todo))


def _sizes(block: Block, kind: str, widths: Widths) -> dict[str, int]:
    if kind == "attention":
        return block.sizes(*widths, block.channels, block.hidden)
    return block.sizes(block.kv_heads, block.queries, widths[0], block.hidden)


def fluctuations(blocks: Blocks, text: Sequences, sequences: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """FLAP's scores of each block's KV groups and channels, standardised within the sublayer.

    FLAP (An et al. 2024, arXiv 2312.11983, sec. 4.2): so that units of different sublayers compare.
    """
    scores = []
    for block, hidden in blocks.inputs(text.ids[:sequences]):
        lasts = [sublayer.linears[-1] for sublayer in block.sublayers]
        statistics = block_statistics(blocks, block, hidden, False, lasts)
        row = []
        for linear, size in zip(lasts, (block.queries * block.head_dim, 1), strict=True):
            weight = blocks.modules[block.index].get_parameter(f"{linear.name}.weight").data
            score = flap_scores(as_matrix(linear, weight).double(), statistics[linear.name], size)
            spread = score.std(correction=0)  # of a single unit there is none
            row.append((score - score.mean()) / spread.clamp_min(1e-12))
        scores.append((row[0], row[1]))
    return scores

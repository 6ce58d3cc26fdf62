"""Filling the level store: block by block over the calibration text, one file at a time, from where it stopped."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import nn

from ...space.anatomy import Block, Linear
from ...space.treatments import Sparsity
from ..cache import cache_folder, digest, usable, write_tensors
from ..model.blocks import Blocks
from ..text import Sequences
from ..widths.rotation import norm_before
from .level_store import INPUTS, VERSION, as_matrix, needs_inputs, needs_text, plane_file, plane_name
from .nested import NESTED, Statistics, plane
from .updating import UPDATING, pack_survivors


def store_folder(model_digest: str, pruner: str, text: Sequences | None, has_zeros: bool = False) -> Path:
    """Where the levels of a model live; `text` counts only for pruners that look at it.

    `has_zeros`: the model was pruned before, and what updates its weights keeps that (which it once did not).
    """
    parts = [text.digest if text is not None and needs_text(pruner) else ""]
    parts += ["zeros kept"] if has_zeros and pruner in UPDATING else []
    return cache_folder() / "levels" / f"{pruner}-{digest(VERSION, model_digest, pruner, *parts)}"


def prepare(
    blocks: Blocks,
    pruner: str,
    levels: Iterable[Sparsity],
    layers: Iterable[int],
    text: Sequences | None,
    folder: Path,
    watch: Callable[[int, int], None] = lambda done, total: None,
    inputs: bool = False,
    rotation: torch.Tensor | None = None,
) -> None:
    """Writes what is missing of the planes of `levels` for the blocks `layers`; with `inputs`, also what narrower
    linears are pruned by: the squared norms of their inputs, and those seen through `rotation` (see `rotation.py`).

    Statistics are taken on the dense model's activations, so that one preparation serves every profile. Memory: the
    hidden states of the text, and one block's statistics. A killed preparation goes on at the first missing file.
    `watch` is told (blocks done, blocks to do).

    Raises:
        SecateurError: the folder cannot be written.
    """
    wanted: dict[str, list[Sparsity]] = {INPUTS: []} if inputs and needs_inputs(pruner) else {}
    for level in sorted({level for level in levels if level}, key=str):
        wanted.setdefault(plane_name(pruner, level), []).append(level)
    missing = {
        layer: [name for name in wanted if not usable(plane_file(folder, layer, name))] for layer in sorted(layers)
    }
    todo = [layer for layer, names in missing.items() if names]
    if not todo:
        return
    watch(0, len(todo))
    for anatomy, hidden in blocks.inputs(text.ids if text is not None and needs_text(pruner) else (), todo[-1] + 1):
        index = anatomy.index
        if index in todo:
            gram = pruner in UPDATING or rotation is not None
            statistics = block_statistics(blocks, anatomy, hidden, gram) if hidden else {}
            for name in missing[index]:
                if name == INPUTS:
                    tensors = input_norms(blocks.dense(index), anatomy, statistics, rotation)
                else:
                    tensors = _tensors(blocks.dense(index), anatomy, pruner, wanted[name], statistics)
                write_tensors(plane_file(folder, index, name), tensors)
            watch(todo.index(index) + 1, len(todo))


def input_norms(
    parameters: Mapping[str, torch.Tensor],
    block: Block,
    statistics: dict[str, Statistics],
    rotation: torch.Tensor | None,
) -> dict[str, torch.Tensor]:
    """Squared norms (inputs,) of each linear's input features, and `NAME@rotated` where a rotation changes them."""
    tensors = {name: one.square_sum.float().cpu() for name, one in statistics.items()}
    if rotation is None:
        return tensors
    for sublayer in block.sublayers:
        weight = parameters[norm_before(sublayer).name].double()
        for linear in sublayer.linears[:-1]:
            gram = statistics[linear.name].gram
            assert gram is not None
            seen = rotation.double() / weight[:, None]
            tensors[f"{linear.name}@rotated"] = ((gram @ seen) * seen).sum(dim=0).float().cpu()
    return tensors


def _tensors(
    parameters: Mapping[str, torch.Tensor],
    block: Block,
    pruner: str,
    levels: list[Sparsity],
    statistics: dict[str, Statistics],
) -> dict[str, torch.Tensor]:
    """The content of one plane of one block; `levels` are those that the plane serves."""
    tensors = {}
    for linear in block.linears:
        weight = as_matrix(linear, parameters[f"{linear.name}.weight"]).float()
        of = levels[0].of
        if of and linear.inputs % of:
            continue
        if pruner in NESTED:
            nested = NESTED[pruner]
            score = nested.score(weight, statistics.get(linear.name))
            tensors[linear.name] = as_matrix(linear, plane(score, nested.group, of)).cpu()
        else:
            pruned = _updated(pruner, weight, statistics[linear.name], levels[0])
            values, bits = pack_survivors(pruned.to("cpu", parameters[f"{linear.name}.weight"].dtype))
            tensors[f"{linear.name}.values"], tensors[f"{linear.name}.bits"] = values, bits
    return tensors


def _updated(pruner: str, weight: torch.Tensor, statistics: Statistics, level: Sparsity) -> torch.Tensor:
    """What a pruner that updates weights makes of a matrix (outputs, inputs), with no fewer zeros than it had.

    Of a matrix that has so many zeros already an update would only bring some of them back.
    """
    zeros = weight == 0
    if int(zeros.sum()) < level.zeros(*weight.shape):
        return UPDATING[pruner](weight, statistics, level)
    if not level.of:
        return weight
    return torch.where(zeros, 0.0, UPDATING[pruner](weight, statistics, level))


@torch.inference_mode()
def block_statistics(
    blocks: Blocks, block: Block, hidden: list[torch.Tensor], gram: bool, linears: Sequence[Linear] | None = None
) -> dict[str, Statistics]:
    """Of the input of each linear of a block, or of `linears`; those that read one tensor share one Gram matrix."""
    module = blocks.modules[block.index]
    wanted = block.linears if linears is None else linears
    totals: dict[str, torch.Tensor] = {}
    squares: dict[str, torch.Tensor] = {}
    grams: dict[str, torch.Tensor] = {}
    counts: dict[str, int] = {}
    seen: dict[int, tuple[str, torch.Tensor]] = {}
    same: dict[str, str] = {}

    def note(name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def hook(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            # Within one pass of a block the same object is the same input; held, so that no id is used twice.
            twin, _ = seen.setdefault(id(inputs[0]), (name, inputs[0]))
            same[name] = twin
            if twin != name:
                return
            rows = inputs[0].reshape(-1, inputs[0].shape[-1])
            counts[name] = counts.get(name, 0) + rows.shape[0]
            wide = rows.double()
            squares[name] = squares.get(name, 0) + (wide**2).sum(dim=0)
            totals[name] = totals.get(name, 0) + wide.sum(dim=0)
            if gram:
                # One sequence in single precision, the sum in double.
                narrow = rows.float()
                product = narrow.T @ narrow
                if name in grams:
                    grams[name] += product
                else:
                    grams[name] = product.double()

        return hook

    with ExitStack() as stack:
        for linear in wanted:
            handle = module.get_submodule(linear.name).register_forward_pre_hook(note(linear.name))
            stack.callback(handle.remove)
        for states in hidden:
            seen.clear()
            blocks.run(block.index, states)
    return {
        linear.name: Statistics(squares[twin], counts[twin], grams.get(twin), totals[twin])
        for linear in wanted
        for twin in [same[linear.name]]
    }

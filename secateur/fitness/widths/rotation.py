"""A narrower residual stream: which features to keep, and what has to change around them.

`pca` is SliceGPT (Ashkboos et al. 2024, arXiv 2401.15024, sec. 3): norm weights are folded into the linears that read
them, the stream is rotated onto its principal components, and the first ones are kept. Differently from the paper, one
rotation serves all blocks, so that the model keeps its architecture (no matrices between blocks); where the head is
tied to the embedding, which cannot take in the final norm's weight, a square matrix stands between norm and head.
`magnitude` keeps the features whose weights have the largest norm, unrotated (Minitron's width order without its
activations, Muralidharan et al. 2024, arXiv 2407.14679, sec. 2.2).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ...space.anatomy import Anatomy, Block, Linear, Sublayer, Tensor
from ..cache import read_tensors, usable, write_tensors
from ..model.blocks import Blocks
from ..text import Sequences

FILE = "hidden.safetensors"
SHARE_SEQUENCES = 8
"""Sequences on which the shares of the first features are averaged."""


@dataclass(frozen=True, slots=True)
class Basis:
    """How the residual stream is narrowed.

    Attributes:
        rotation: (hidden, hidden) float32, columns by falling variance, on the model's device; None where features are
            kept as they are.
        order: (hidden,), features by falling importance; None where they are rotated.
        shares: (sublayers + 1, hidden): at each norm in depth order, how much of the stream's root mean square the
            first features have together, averaged over tokens.
    """

    rotation: torch.Tensor | None
    order: torch.Tensor | None
    shares: torch.Tensor

    def scale(self, norm: int, width: int) -> float:
        """What the weight of a norm over the first `width` features is multiplied by, so that they keep their size."""
        hidden = self.shares.shape[1]
        return float(self.shares[norm, width - 1]) * math.sqrt(hidden / width)


def norm_before(sublayer: Sublayer) -> Tensor:
    """The norm that the sublayer's linears read, in families that normalise before the branch."""
    return next(tensor for tensor in sublayer.tensors if tensor.axes == (("hidden",),))


def norm_number(anatomy: Anatomy, block: Block, sublayer: Sublayer) -> int:
    """The place of that norm among all norms of the model, in depth order."""
    before = sum(len(other.sublayers) for other in anatomy.blocks[: block.index])
    return before + block.sublayers.index(sublayer)


def find_basis(blocks: Blocks, method: str, text: Sequences, folder: Path) -> Basis:
    """Measures on a dense model, or reads what was measured before.

    Raises:
        SecateurError: the folder cannot be written or its file is damaged.
    """
    path = folder / FILE
    if not usable(path):
        write_tensors(path, _measure(blocks, method, text))
    tensors = read_tensors(path)
    rotation = tensors.get("rotation")
    rotation = rotation.to(blocks.device) if rotation is not None else None
    return Basis(rotation, tensors.get("order"), tensors["shares"])


@torch.inference_mode()
def _measure(blocks: Blocks, method: str, text: Sequences) -> dict[str, torch.Tensor]:
    size = blocks.anatomy.hidden_size
    covariance = torch.zeros(size, size, dtype=torch.float64)
    if method == "pca":
        for rows in blocks.groups(text.ids):
            for _, unit in _streams(blocks, rows):
                covariance += unit.T @ unit
        rotation = torch.linalg.eigh(covariance).eigenvectors.flip(1)
        # The sign of an eigenvector is arbitrary; fixed, so that a basis is the same wherever it is computed.
        rotation *= rotation.gather(0, rotation.abs().argmax(dim=0, keepdim=True)).sign()
        found = {"rotation": rotation.float().contiguous()}
    else:
        order = feature_norms(blocks).argsort(descending=True, stable=True)
        found = {"order": order}
        rotation = torch.eye(size, dtype=torch.float64)[:, order]
    norms = 1 + sum(len(block.sublayers) for block in blocks.anatomy.blocks)
    shares, tokens = torch.zeros(norms, size, dtype=torch.float64), 0
    for rows in blocks.groups(text.ids[:SHARE_SEQUENCES]):
        for norm, unit in _streams(blocks, rows):
            shares[norm] += (unit @ rotation).square().cumsum(dim=1).div(size).sqrt().sum(dim=0)
        tokens += sum(map(len, rows))
    return {**found, "shares": (shares / tokens).clamp_max(1.0).float()}


def _streams(blocks: Blocks, rows: Sequence[torch.Tensor]) -> Iterator[tuple[int, torch.Tensor]]:
    """What each norm of the model gets of each row (time,) of ids: the norm's number in depth order, and (time, hidden)
    float64, scaled to a root mean square of 1.

    Scaled, like SliceGPT does, because a few tokens with huge activations would decide otherwise.
    """
    inputs: list[torch.Tensor] = []

    def scaled(stream: torch.Tensor) -> torch.Tensor:
        wide = stream[0].double().cpu()
        return wide / wide.square().mean(dim=1, keepdim=True).sqrt().clamp_min(1e-12)

    def note(_module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        inputs.append(scaled(arguments[0]))

    hidden, before = [blocks.embed(row[None]) for row in rows], 0
    for block, module in zip(blocks.anatomy.blocks, blocks.modules, strict=True):
        names = [norm_before(sublayer).name.removesuffix(".weight") for sublayer in block.sublayers]
        handles = [module.get_submodule(name).register_forward_pre_hook(note) for name in names]
        try:
            for number, states in enumerate(hidden):
                hidden[number] = blocks.run(block.index, states)
                yield from enumerate(inputs, before)
                inputs.clear()
        finally:
            for handle in handles:
                handle.remove()
        before += len(names)
    yield from ((before, scaled(states)) for states in hidden)


def feature_norms(blocks: Blocks) -> torch.Tensor:
    """Squared L2 norm of everything that reads or writes each residual feature: (hidden,) float64."""
    anatomy, total = blocks.anatomy, torch.zeros(blocks.anatomy.hidden_size, dtype=torch.float64)

    def add(tensor: Tensor, values: torch.Tensor) -> None:
        for dimension, axis in enumerate(tensor.axes):
            if axis == ("hidden",) and len(tensor.shape) == 2:
                total.add_(values.movedim(dimension, 0).double().square().sum(dim=1).cpu())

    for tensor in anatomy.outside:
        add(tensor, blocks.model.get_parameter(tensor.name).data)
    for block in anatomy.blocks:
        for linear in block.linears:
            for tensor in linear.tensors():
                add(tensor, blocks.dense(block.index)[tensor.name])
    return total


def narrower_linear(basis: Basis, linear: Linear, norm: torch.Tensor, values: torch.Tensor, width: int) -> torch.Tensor:
    """A linear's matrix (outputs, inputs), its residual axis at full width, for a residual stream of `width`.

    `norm` is the weight of the norm that it reads, or would if it read the stream.
    """
    if basis.rotation is None:
        rows = width if linear.rows == ("hidden",) else values.shape[0]
        columns = width if linear.columns == ("hidden",) else values.shape[1]
        return values[:rows, :columns]
    rotation, wide = basis.rotation[:, :width], values.float()
    if linear.columns == ("hidden",):
        wide = (wide * norm.float()) @ rotation
    if linear.rows == ("hidden",):
        wide = rotation.T @ wide
    return wide.to(values.dtype)


def narrower_bias(basis: Basis, values: torch.Tensor, width: int) -> torch.Tensor:
    """A bias that is added to the residual stream."""
    if basis.rotation is None:
        return values[:width]
    return (basis.rotation[:, :width].T @ values.float()).to(values.dtype)


def narrower_norm(basis: Basis, values: torch.Tensor, norm: int, width: int) -> torch.Tensor:
    """The weight of the `norm`-th norm in depth order."""
    kept = torch.ones_like(values[:width]) if basis.rotation is not None else values[:width]
    return kept * basis.scale(norm, width)


def narrower_outside(
    basis: Basis, anatomy: Anatomy, dense: Mapping[str, torch.Tensor], width: int
) -> dict[str, torch.Tensor]:
    """Embedding, final norm and head, by the names that they have in the narrower model."""
    norm = dense[f"{anatomy.norm}.weight"]
    narrower = narrower_norm(basis, norm, -1, width)
    if basis.rotation is None:
        names = dict.fromkeys((anatomy.embedding, anatomy.head))
        return {f"{anatomy.norm}.weight": narrower, **{name: dense[name][:, :width] for name in names}}
    rotation, scale = basis.rotation[:, :width], norm.float()
    embedding = {anatomy.embedding: (dense[anatomy.embedding].float() @ rotation).to(norm.dtype)}
    if anatomy.tied:
        projection = (rotation.T @ (scale[:, None] * rotation)).to(norm.dtype)
        return {f"{anatomy.norm}.0.weight": narrower, f"{anatomy.norm}.1.weight": projection, **embedding}
    head = ((dense[anatomy.head].float() * scale) @ rotation).to(norm.dtype)
    return {f"{anatomy.norm}.weight": narrower, anatomy.head: head, **embedding}

"""What a transformer consists of: blocks, sublayers, linears and every other parameter, as plain shapes.

An anatomy is computed from a configuration alone (`families.py`); `fitness` compares it name by name with the
module tree of a loaded model, so that costs computed from it are those of the real thing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

SublayerKind = Literal["attention", "mlp"]
Role = Literal["attention", "zero", "identity"]


@dataclass(frozen=True, slots=True)
class Linear:
    """A prunable weight matrix; `name` is relative to its block.

    `transposed` marks a Conv1D, whose weight is stored as (inputs, outputs) instead of (outputs, inputs).
    """

    name: str
    outputs: int
    inputs: int
    bias: bool = False
    transposed: bool = False

    @property
    def weights(self) -> int:
        return self.outputs * self.inputs

    @property
    def parameters(self) -> int:
        return self.weights + (self.outputs if self.bias else 0)

    def shapes(self, prefix: str) -> Iterator[tuple[str, tuple[int, ...]]]:
        shape = (self.inputs, self.outputs) if self.transposed else (self.outputs, self.inputs)
        yield f"{prefix}{self.name}.weight", shape
        if self.bias:
            yield f"{prefix}{self.name}.bias", (self.outputs,)


@dataclass(frozen=True, slots=True)
class Tensor:
    """A parameter that is not a prunable linear: a norm's weight or bias, an embedding."""

    name: str
    shape: tuple[int, ...]

    @property
    def parameters(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count


@dataclass(frozen=True, slots=True)
class Sublayer:
    """The attention or the MLP branch of a block, with everything that disappears when it is dropped.

    `stand_ins` says, for each module of the branch (path relative to the block), what takes its place when the
    branch is dropped so that the branch contributes exactly zero to the residual stream.
    """

    kind: SublayerKind
    linears: tuple[Linear, ...]
    tensors: tuple[Tensor, ...]
    stand_ins: tuple[tuple[str, Role], ...]

    @property
    def parameters(self) -> int:
        return sum(linear.parameters for linear in self.linears) + sum(t.parameters for t in self.tensors)

    @property
    def weights(self) -> int:
        """Weights of the linears, biases and norms left out."""
        return sum(linear.weights for linear in self.linears)


@dataclass(frozen=True, slots=True)
class Block:
    """One decoder layer. `window` is the sliding attention window in tokens, None for full attention."""

    index: int
    attention: Sublayer
    mlp: Sublayer
    heads: int
    kv_heads: int
    head_dim: int
    channels: int
    window: int | None = None

    @property
    def linears(self) -> tuple[Linear, ...]:
        """In module order: attention first."""
        return self.attention.linears + self.mlp.linears

    @property
    def sublayers(self) -> tuple[Sublayer, Sublayer]:
        return (self.attention, self.mlp)


@dataclass(frozen=True, slots=True)
class Anatomy:
    """A causal language model as shapes.

    Attributes:
        family: the `model_type` of the configuration.
        blocks_path: where the list of blocks lives in the module tree, for example `model.layers`.
        outside: parameters outside the blocks; a tied head is not listed a second time.
        head_macs: multiply-accumulates per token outside the blocks (the head, and projections around it).
        bytes_per_parameter: of the dtype the model is held and saved in.
    """

    family: str
    hidden_size: int
    vocabulary: int
    blocks_path: str
    blocks: tuple[Block, ...]
    outside: tuple[Tensor, ...]
    head_macs: int
    bytes_per_parameter: int = 4

    def block_prefix(self, index: int) -> str:
        return f"{self.blocks_path}.{index}."

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every parameter of the model by its full name; tied parameters once."""
        shapes = {tensor.name: tensor.shape for tensor in self.outside}
        for block in self.blocks:
            prefix = self.block_prefix(block.index)
            for sublayer in block.sublayers:
                for linear in sublayer.linears:
                    shapes.update(linear.shapes(prefix))
                shapes.update({prefix + tensor.name: tensor.shape for tensor in sublayer.tensors})
        return shapes

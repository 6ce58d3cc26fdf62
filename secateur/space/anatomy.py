"""What a transformer consists of: blocks, sublayers, linears and every other parameter, as plain shapes.

An anatomy is computed from a configuration alone (`families/`); `fitness` compares it name by name with the
module tree of a loaded model, so that costs computed from it are those of the real thing. Every dimension that a width
can change says so by its *axis*: which segments lie along it, in storage order.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

SublayerKind = Literal["attention", "mlp"]
Role = Literal["attention", "zero", "identity", "keep", "second"]
Segment = Literal["hidden", "query", "key", "triple", "channel"]
"""A run of a dimension: the residual stream; query heads (grouped by their KV head); KV heads; heads with query, key
and value next to each other (gpt_neox); MLP channels."""
Axis = tuple[Segment, ...]
"""The segments along one dimension; empty where no width changes it. Fused projections have several."""
Sizes = Mapping[str, int]
"""Length of each segment, and the numbers "groups", "queries" (per group) and "heads"."""


def length(axis: Axis, sizes: Sizes, fixed: int) -> int:
    """Of a dimension under `sizes`; `fixed` where no width changes it."""
    return sum(sizes[segment] for segment in axis) if axis else fixed


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
    rows: Axis = ()
    columns: Axis = ()

    @property
    def weights(self) -> int:
        return self.outputs * self.inputs

    def shape(self, sizes: Sizes) -> tuple[int, int]:
        """(outputs, inputs) under `sizes`."""
        return length(self.rows, sizes, self.outputs), length(self.columns, sizes, self.inputs)

    def tensors(self) -> Iterator["Tensor"]:
        """Weight and bias as they are stored."""
        shape, axes = (self.outputs, self.inputs), (self.rows, self.columns)
        if self.transposed:
            shape, axes = (self.inputs, self.outputs), (self.columns, self.rows)
        yield Tensor(f"{self.name}.weight", shape, axes)
        if self.bias:
            yield Tensor(f"{self.name}.bias", (self.outputs,), (self.rows,))


@dataclass(frozen=True, slots=True)
class Tensor:
    """A parameter as it is stored; `axes` says of each dimension which widths change it (empty: none of them)."""

    name: str
    shape: tuple[int, ...]
    axes: tuple[Axis, ...] = ()

    def under(self, sizes: Sizes) -> tuple[int, ...]:
        """Its shape under `sizes`."""
        if not self.axes:
            return self.shape
        return tuple(length(axis, sizes, fixed) for axis, fixed in zip(self.axes, self.shape, strict=True))

    def parameters(self, sizes: Sizes) -> int:
        return math.prod(self.under(sizes))


def norm(name: str, size: int, axis: Axis = (), bias: bool = False, affine: bool = True) -> tuple[Tensor, ...]:
    """The parameters of a norm over a dimension of `size`."""
    if not affine:
        return ()
    names = ("weight", "bias") if bias else ("weight",)
    return tuple(Tensor(f"{name}.{kind}", (size,), (axis,)) for kind in names)


@dataclass(frozen=True, slots=True)
class Sublayer:
    """The attention or the MLP branch of a block, with everything that disappears when it is dropped.

    The last linear writes to the residual stream.

    Attributes:
        tensors: its parameters besides those of the linears.
        stand_ins: for each module of the branch (path relative to the block), what takes its place when the branch is
            dropped so that it changes nothing.
        attributes: (module path, attribute, number of `Sizes`) that its forward reads besides the shapes of weights.
    """

    kind: SublayerKind
    linears: tuple[Linear, ...]
    tensors: tuple[Tensor, ...]
    stand_ins: tuple[tuple[str, Role], ...]
    attributes: tuple[tuple[str, str, str], ...] = ()

    @property
    def weights(self) -> int:
        """Weights of the dense linears, biases and norms left out."""
        return sum(linear.weights for linear in self.linears)

    def parameters(self) -> Iterator[Tensor]:
        """Every parameter of the branch, by its name inside the block."""
        for linear in self.linears:
            yield from linear.tensors()
        yield from self.tensors


@dataclass(frozen=True, slots=True)
class Block:
    """One layer. `window` is the sliding attention window in tokens, None for full attention."""

    index: int
    attention: Sublayer
    mlp: Sublayer
    heads: int
    kv_heads: int
    head_dim: int
    channels: int
    hidden: int
    window: int | None = None

    @property
    def linears(self) -> tuple[Linear, ...]:
        """In module order: attention first."""
        return self.attention.linears + self.mlp.linears

    @property
    def sublayers(self) -> tuple[Sublayer, Sublayer]:
        """Attention, then MLP."""
        return (self.attention, self.mlp)

    @property
    def queries(self) -> int:
        """Query heads per KV group."""
        return self.heads // self.kv_heads

    def sizes(self, groups: int, queries: int, channels: int, hidden: int) -> dict[str, int]:
        """Lengths of segments for what is kept: KV groups, query heads per group, channels, residual width."""
        return {
            "groups": groups,
            "queries": queries,
            "heads": groups * queries,
            "hidden": hidden,
            "query": groups * queries * self.head_dim,
            "key": groups * self.head_dim,
            "triple": groups * 3 * self.head_dim,
            "channel": channels,
        }

    @property
    def dense_sizes(self) -> dict[str, int]:
        """Lengths of segments where all is kept."""
        return self.sizes(self.kv_heads, self.queries, self.channels, self.hidden)


def ungrouped(
    count: int, attention: Sublayer, mlp: Sublayer, heads: int, hidden: int, channels: int
) -> tuple[Block, ...]:
    """`count` blocks with as many KV heads as query heads, which share the residual width among them."""
    return tuple(
        Block(index, attention, mlp, heads, heads, hidden // heads, channels, hidden) for index in range(count)
    )


@dataclass(frozen=True, slots=True)
class Anatomy:
    """A language model as shapes.

    Attributes:
        family: the `model_type` of the configuration.
        blocks_path: where the list of blocks lives in the module tree, for example `model.layers`.
        outside: parameters outside the blocks; a tied head is not listed a second time.
        head_macs: multiply-accumulates per token outside the blocks (the head, and projections around it).
        bytes_per_parameter: of the dtype the model is held and saved in.
        causal: False for an encoder with a masked-token head; it has no KV cache.
        config_names: (number of `Sizes`, its name in the family's configuration).
        hidden_orders: how the residual width can be narrowed; empty where the family does not allow it.
        explicit_head_dim: the configuration says the size of a head; otherwise the family derives it from their number.
        norm, head: the final norm's module and the head's weight, where `hidden_orders` is not empty; the head is the
            embedding's weight where the two are tied.
    """

    family: str
    hidden_size: int
    vocabulary: int
    blocks_path: str
    blocks: tuple[Block, ...]
    outside: tuple[Tensor, ...]
    head_macs: int
    bytes_per_parameter: int = 4
    causal: bool = True
    config_names: tuple[tuple[str, str], ...] = ()
    explicit_head_dim: bool = False
    hidden_orders: tuple[str, ...] = ()
    embedding: str = ""
    norm: str = ""
    head: str = ""

    @property
    def tied(self) -> bool:
        """Whether head and embedding are one weight."""
        return self.head == self.embedding

    def block_prefix(self, index: int) -> str:
        """How the full names of a block's parameters begin."""
        return f"{self.blocks_path}.{index}."

    @property
    def linear_weights(self) -> int:
        """All weights of the linears in the blocks."""
        return sum(linear.weights for block in self.blocks for linear in block.linears)

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every parameter of the model by its full name; tied parameters once."""
        shapes = {tensor.name: tensor.shape for tensor in self.outside}
        for block in self.blocks:
            prefix = self.block_prefix(block.index)
            for sublayer in block.sublayers:
                shapes.update({prefix + tensor.name: tensor.shape for tensor in sublayer.parameters()})
        return shapes

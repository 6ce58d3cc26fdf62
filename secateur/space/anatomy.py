"""What a transformer consists of: blocks, sublayers, linears and every other parameter, as plain shapes.

An anatomy is computed from a configuration alone (`families/`); `fitness` compares it name by name with the
module tree of a loaded model, so that costs computed from it are those of the real thing. Every dimension that a width
can change says so by its *axis*: which segments lie along it, in storage order.
"""

import math
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

Role = Literal["attention", "zero", "identity", "keep", "second"]
Axis = tuple[str, ...]
"""The segments along one dimension of a tensor, by their names in `Block.segments`; empty where no width changes it.
Fused projections have several."""
Sizes = Mapping[str, int]
"""Length of each segment."""
HIDDEN = "hidden"
"""The dimension of the residual stream, which every block has and no sublayer owns."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A run along a tensor's dimension: `unit` numbers for each of the units that `dimensions` count together.

    Query heads are ("groups", "queries") of a head's size: stored group by group, in each group query by query.
    """

    unit: int
    dimensions: tuple[str, ...]

    def length(self, kept: Mapping[str, int]) -> int:
        """Where so much of each dimension is kept."""
        return self.unit * math.prod(kept[dimension] for dimension in self.dimensions)


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


@dataclass(frozen=True, slots=True)
class Sublayer:
    """A branch of a block, such as its attention or its MLP, with everything that disappears when it is dropped.

    The last linear writes to the residual stream.

    Attributes:
        name: among the block's sublayers.
        dimensions: how much of it there is; none left of one: it is dropped.
        tensors: its parameters besides those of the linears.
        stand_ins: for each module of the branch (path relative to the block), what takes its place when the branch is
            dropped so that it changes nothing.
        attributes: (module path, attribute, segment) whose length its forward reads besides the shapes of weights.
        attends: tokens attend to those before them: the segments "query" and "key" of what is compared and cached.
    """

    name: str
    dimensions: tuple[str, ...]
    linears: tuple[Linear, ...]
    tensors: tuple[Tensor, ...]
    stand_ins: tuple[tuple[str, Role], ...]
    attributes: tuple[tuple[str, str, str], ...] = ()
    attends: bool = False

    @property
    def weights(self) -> int:
        """Weights of the dense linears, biases and norms left out."""
        return sum(linear.weights for linear in self.linears)

    def parameters(self) -> Iterator[Tensor]:
        """Every parameter of the branch, by its name inside the block."""
        for linear in self.linears:
            yield from linear.tensors()
        yield from self.tensors

    def mixing(self, sizes: Sizes, seen: int) -> int:
        """Multiply-accumulates per token besides those of the linears, where it sees so many tokens."""
        return 2 * sizes["query"] * seen if self.attends else 0

    def cached(self, sizes: Sizes, held: int) -> int:
        """Numbers that are kept of so many tokens while text is generated."""
        return 2 * sizes["key"] * held if self.attends else 0


@dataclass(frozen=True)
class Block:
    """One layer: sublayers one after the other, each added to the residual stream.

    Attributes:
        sublayers: in module order.
        dimensions: how many units there are of each, the residual width ("hidden") last.
        segments: what lies along the dimensions of tensors, by name.
        window: the sliding attention window in tokens, None for full attention.
        outside: matrices that are none of the block's, but told of in its states, by their full names: the embedding in
            those of the first block, a head of its own in those of the last.
    """

    index: int
    sublayers: tuple[Sublayer, ...]
    dimensions: Mapping[str, int]
    segments: Mapping[str, Segment] = field(default_factory=dict)
    window: int | None = None
    outside: tuple[Linear, ...] = ()

    def __hash__(self) -> int:
        return hash((self.index, self.sublayers, tuple(self.dimensions.items()), self.window, self.outside))

    @cached_property
    def linears(self) -> tuple[Linear, ...]:
        """In module order."""
        return tuple(linear for sublayer in self.sublayers for linear in sublayer.linears)

    @cached_property
    def matrices(self) -> tuple[Linear, ...]:
        """All that its states tell of, by their positions: its linears, then those outside."""
        return (*self.linears, *self.outside)

    @cached_property
    def parameters(self) -> int:
        """How many it has, where it is dense."""
        return sum(math.prod(tensor.shape) for sublayer in self.sublayers for tensor in sublayer.parameters())

    @property
    def shape(self) -> Hashable:
        """Equal for blocks that differ in their index alone, and in what they tell of outside."""
        return self.sublayers, tuple(self.dimensions.items()), tuple(self.segments.items()), self.window

    def sublayer(self, name: str) -> Sublayer:
        """The one of that name; raises KeyError where there is none."""
        for sublayer in self.sublayers:
            if sublayer.name == name:
                return sublayer
        raise KeyError(name)

    def with_dimension(self, dimension: str) -> Sublayer | None:
        """The sublayer that a dimension belongs to; None where none has it."""
        return next((sublayer for sublayer in self.sublayers if dimension in sublayer.dimensions), None)

    @cached_property
    def where(self) -> Mapping[str, Sublayer]:
        """The sublayer of each linear, by the linear's name."""
        return {linear.name: sublayer for sublayer in self.sublayers for linear in sublayer.linears}

    @property
    def hidden(self) -> int:
        """The residual width."""
        return self.dimensions[HIDDEN]

    def sizes(self, kept: Mapping[str, int]) -> dict[str, int]:
        """Lengths of segments where so much of each dimension is kept."""
        return {name: segment.length(kept) for name, segment in self.segments.items()}

    @cached_property
    def dense_sizes(self) -> dict[str, int]:
        """Lengths of segments where all is kept."""
        return self.sizes(self.dimensions)


@dataclass(frozen=True)
class Anatomy:
    """A language model as shapes.

    Attributes:
        family: the `model_type` of the configuration.
        blocks_path: where the list of blocks lives in the module tree, for example `model.layers`.
        outside: parameters outside the blocks; a tied head is not listed a second time.
        head_macs: multiply-accumulates per token outside the blocks (the head, and projections around it).
        bytes_per_parameter: of the dtype the model is held and saved in.
        causal: False for an encoder with a masked-token head; it has no KV cache.
        config_names: (segment, the entry of the family's configuration that has its length).
        hidden_orders: how the residual width can be narrowed; empty where the family does not allow it.
        explicit_head_dim: the configuration says the size of a head; otherwise the family derives it from their number.
        embedding, head: their weights, one where the two are tied; no head is an empty name.
        norm: the final norm's module, where `hidden_orders` is not empty.
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
    def headless(self) -> bool:
        """Whether it predicts no tokens: what it says of a text is the stream after its last norm."""
        return not self.head

    @property
    def tied(self) -> bool:
        """Whether head and embedding are one weight."""
        return self.head == self.embedding

    def block_prefix(self, index: int) -> str:
        """How the full names of a block's parameters begin."""
        return f"{self.blocks_path}.{index}."

    @cached_property
    def places_outside(self) -> Mapping[str, tuple[int, int]]:
        """Which block tells of the embedding and of a head of its own, and where among its `matrices`, by full name."""
        return {
            matrix.name: (block.index, position)
            for block in self.blocks
            for position, matrix in enumerate(block.outside, len(block.linears))
        }

    def is_outside(self, index: int, position: int) -> bool:
        """Whether one of a block's `matrices` is none of its own."""
        return position >= len(self.blocks[index].linears)

    def matrix_name(self, index: int, position: int) -> str:
        """The full name of one of a block's `matrices`."""
        return ("" if self.is_outside(index, position) else self.block_prefix(index)) + self._named(index, position)

    def place(self, index: int, position: int) -> str:
        """Where a matrix is, for messages."""
        return ("" if self.is_outside(index, position) else f"block {index}, ") + self._named(index, position)

    def _named(self, index: int, position: int) -> str:
        return self.blocks[index].matrices[position].name

    @property
    def linear_weights(self) -> int:
        """All weights of the linears in the blocks."""
        return sum(linear.weights for block in self.blocks for linear in block.linears)

    def outside_parameters(self, hidden: int) -> int:
        """Parameters outside the blocks where the residual width is `hidden`."""
        if hidden not in self._outside:
            self._outside[hidden] = sum(tensor.parameters({"hidden": hidden}) for tensor in self.outside)
        return self._outside[hidden]

    @cached_property
    def _outside(self) -> dict[int, int]:
        return {}

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every parameter of the model by its full name; tied parameters once."""
        shapes = {tensor.name: tensor.shape for tensor in self.outside}
        for block in self.blocks:
            prefix = self.block_prefix(block.index)
            for sublayer in block.sublayers:
                shapes.update({prefix + tensor.name: tensor.shape for tensor in sublayer.parameters()})
        return shapes

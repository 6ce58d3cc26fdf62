"""What a subnet costs: exact integers from shapes, equal to what is counted on the materialised model."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from .anatomy import Anatomy, Block
from .gene import DENSE, Sparsity


@dataclass(frozen=True, slots=True)
class BlockState:
    """What a genome makes of one block: the part of it that models, costs and plans read.

    `attention` and `mlp` are the KV groups and channels kept (0: the sublayer is dropped; both 0: the block is
    removed); `sparsity` has one entry for each linear of the block in module order, dense for those dropped.
    """

    attention: int
    mlp: int
    sparsity: tuple[Sparsity, ...]

    @property
    def removed(self) -> bool:
        return not self.attention and not self.mlp

    def sort_key(self) -> tuple[object, ...]:
        return (-self.attention, -self.mlp, tuple((s.share, s.of, s.keep) for s in self.sparsity))


def dense_state(block: Block) -> BlockState:
    return BlockState(block.kv_heads, block.channels, (DENSE,) * len(block.linears))


@dataclass(frozen=True, slots=True)
class Costs:
    """Costs of a subnet.

    Attributes:
        parameters: of the materialised model; tied ones once; zeros from sparsity still count.
        block_parameters: the same, blocks only (no embeddings, head or final norm).
        nonzero_parameters: `parameters` less the weights that sparsity sets to zero.
        linear_weights: non-zero weights of the linears in the blocks; what "50 % sparsity" is measured on.
        macs: multiply-accumulates per token with a full context, attention scores included. Zeros in a dense matrix
            are multiplied like any number, so that unstructured sparsity does not lower this.
        weight_bytes: of all parameters in the model's dtype, as safetensors holds them.
        kv_bytes: of the KV cache per token, in the model's dtype.
    """

    parameters: int
    block_parameters: int
    nonzero_parameters: int
    linear_weights: int
    macs: int
    weight_bytes: int
    kv_bytes: int

    def to_json(self) -> dict[str, int]:
        return asdict(self)


COSTS = tuple(field.name for field in fields(Costs))


@dataclass(frozen=True, slots=True)
class BlockCosts:
    """The share of one block; `kv` in elements per token, not bytes."""

    parameters: int
    zeros: int
    weights: int
    macs: int
    kv: int


def block_costs(block: Block, state: BlockState, context: int) -> BlockCosts:
    """Returns what a block costs in a given state, MACs per token at a context length of `context` tokens."""
    parameters = weights = zeros = macs = kv = 0
    position = 0
    for sublayer, kept in zip(block.sublayers, (state.attention, state.mlp), strict=True):
        levels = state.sparsity[position : position + len(sublayer.linears)]
        position += len(sublayer.linears)
        if kept:
            parameters += sublayer.parameters
            weights += sublayer.weights
            macs += sublayer.weights
            zeros += sum(
                level.zeros(linear.outputs, linear.inputs)
                for linear, level in zip(sublayer.linears, levels, strict=True)
            )
    if state.attention:
        macs += 2 * block.heads * block.head_dim * min(context, block.window or context)
        kv = 2 * block.kv_heads * block.head_dim
    return BlockCosts(parameters, zeros, weights, macs, kv)


def total(anatomy: Anatomy, blocks: Sequence[BlockCosts]) -> Costs:
    """Adds up the blocks of a subnet and what lies outside them."""
    block_parameters = sum(block.parameters for block in blocks)
    zeros = sum(block.zeros for block in blocks)
    parameters = block_parameters + sum(tensor.parameters for tensor in anatomy.outside)
    return Costs(
        parameters=parameters,
        block_parameters=block_parameters,
        nonzero_parameters=parameters - zeros,
        linear_weights=sum(block.weights for block in blocks) - zeros,
        macs=sum(block.macs for block in blocks) + anatomy.head_macs,
        weight_bytes=parameters * anatomy.bytes_per_parameter,
        kv_bytes=sum(block.kv for block in blocks) * anatomy.bytes_per_parameter,
    )

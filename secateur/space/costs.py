"""What a subnet costs: exact integers from shapes, equal to what is counted on the materialised model."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple, Protocol

from .anatomy import Anatomy, Block
from .state import BlockState, Outside
from .treatments import STEPS, zeros_per_row

EXACT = (
    "parameters",
    "block_parameters",
    "nonzero_parameters",
    "linear_weights",
    "macs",
    "weight_bytes",
    "kv_bytes",
    "sublayers",
)
FILE = "file_bytes"
LATENCIES = ("prefill", "decode", "latency")
COSTS = (*EXACT, FILE, *LATENCIES)


@dataclass(frozen=True, slots=True)
class Additions:
    """Parameters that narrower models have and the dense one has not.

    Attributes:
        bias: the repair gives the last linear of every narrowed sublayer a bias, where it has none.
        projection: a rotated residual stream needs a square matrix between the final norm and a tied head.
    """

    bias: bool = False
    projection: bool = False


NONE_ADDED = Additions()


class Zeros(Protocol):
    """Zeros in the weights of a model that has some by itself: one that was pruned before."""

    def in_block(self, index: int, state: BlockState) -> int:
        """In the linears of a block in a state, those that its levels make included."""

    def outside(self, outside: Outside) -> int:
        """In embeddings and head."""


class Layout(Protocol):
    """How subnets are laid out in a file: what `file_bytes` are counted by.

    Attributes:
        metadata: bytes of what the file says of the model, which need more than shapes to be told.
    """

    @property
    def metadata(self) -> int: ...

    def block(self, block: Block, state: BlockState) -> int:
        """Bytes of a block in a state, and of the matrices outside that it tells of."""

    def around(self, states: Sequence[BlockState]) -> int:
        """What is to be added to those of all blocks."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Costs of a subnet.

    Attributes:
        parameters: of the materialised model; tied ones once; zeros from sparsity still count.
        block_parameters: the same, blocks only (no embeddings, head, final norm or projection).
        nonzero_parameters: `parameters` less the zeros in linears, embeddings and head: those that sparsity makes, and
            where the model has been read those that it has by itself.
        linear_weights: non-zero weights of the linears in the blocks; what "50 % sparsity" is measured on.
        macs: multiply-accumulates per token with a full context, attention scores included. Zeros in a dense matrix
            are multiplied like any number, so that unstructured sparsity does not lower this.
        weight_bytes: of all parameters in the model's dtype, as safetensors holds them; of treated ones as their
            treatment stores them.
        kv_bytes: of the KV cache of one sequence as long as the context, in the model's dtype; a sliding window holds
            no more than its length, and an encoder has none.
        sublayers: those kept, however narrow; None in journals of before this was counted.
        file_bytes: of the GGUF file, vocabulary and all; None where the space has no layout of one.
        prefill: nanoseconds from a latency table, None where the space has none; so are the next two.
        decode: the same for one token.
        latency: the same for a whole request: prefill, and as many tokens as the workload says.
    """

    parameters: int
    block_parameters: int
    nonzero_parameters: int
    linear_weights: int
    macs: int
    weight_bytes: int
    kv_bytes: int
    sublayers: int | None = None
    file_bytes: int | None = None
    prefill: int | None = None
    decode: int | None = None
    latency: int | None = None

    def to_json(self) -> dict[str, int]:
        """Those that are known."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class BlockCosts(NamedTuple):
    """The share of one block; `kv` in elements, not bytes. `saved`: bytes that treatments save, outside as well;
    `file`: bytes in the file that it is written to, where there is a layout of one."""

    parameters: int
    zeros: int
    weights: int
    macs: int
    kv: int
    sublayers: int
    saved: int = 0
    file: int = 0


def block_costs(
    block: Block, state: BlockState, context: int, additions: Additions, cached: int | None = None, width: int = 4
) -> BlockCosts:
    """Returns what a block costs in a given state, MACs per token at a context length of `context` tokens.

    `cached`: tokens in the KV cache, by default the context. `width`: bytes of a parameter.
    """
    parameters = weights = zeros = mixing = kv = sublayers = saved = 0
    sizes = state.sizes(block)
    held = context if cached is None else cached
    for sublayer in block.sublayers:
        if not state.has(sublayer):
            continue
        sublayers += 1
        parameters += sum(tensor.parameters(sizes) for tensor in sublayer.parameters())
        if additions.bias and not sublayer.linears[-1].bias and state.narrowed(block, sublayer):
            parameters += sublayer.linears[-1].shape(sizes)[0]
        for linear in sublayer.linears:
            outputs, inputs = linear.shape(sizes)
            count = outputs * inputs
            level = state.treated.get(linear.name)
            if level is not None:
                left = level.parameters(outputs, inputs)
                parameters += left - count
                saved += left * width - level.bytes(outputs, inputs, width)
                zeros += level.zeros(outputs, inputs)
                count = left
            weights += count
        mixing += sublayer.mixing(sizes, min(context, block.window or context))
        kv += sublayer.cached(sizes, min(held, block.window or held))
    for matrix in block.outside:
        if (level := state.treated.get(matrix.name)) is not None:
            outputs, inputs = matrix.shape(sizes)
            saved += outputs * inputs * width - level.bytes(outputs, inputs, width)
    return BlockCosts(parameters, zeros, weights, weights + mixing, kv, sublayers, saved)


def total(
    anatomy: Anatomy, blocks: Sequence[BlockCosts], hidden: int, additions: Additions, zeros_outside: int = 0
) -> Costs:
    """Adds up the blocks of a subnet of residual width `hidden` and what lies outside them."""
    block_parameters, zeros, weights, macs, kv, sublayers, saved, _ = map(sum, zip(*blocks, strict=True))
    parameters = block_parameters + anatomy.outside_parameters(hidden)
    head_macs = anatomy.head_macs
    if hidden < anatomy.hidden_size:
        projection = hidden**2 if additions.projection else 0
        parameters += projection
        head_macs = head_macs * hidden // anatomy.hidden_size + projection
    return Costs(
        parameters=parameters,
        block_parameters=block_parameters,
        nonzero_parameters=parameters - zeros - zeros_outside,
        linear_weights=weights - zeros,
        macs=macs + head_macs,
        weight_bytes=parameters * anatomy.bytes_per_parameter - saved,
        kv_bytes=kv * anatomy.bytes_per_parameter if anatomy.causal else 0,
        sublayers=sublayers,
    )


def weights_left(anatomy: Anatomy, share: float) -> int | None:
    """Weights of the blocks' linears where every row has a share of zeros, rounded to the nearest weight.

    None where the share is no level: levels go in steps of half a per cent.
    """
    linears = [linear for block in anatomy.blocks for linear in block.linears]
    steps, weight = round(share * STEPS), STEPS / anatomy.linear_weights
    # A limit in whole weights is off by less than one.
    if not 0 < steps < STEPS or abs(share * STEPS - steps) > weight + 1e-6:
        return None
    return sum(one.outputs * (one.inputs - zeros_per_row(steps, one.inputs)) for one in linears)

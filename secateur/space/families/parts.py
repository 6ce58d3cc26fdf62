"""What families are put together from: norms, attention, MLPs, and blocks of both."""

import math
from dataclasses import replace

from ..anatomy import HIDDEN, Anatomy, Axis, Block, Linear, Role, Segment, Sublayer, Tensor


def norm(name: str, size: int, axis: Axis = (), bias: bool = False, affine: bool = True) -> tuple[Tensor, ...]:
    """The parameters of a norm over a dimension of `size`."""
    if not affine:
        return ()
    names = ("weight", "bias") if bias else ("weight",)
    return tuple(Tensor(f"{name}.{kind}", (size,), (axis,)) for kind in names)


def transformer_block(
    index: int,
    attention: Sublayer,
    mlp: Sublayer,
    heads: int,
    kv_heads: int,
    head_dim: int,
    channels: int,
    hidden: int,
    window: int | None = None,
) -> Block:
    """Attention, whose query heads are grouped by their KV head, and an MLP.

    Segments: the residual stream ("hidden"); query heads ("query"); KV heads ("key"); heads with query, key and value
    next to each other ("triple", gpt_neox); MLP channels ("channel"); and the numbers "groups", "queries" (per group)
    and "heads".
    """
    dimensions = {"groups": kv_heads, "queries": heads // kv_heads, "channels": channels, HIDDEN: hidden}
    segments = {
        "groups": Segment(1, ("groups",)),
        "queries": Segment(1, ("queries",)),
        "heads": Segment(1, ("groups", "queries")),
        HIDDEN: Segment(1, (HIDDEN,)),
        "query": Segment(head_dim, ("groups", "queries")),
        "key": Segment(head_dim, ("groups",)),
        "triple": Segment(3 * head_dim, ("groups",)),
        "channel": Segment(1, ("channels",)),
    }
    return Block(index, (attention, mlp), dimensions, segments, window)


def attention_of(
    linears: tuple[Linear, ...],
    tensors: tuple[Tensor, ...],
    stand_ins: tuple[tuple[str, Role], ...],
    attributes: tuple[tuple[str, str, str], ...] = (),
) -> Sublayer:
    """An attention, of KV groups with some query heads each."""
    return Sublayer("attention", ("groups", "queries"), linears, tensors, stand_ins, attributes, attends=True)


def mlp_of(
    linears: tuple[Linear, ...], tensors: tuple[Tensor, ...], stand_ins: tuple[tuple[str, Role], ...]
) -> Sublayer:
    """An MLP, of channels."""
    return Sublayer("mlp", ("channels",), linears, tensors, stand_ins)


def ungrouped(
    count: int, attention: Sublayer, mlp: Sublayer, heads: int, hidden: int, channels: int
) -> tuple[Block, ...]:
    """`count` blocks with as many KV heads as query heads, which share the residual width among them."""
    return tuple(
        transformer_block(index, attention, mlp, heads, heads, hidden // heads, channels, hidden)
        for index in range(count)
    )


def root_of(anatomy: Anatomy) -> str:
    """How the names of all parameters begin that transformers' base model has."""
    return anatomy.blocks_path.partition(".")[0] + "."


def head_of(anatomy: Anatomy) -> tuple[Tensor, ...]:
    """What lies outside of transformers' base model; a tied weight does not."""
    return tuple(tensor for tensor in anatomy.outside if not tensor.name.startswith(root_of(anatomy)))


def without_head(anatomy: Anatomy, pooler: tuple[Tensor, ...] = ()) -> Anatomy:
    """The same as transformers' base model has it: without what lies outside of that, and named from there.

    `pooler`: parameters that the base model has besides. Its residual width cannot be narrowed: whoever reads the
    stream after the last norm expects it.
    """
    root, outer = root_of(anatomy), head_of(anatomy)
    inner = [tensor for tensor in anatomy.outside if tensor not in outer]
    multiplied = [math.prod(tensor.shape) for tensor in outer if len(tensor.shape) > 1]
    if anatomy.tied:
        multiplied += [math.prod(tensor.shape) for tensor in inner if tensor.name == anatomy.embedding]
    return replace(
        anatomy,
        blocks_path=anatomy.blocks_path.removeprefix(root),
        outside=(*(replace(tensor, name=tensor.name.removeprefix(root)) for tensor in inner), *pooler),
        head_macs=anatomy.head_macs - sum(multiplied),
        hidden_orders=(),
        embedding=anatomy.embedding.removeprefix(root),
        norm="",
        head="",
    )


def with_outside(anatomy: Anatomy) -> Anatomy:
    """The same with the embedding told of by its first block, and a head of its own by its last."""
    shapes = {tensor.name: tensor for tensor in anatomy.outside}

    def matrix(name: str) -> Linear:
        outputs, inputs = shapes[name].shape
        rows, columns = shapes[name].axes or ((), ())
        return Linear(name.removesuffix(".weight"), outputs, inputs, rows=rows, columns=columns)

    blocks = list(anatomy.blocks)
    blocks[0] = replace(blocks[0], outside=(matrix(anatomy.embedding),))
    if not anatomy.tied and not anatomy.headless:
        blocks[-1] = replace(blocks[-1], outside=(*blocks[-1].outside, matrix(anatomy.head)))
    return replace(anatomy, blocks=tuple(blocks))

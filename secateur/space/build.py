"""Makes genes from what a recipe asks for: kinds, levels and layers."""

from collections.abc import Iterator, Sequence

from .anatomy import Anatomy
from .errors import SecateurError, suggest
from .gene import Gene, GeneKind, Sparsity

GRANULARITIES = ("linear", "sublayer", "block", "group")


def structured_genes(
    anatomy: Anatomy, kind: GeneKind, layers: Sequence[int], keep_first_attention: bool = True
) -> tuple[Gene, ...]:
    """Genes `attention`, `mlp` or `block` with the levels kept and dropped, one for each of `layers`.

    Layer 0 keeps its attention unless `keep_first_attention` is false: caches and llama.cpp read sizes from it. Where
    layers with and without a sliding window alternate, so does the first layer of each sort.
    """
    genes = []
    windows = [block.window for block in anatomy.blocks]
    firsts = {windows.index(window) for window in windows}
    for index in layers:
        block = anatomy.blocks[index]
        if index in firsts and kind != "mlp" and keep_first_attention:
            continue
        dense = {"attention": block.kv_heads, "mlp": block.channels, "block": 1}[kind]
        genes.append(Gene(kind, str(index), (dense, 0), ((index, -1),)))
    return tuple(genes)


def sparsity_genes(
    anatomy: Anatomy, levels: Sequence[Sparsity], layers: Sequence[int], per: str, group: int = 1
) -> tuple[Gene, ...]:
    """Genes `sparsity` over the linears of `layers`, one per linear, sublayer, block or group of `group` blocks.

    Raises:
        SecateurError: an N:M pattern does not divide a linear's input, or `per` is unknown.
    """
    ordered = tuple(sorted({Sparsity(), *levels}, key=lambda level: (level.share, level.of, level.keep)))
    for index in layers:
        for linear in anatomy.blocks[index].linears:
            for level in ordered:
                if level.of and linear.inputs % level.of:
                    raise SecateurError(
                        f"block {index}, {linear.name}: {linear.inputs} inputs are no multiple of {level.of}, so the "
                        f"pattern {level} does not fit; leave it out or restrict 'layers'"
                    )
    return tuple(
        Gene("sparsity", site, ordered, members) for site, members in _sites(anatomy, tuple(layers), per, group)
    )


def _sites(
    anatomy: Anatomy, layers: Sequence[int], per: str, group: int
) -> Iterator[tuple[str, tuple[tuple[int, int], ...]]]:
    if per not in GRANULARITIES:
        raise SecateurError(f"sparsity per '{per}'; {suggest(per, GRANULARITIES)}")
    if per in ("block", "group"):
        size = group if per == "group" else 1
        for start in range(0, len(layers), size):
            chunk = layers[start : start + size]
            site = str(chunk[0]) if len(chunk) == 1 else f"{chunk[0]}-{chunk[-1]}"
            yield site, tuple((i, j) for i in chunk for j in range(len(anatomy.blocks[i].linears)))
        return
    for index in layers:
        block = anatomy.blocks[index]
        if per == "linear":
            for j, linear in enumerate(block.linears):
                yield f"{index}.{linear.name}", ((index, j),)
        else:
            first = len(block.attention.linears)
            yield f"{index}.attention", tuple((index, j) for j in range(first))
            yield f"{index}.mlp", tuple((index, j) for j in range(first, len(block.linears)))


def parse_layers(text: str | Sequence[int], count: int) -> tuple[int, ...]:
    """Reads "all", "1-28", "0,3,10-12" or a list of indices.

    Raises:
        SecateurError: it cannot be read, or names a layer that the model does not have.
    """
    if text == "all":
        return tuple(range(count))
    layers: list[int] = []
    for part in str(text).split(",") if isinstance(text, str) else map(str, text):
        first, _, last = part.strip().partition("-")
        if not first.isdigit() or (last and not last.isdigit()):
            raise SecateurError(f"layers: cannot read '{part}'; write 'all', '1-28' or '0,3,10-12'")
        layers.extend(range(int(first), int(last or first) + 1))
    for layer in layers:
        if layer >= count:
            raise SecateurError(f"layers: there is no layer {layer}; the model has layers 0 to {count - 1}")
    if not layers:
        raise SecateurError("layers: empty; write 'all', '1-28' or '0,3,10-12'")
    return tuple(sorted(set(layers)))

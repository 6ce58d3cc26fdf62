"""Makes genes from what a recipe asks for: kinds, levels and layers."""

import re
from collections.abc import Iterator, Sequence

from .anatomy import Anatomy
from .errors import SecateurError, suggest
from .gene import Gene, GeneKind, Sparsity

WidthLevels = str | Sequence[float | int | str | Sequence[float | int | str]]
GRANULARITIES = ("linear", "sublayer", "block", "group")


def structured_genes(
    anatomy: Anatomy,
    kind: GeneKind,
    layers: Sequence[int],
    keep_first_attention: bool = True,
    levels: WidthLevels = (),
    multiple_of: int | None = 1,
    together: bool = False,
) -> tuple[Gene, ...]:
    """Genes `attention`, `queries`, `mlp` or `block`, one for each of `layers`, or one for all of them `together`.

    `multiple_of`: None is what hardware likes of channels, and 1 of heads. `levels`: as `width_levels` reads them, or
    one such list for each of `layers`; nothing: kept and dropped. Layer 0 keeps some attention unless
    `keep_first_attention` is false: caches and llama.cpp read sizes from it. Where layers with and without a sliding
    window alternate, so does the first layer of each sort.

    Together, layers are narrowed and never dropped.

    Raises:
        SecateurError: a level that does not fit the layer, or lists that do not fit the layers.
    """
    lists = _per_layer(kind, levels, layers)
    genes = []
    windows = [block.window for block in anatomy.blocks]
    # An encoder has no cache.
    firsts = {windows.index(window) for window in windows} if keep_first_attention and anatomy.causal else set()
    for index, wanted in zip(layers, lists, strict=True):
        block = anatomy.blocks[index]
        dense = {"attention": block.kv_heads, "queries": block.queries, "mlp": block.channels, "block": 1}[kind]
        where = f"{kind}, layer {index}"
        if kind == "queries" and dense == 1:
            raise SecateurError(
                f"{where}: one query head per KV group, as many KV groups as heads: use kind 'attention' for them"
            )
        multiple = 1 if multiple_of is None and kind != "mlp" else multiple_of
        kept = width_levels(where, UNITS[kind], dense, wanted, multiple) if levels else (dense, 0)
        if kind == "queries" or (index in firsts and kind != "mlp"):
            kept = tuple(level for level in kept if level)
        if len(kept) > 1:
            genes.append(Gene(kind, str(index), kept, ((index, -1),)))
    return _together(kind, genes, layers, len(anatomy.blocks)) if together else tuple(genes)


def check_some(genes: Sequence[Gene], kind: GeneKind, layers: Sequence[int], keep_first_attention: bool) -> None:
    """Raises SecateurError where what was asked for leaves nothing to decide; says at which layers, and why."""
    if genes:
        return
    where = f"{kind}, layer {', '.join(map(str, layers[:4]))}{', …' if len(layers) > 4 else ''}"
    if kind in ("attention", "block") and keep_first_attention and layers == (0,):
        raise SecateurError(
            f"{where}: has to keep some attention, since caches and llama.cpp read sizes from it; name other 'layers', "
            "or set keep_first_attention: false"
        )
    raise SecateurError(f"{where}: 'levels' leave nothing to choose from; give one below the dense")


def _together(kind: GeneKind, genes: Sequence[Gene], layers: Sequence[int], count: int) -> tuple[Gene, ...]:
    """One gene with the widths that all layers have, of the model's `count`."""
    widths = {tuple(level for level in gene.levels if isinstance(level, int) and level) for gene in genes}
    if len(genes) < len(layers) or len(widths) > 1:
        raise SecateurError(f"{kind}: layers have different levels, which one gene for all of them cannot have")
    [levels] = widths
    if len(levels) < 2:
        raise SecateurError(f"{kind}: one gene for all layers narrows them; give 'levels' above 0")
    site = "model" if len(layers) == count else f"{layers[0]}-{layers[-1]}"
    return (Gene(kind, site, levels, tuple((index, -1) for index in layers)),)


def hidden_gene(anatomy: Anatomy, levels: WidthLevels, multiple_of: int | None, order: str) -> Gene:
    """The gene of the residual width.

    Raises:
        SecateurError: the family does not allow it, or a level does not fit.
    """
    if order not in anatomy.hidden_orders:
        possible = suggest(order, anatomy.hidden_orders) if anatomy.hidden_orders else f"it is for {HIDDEN_FAMILIES}"
        raise SecateurError(f"hidden: order '{order}' is not possible for family {anatomy.family}; {possible}")
    if not levels or (not isinstance(levels, str) and any(isinstance(level, list | tuple) for level in levels)):
        raise SecateurError("hidden: needs one list of 'levels' for the whole model, such as [1.0, 0.9, 0.8]")
    kept = width_levels("hidden", UNITS["hidden"], anatomy.hidden_size, levels, multiple_of)
    if 0 in kept:
        raise SecateurError("hidden: a residual width of 0 is no model; end the levels above it")
    return Gene("hidden", "model", kept, tuple((block.index, -1) for block in anatomy.blocks))


UNITS = {
    "attention": "KV groups (query heads go with their group; kind 'queries' is for heads within a group)",
    "queries": "query heads per KV group (the same number is kept in every group)",
    "mlp": "channels",
    "block": "block",
    "hidden": "of the residual width",
}
HIDDEN_FAMILIES = "llama, mistral, qwen2, qwen3, phi3, smollm3, granite and, with order magnitude, olmo2"


def _per_layer(kind: str, levels: WidthLevels, layers: Sequence[int]) -> list[WidthLevels]:
    """One list of levels for each layer."""
    if isinstance(levels, str) or not any(isinstance(level, list | tuple) for level in levels):
        return [levels] * len(layers)
    if len(levels) != len(layers) or not all(isinstance(level, list | tuple) for level in levels):
        raise SecateurError(
            f"{kind}: {len(levels)} entries in 'levels' for {len(layers)} layers; write one list for all layers, or "
            "one list for each of them"
        )
    return [tuple(level) for level in levels if not isinstance(level, float | int | str)]


LIKED, STEPS_LEFT = 64, 16
"""Kernels like widths in whole multiples of this; of a smaller one where fewer widths than this would be left."""


def liked_multiple(dense: int) -> int:
    """The largest power of two up to `LIKED` that divides a dimension and leaves something to choose from."""
    multiple = LIKED
    while multiple > 1 and (dense % multiple or dense // multiple < STEPS_LEFT):
        multiple //= 2
    return multiple


def width_levels(
    where: str, unit: str, dense: int, levels: WidthLevels, multiple_of: int | None = 1
) -> tuple[int, ...]:
    """Numbers kept, from `dense` down.

    `levels`: counts (1024), shares (0.75, "75%", 1.0), or one text, "step 128" or "5 levels", evenly down to nothing,
    or as in "step 128 to 0.25" down to a count or share. 0 is dropped. Shares are rounded to `multiple_of`; counts must
    be multiples, unless `multiple_of` is None: then shares are rounded to what hardware likes (`liked_multiple`).

    Raises:
        SecateurError: a level that cannot be read, is too large, or is no multiple; `multiple_of` leaves none.
    """
    strict = multiple_of is not None
    multiple_of = liked_multiple(dense) if multiple_of is None else multiple_of
    if multiple_of > 1 and multiple_of >= dense:
        raise SecateurError(
            f"{where}: multiple_of {multiple_of} leaves no width between {dense} {unit} and none; make it smaller"
        )

    def rounded(count: float) -> int:
        return min(dense, max(multiple_of, round(count / multiple_of) * multiple_of)) if count > 0 else 0

    def is_share(level: float | int | str) -> bool:
        return isinstance(level, float) or re.fullmatch(r"[0-9]+", str(level).strip()) is None

    def one(level: float | int | str) -> int:
        text = str(level).strip()
        percent = re.fullmatch(r"([0-9.]+)%", text)
        try:
            value = float(percent[1]) / 100 if percent else float(text)
        except ValueError:
            raise SecateurError(f"{where}: cannot read level '{level}'; write a count, a share or 0") from None
        if percent or is_share(level):
            if not 0 <= value <= 1:
                raise SecateurError(f"{where}: a share goes from 0 to 1, got {level}; counts are whole numbers")
            return dense if value == 1 else rounded(value * dense)
        if not 0 <= value <= dense:
            raise SecateurError(f"{where}: level {level}, but there are {dense} {unit}")
        if strict and int(value) % multiple_of and int(value) != dense:
            raise SecateurError(f"{where}: level {level} is no multiple of multiple_of {multiple_of}")
        return int(value)

    if isinstance(levels, str):
        match = re.fullmatch(r"(?:step ([0-9]{1,9})|([0-9]+) levels)(?: to ([0-9.]{1,20}%?))?", levels.strip())
        if match is not None and match[2] and (len(match[2]) > 9 or int(match[2]) > dense + 1):
            raise SecateurError(f"{where}: levels '{levels[:40]}': there are {dense} {unit}, and not so many levels")
        if match is None or int(match[1] or match[2]) < (1 if match[1] else 2):
            raise SecateurError(f"{where}: cannot read levels '{levels}'; write 'step 128', '5 levels' or a list")
        last = one(match[3]) if match[3] else 0
        if match[1]:
            kept = [rounded(count) for count in range(dense - int(match[1]), last, -int(match[1]))]
        else:
            kept = [rounded(dense - (dense - last) * i / (int(match[2]) - 1)) for i in range(1, int(match[2]) - 1)]
        kept.append(last)
    else:
        flat = [level for level in levels if isinstance(level, float | int | str)]
        if "1" in [str(level) for level in flat if not is_share(level)] and any(map(is_share, flat)):
            raise SecateurError(f"{where}: level 1 is a count of one among shares; write 1.0 for all of them")
        kept = [one(level) for level in flat]
    if not set(kept) - {dense}:
        raise SecateurError(f"{where}: levels {levels!r} leave nothing to decide; add one below {dense} {unit}")
    return tuple(sorted({dense, *kept}, reverse=True))


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
        match = re.fullmatch(r"\s*([0-9]+)\s*(?:-\s*([0-9]+)\s*)?", part)
        if match is None:
            raise SecateurError(f"layers: cannot read '{part[:80]}'; write 'all', '1-28' or '0,3,10-12'")
        first, last = match[1], match[2] or match[1]
        for layer, missing in ((first, first), (last, str(count))):
            # Compared before a list of that length is made, or a number of that many digits.
            if len(layer.lstrip("0")) > len(str(count)) or int(layer) >= count:
                raise SecateurError(f"layers: there is no layer {missing[:20]}; the model has layers 0 to {count - 1}")
        if int(last) < int(first):
            raise SecateurError(f"layers: '{part.strip()}' goes backwards; write the lower layer first")
        layers.extend(range(int(first), int(last) + 1))
    if not layers:
        raise SecateurError("layers: empty; write 'all', '1-28' or '0,3,10-12'")
    return tuple(sorted(set(layers)))

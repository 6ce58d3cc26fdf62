"""A smaller model for llama.cpp: what its layouts with sizes layer by layer can hold.

Two architectures read sizes layer by layer and compute what these families do: `deci` (llama, mistral, qwen2), and
`openelm` with its query and key norms (qwen3 with tied embeddings).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ...space.anatomy import Anatomy
from ...space.bits import SIMPLE, TYPES, Bits
from ...space.errors import SecateurError
from ...space.layout import kept_blocks
from ...space.space import Space
from ...space.state import BlockState
from ...space.treatments import Sparsity, words
from ..features import ALL, Subject
from .form import Format

ARCHITECTURES = {"llama": "deci", "mistral": "deci", "qwen2": "deci", "qwen3": "openelm"}
ROTARY = ("default", "linear", "llama3")
"""Kinds of rotary embedding that divide each frequency by a number of its own; llama.cpp reads those from a tensor."""
QUANTISED: Mapping[str, float] = {kind.lower(): TYPES[kind].bits for kind in SIMPLE}
"""Types that matrices may be written in, and bits a weight; of rows that are no whole blocks half precision is made."""
SMALLEST = "q4_0"
"""The one that is proposed where a checkpoint is larger than what went in."""
OUTSIDE_TYPE = "q8_0"
"""Of embedding and head, which llama.cpp's own presets keep finer than the rest, too."""
FUSED_LINEARS = frozenset(f"self_attn.{name}_proj" for name in "qkv")
"""Of one type in openelm."""
FIRST = "llama.cpp reads the head size off the first layer, which must keep some attention"


def check_model(anatomy: Anatomy, config: Mapping[str, Any]) -> None:
    """Raises SecateurError for a model that cannot be written; `config` is its configuration, defaults filled in."""
    architecture = ARCHITECTURES.get(anatomy.family)
    if architecture is None:
        known = ", ".join(ARCHITECTURES)
        raise SecateurError(f"gguf: {anatomy.family} has no layout with sizes of its own per layer; {known} have")
    activation = config.get("hidden_act", "silu")
    if activation not in ("silu", "swish"):
        raise SecateurError(f"gguf: {architecture} computes silu, and the model {activation}")
    if any(block.window is not None for block in anatomy.blocks):
        raise SecateurError("gguf: sliding attention windows cannot be written with sizes per layer")
    rotary = (config.get("rope_parameters") or config.get("rope_scaling") or {}).get("rope_type", "default")
    if rotary not in (ROTARY if architecture == "deci" else ROTARY[:1]):
        raise SecateurError(f"gguf: rotary scaling '{rotary}' has no place in {architecture}")
    if architecture == "openelm" and not config.get("tie_word_embeddings"):
        raise SecateurError(
            f"gguf: {anatomy.family} is written as openelm, whose head is its embedding; this one's is not"
        )
    if architecture == "openelm" and config.get("attention_bias"):
        raise SecateurError("gguf: openelm has no biases, and this model's attention does")


def check_biases(anatomy: Anatomy) -> None:
    """Raises SecateurError where biases that a repair adds could not be written."""
    if ARCHITECTURES.get(anatomy.family) == "openelm":
        raise SecateurError("gguf: added biases have no place in openelm; choose another repair in 'widths'")


def check_space(space: Space, config: Mapping[str, Any]) -> None:
    """Raises SecateurError where not every genome could be written, before anything is searched."""
    check_model(space.anatomy, config)
    openelm = ARCHITECTURES[space.anatomy.family] == "openelm"
    if "stream" in space.features:
        raise SecateurError("gguf: a narrower residual width is not written; leave the hidden gene out")
    if space.additions.bias:
        check_biases(space.anatomy)
    if space.base is not None:
        check_states(space.base, space.anatomy)
        if not space.base[0].kept["groups"]:
            raise SecateurError(f"gguf: {FIRST}, and the plan below has dropped that one's")
    for gene in space.genes:
        if other := next((one for one in gene.treatments if not isinstance(one, Bits | Sparsity)), None):
            raise SecateurError(f"gguf: {gene.key} has {words(other)}, which is none of llama.cpp's types")
    silenced = [
        frozenset().union(*(gene.kind.silences(gene, level, space.anatomy) for level in range(len(gene.levels))))
        for gene in space.genes
    ]
    if openelm and any({branch for _, branch in places} == {"attention"} for places in silenced):
        raise SecateurError("gguf: openelm has no layers without attention; leave 0 out of attention's levels")
    for gene in space.genes if openelm else ():
        for index in gene.blocks if "bits" in gene.features else ():
            block = space.anatomy.blocks[index]
            names = {block.matrices[place].name for own, place in gene.members if own == index}
            if names & FUSED_LINEARS and not names >= FUSED_LINEARS:
                raise SecateurError(
                    f"gguf: openelm has queries, keys and values in one tensor, and {gene.key} decides on a part of "
                    "it; search bits with per: sublayer"
                )
    if any((0, "attention") in places for places in silenced):
        raise SecateurError(f"gguf: {FIRST}; leave keep_first_attention as it is")


def check_states(states: Sequence[BlockState], anatomy: Anatomy) -> None:
    """Raises SecateurError for a subnet that llama.cpp does not load."""
    kept = kept_blocks(states)
    if not kept or not states[kept[0]].kept["groups"]:
        raise SecateurError(f"gguf: {FIRST}")
    if states[0].hidden < anatomy.hidden_size:
        raise SecateurError("gguf: a narrower residual width is not written")
    for state in states:
        if other := next((one for one in state.treated.values() if not isinstance(one, Bits | Sparsity)), None):
            raise SecateurError(f"gguf: {other} is none of llama.cpp's types")
    without = next((index for index in kept if not states[index].kept["groups"]), None)
    if ARCHITECTURES.get(anatomy.family) != "openelm":
        return
    if without is not None:
        raise SecateurError(f"gguf: openelm has no layers without attention, and layer {without} keeps its MLP alone")
    for index in kept:
        fused = {str(states[index].level(f"self_attn.{name}_proj")) for name in "qkv"}
        if len(fused) > 1:
            raise SecateurError(
                f"gguf: openelm has queries, keys and values in one tensor, and layer {index} has them as "
                f"{', '.join(sorted(fused))}; search bits with per: sublayer"
            )


def quantised_bytes(parameters: int, block_parameters: int, kind: str) -> int:
    """About how many bytes a model of so many parameters takes as a GGUF of that type."""
    outside = parameters - block_parameters
    return round((QUANTISED[kind] * block_parameters + QUANTISED[OUTSIDE_TYPE] * outside) / 8)


def refuses(subject: Subject) -> str | None:
    """Why llama.cpp could not load a subnet; None where it can."""
    try:
        check_model(subject.anatomy, subject.config)
        check_states(subject.states, subject.anatomy)
        if subject.biased:
            check_biases(subject.anatomy)
    except SecateurError as error:
        return str(error).removeprefix("gguf: ")
    return None


def biases(anatomy: Anatomy) -> str | None:
    """Why added biases have no place in a family's architecture; None where they have."""
    try:
        check_biases(anatomy)
    except SecateurError as error:
        return str(error)
    return None


GGUF = Format(
    "gguf",
    "a smaller model for llama.cpp",
    ALL - {"hidden"},
    weights="..checkpoint.gguf:begin",
    refuses=refuses,
    options=("vocabulary", "quantize"),
    first=True,
    biases=biases,
    head=True,
)

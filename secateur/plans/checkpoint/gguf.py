"""A subnet as a GGUF file for llama.cpp, with heads and channels of its own in every layer.

llama.cpp has two architectures that read sizes layer by layer and compute what these families do: `deci` (llama,
mistral, qwen2), and `openelm` with its query and key norms (qwen3 with tied embeddings).
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import gguf
import torch
from torch import nn

from ...files import new_folder
from ...fitness.bench import Bench
from ...fitness.bits.encoding import encode
from ...fitness.model.checkpoint import load_tokenizer
from ...fitness.model.configuration import locate
from ...fitness.model.dtypes import DTYPES
from ...fitness.subnets.materialise import smaller_weights
from ...fitness.subnets.weights import Weights
from ...space.anatomy import Anatomy, Block
from ...space.bits import Bits
from ...space.costs import Additions
from ...space.errors import SecateurError, StorageError
from ...space.layout import kept_blocks
from ...space.state import BlockState, dense_state
from ..features import Subject
from ..formats.gguf import ARCHITECTURES, OUTSIDE_TYPE, QUANTISED, check_model, check_states
from ..formats.gguf_layout import (
    FACTORS,
    FUSED,
    FUSED_NAME,
    HEADER,
    NAMES,
    OUTSIDE,
    PLACEHOLDER,
    SIZED,
    ZEROS,
    GgufLayout,
    is_packed,
)
from .begin import Finish
from .vocabulary import Entry, of_gguf, of_tokenizer


def begin(subject: Subject, options: Mapping[str, str], trusted: bool) -> Finish:
    """Writes `model.gguf` and the plan; `vocabulary`: a GGUF of the dense model that has it, or "none"; `quantize`: the
    type of its matrices.

    Raises:
        SecateurError: the vocabulary is not to be had, or there is no such type.
    """
    plan = subject.plan
    assert plan is not None
    kind = options.get("quantize")
    if kind is not None and kind not in QUANTISED:
        raise SecateurError(
            f"--quantize {kind[:40]}: write one of {', '.join(QUANTISED)}; for other types export without it, and have "
            "llama-quantize read that"
        )
    entries = vocabulary_of(subject.path, int(subject.config["vocab_size"]), options.get("vocabulary"), trusted)

    def finish(bench: Bench, out: Path) -> None:
        with new_folder(out) as folder:
            saved = DTYPES[subject.dtype]
            model = bench.model, bench.anatomy, subject.states, bench.weights
            write_gguf(*model, folder / "model.gguf", entries, saved, kind)
            plan.write(folder / "plan.json")

    return finish


def vocabulary_of(path: str, count: int, wanted: str | None = None, trusted: bool = False) -> list[Entry]:
    """The vocabulary of `count` tokens of a model: from a GGUF that is `wanted`, or "none"; or the model's own.

    Raises:
        SecateurError: it is not to be had.
    """
    if wanted == "none":
        return []
    if wanted is not None:
        return of_gguf(Path(wanted), count)
    located = locate(path)
    if located.gguf is not None:
        return of_gguf(Path(located.folder) / located.gguf, count)
    return of_tokenizer(load_tokenizer(path, trusted), count)


def write_gguf(
    model: nn.Module,
    anatomy: Anatomy,
    states: Sequence[BlockState],
    weights: Weights,
    path: Path,
    vocabulary: Sequence[Entry] = (),
    dtype: torch.dtype | None = None,
    kind: str | None = None,
) -> None:
    """Writes the subnet to `path`, in `dtype` or the model's; without a `vocabulary` it takes and gives ids alone.

    Linears that the subnet has in a type of llama.cpp's are written as they are packed. `kind`: a type of `QUANTISED`
    that all other matrices are rounded to; embedding and head are kept finer, and rows
    of another length than whole groups in half precision, as llama.cpp does it.

    Raises:
        SecateurError: the model or the subnet cannot be written.
    """
    config: Mapping[str, Any] = cast(Any, model).config.to_dict()
    check_model(anatomy, config)
    check_states(states, anatomy)
    architecture = ARCHITECTURES[anatomy.family]
    values = smaller_weights(model, anatomy, states, weights)
    left = dict.fromkeys(values)
    if architecture == "openelm" and (biased := next((name for name in values if name.endswith(".bias")), None)):
        raise SecateurError(f"gguf: '{biased}' has no place in openelm; choose another repair than bias")
    writer = gguf.GGUFWriter(path, architecture, use_temp_file=weights.blocks.shelf is not None)

    def take(name: str) -> torch.Tensor:
        del left[name]
        tensor = values[name]
        return tensor.to(dtype or tensor.dtype) if kind is None else tensor.float()

    _add_metadata(writer, config, anatomy, states, vocabulary)
    if kind is not None:
        writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{kind.upper()}"])
    if (factors := _rotary_factors(model, config)) is not None:
        writer.add_tensor(FACTORS, factors.numpy())
    if config.get("tie_word_embeddings"):
        left.pop("lm_head.weight", None)
    packed = dict(_packed_outside(weights, anatomy, states))
    for name, short in OUTSIDE.items():
        if name in packed:
            del left[name]
            _add_packed(writer, short, *packed[name])
        elif name in left:
            _add(writer, short, take(name), kind and OUTSIDE_TYPE)
    for new, old in enumerate(kept_blocks(states)):
        prefix = f"{anatomy.blocks_path}.{new}."
        own = {short: take(prefix + name) for name, short in NAMES.items() if prefix + name in left}
        types = {}
        for position, linear in enumerate(anatomy.blocks[old].linears):
            rows = weights.packed(old, position, states[old])
            if rows is not None:
                short = NAMES[f"{linear.name}.weight"]
                own[short], types[short] = rows, states[old].level(linear.name)
        dropped = not states[old].kept["channels"]
        for short, tensor in _block_tensors(own, anatomy.blocks[old], states[old], architecture).items():
            # What is fused is of one type.
            level = types.get(FUSED[0] if short == FUSED_NAME else short)
            if dropped and short.startswith("ffn_") and tensor.dim() > 1 and is_packed(states, tensor.shape[1]):
                _add_packed(writer, f"blk.{new}.{short}", encode(ZEROS.kind, tensor), ZEROS)
            elif isinstance(level, Bits):
                _add_packed(writer, f"blk.{new}.{short}", tensor, level)
            else:
                _add(writer, f"blk.{new}.{short}", tensor, kind)
    if left:
        writer.close()
        raise SecateurError(f"gguf: '{next(iter(left))}' has no place in {architecture}")
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error}") from error
    finally:
        writer.close()


def _packed_outside(
    weights: Weights, anatomy: Anatomy, states: Sequence[BlockState]
) -> Iterator[tuple[str, tuple[torch.Tensor, Bits]]]:
    """Packed rows and type of embedding and head, where they are stored in fewer bits, by the names of parameters."""
    for block, state in zip(anatomy.blocks, states, strict=True):
        for position, matrix in enumerate(block.outside, len(block.linears)):
            rows, level = weights.packed(block.index, position, state), state.level(matrix.name)
            if rows is not None and isinstance(level, Bits):
                yield f"{matrix.name}.weight", (rows, level)


def layout_of(
    config: Mapping[str, Any],
    anatomy: Anatomy,
    additions: Additions,
    vocabulary: Sequence[Entry],
    metadata: int | None = None,
) -> GgufLayout:
    """Bytes of the files of all subnets of a model, as `write_gguf` writes them.

    `config`: its configuration. `metadata`: bytes of keys and values, where they are known.

    Raises:
        SecateurError: the model cannot be written.
    """
    check_model(anatomy, config)
    if metadata is None:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "metadata.gguf"
            writer = gguf.GGUFWriter(path, ARCHITECTURES[anatomy.family])
            _add_metadata(writer, config, anatomy, [dense_state(block) for block in anatomy.blocks], vocabulary)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.close()
            metadata = path.stat().st_size - HEADER - SIZED * 4 * len(anatomy.blocks)
    scaled = _rotary_kind(config) != "default"
    factors = anatomy.blocks[0].segments["query"].unit // 2 if scaled else 0
    return GgufLayout(anatomy, metadata, factors, additions)


def _add_metadata(
    writer: Any, config: Mapping[str, Any], anatomy: Anatomy, states: Sequence[BlockState], vocabulary: Sequence[Entry]
) -> None:
    _add_sizes(writer, config, anatomy, states)
    for entry in vocabulary:
        writer.add_key_value(*entry)
    if not vocabulary:
        writer.add_tokenizer_model("none")
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _add_sizes(writer: Any, config: Mapping[str, Any], anatomy: Anatomy, states: Sequence[BlockState]) -> None:
    kept = [states[index] for index in kept_blocks(states)]
    block = anatomy.blocks[0]
    writer.add_block_count(len(kept))
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(anatomy.hidden_size)
    writer.add_feed_forward_length([state.kept["channels"] or PLACEHOLDER for state in kept])
    writer.add_head_count([state.kept["groups"] * state.kept["queries"] for state in kept])
    writer.add_head_count_kv([state.kept["groups"] for state in kept])
    head = block.segments["query"].unit
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(_theta(config))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def _theta(config: Mapping[str, Any]) -> float:
    return float((config.get("rope_parameters") or {}).get("rope_theta", 10000.0))


def _rotary_kind(config: Mapping[str, Any]) -> str:
    return str((config.get("rope_parameters") or {}).get("rope_type", "default"))


def _rotary_factors(model: nn.Module, config: Mapping[str, Any]) -> torch.Tensor | None:
    """What each frequency (half of a head's dimensions,) is divided by; None where none is."""
    if _rotary_kind(config) == "default":
        return None
    actual = model.get_submodule("model.rotary_emb").get_buffer("inv_freq").float().cpu()
    plain = _theta(config) ** -(torch.arange(len(actual)) / len(actual))
    return plain / actual


def _block_tensors(
    own: dict[str, torch.Tensor], block: Block, state: BlockState, architecture: str
) -> dict[str, torch.Tensor]:
    """The tensors of a block as the architecture has them."""
    tensors = dict(own)
    if architecture == "openelm":
        tensors[FUSED_NAME] = torch.cat([tensors.pop(name) for name in FUSED])
    else:
        for name in ("attn_q.weight", "attn_k.weight", "attn_q.bias", "attn_k.bias"):
            if name in tensors:
                tensors[name] = _rotary_order(tensors[name], block.segments["query"].unit)
    if not state.kept["channels"]:
        width = block.hidden
        like = next(iter(own.values()))
        tensors |= {
            "ffn_norm.weight": like.new_ones(width),
            "ffn_gate.weight": like.new_zeros(PLACEHOLDER, width),
            "ffn_up.weight": like.new_zeros(PLACEHOLDER, width),
            "ffn_down.weight": like.new_zeros(width, PLACEHOLDER),
        }
    return tensors


def _rotary_order(tensor: torch.Tensor, head_dim: int) -> torch.Tensor:
    """Rows of each head from halves to pairs, as deci rotates them."""
    heads = tensor.shape[0] // head_dim
    return tensor.reshape(heads, 2, head_dim // 2, *tensor.shape[1:]).swapaxes(1, 2).reshape(tensor.shape)


def _add_packed(writer: Any, name: str, rows: torch.Tensor, level: Bits) -> None:
    """Packed rows (outputs, bytes) of a type."""
    raw = gguf.GGMLQuantizationType(level.stored.number)
    writer.add_tensor(name, rows.cpu().contiguous().numpy(), raw_dtype=raw)


def _add(writer: Any, name: str, tensor: torch.Tensor, kind: str | None = None) -> None:
    """Matrices in their own dtype, or rounded to a type; vectors always in float32."""
    types = gguf.GGMLQuantizationType
    if tensor.dim() > 1 and kind is not None:
        level = Bits(kind.upper(), falling=True).at(tensor.shape[1])
        _add_packed(writer, name, encode(level.kind, tensor), level)
        return
    if tensor.dim() > 1 and tensor.dtype == torch.bfloat16:
        # numpy has no bfloat16; the bits go as they are.
        writer.add_tensor(name, tensor.cpu().contiguous().view(torch.uint8).numpy(), raw_dtype=types.BF16)
        return
    values = tensor if tensor.dim() > 1 else tensor.float()
    writer.add_tensor(name, values.cpu().contiguous().numpy())

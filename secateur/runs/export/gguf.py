"""A subnet as a GGUF file for llama.cpp: per-layer heads and channels under the architecture `deci`.

Weights and shapes only, no vocabulary: enough to be loaded, run on token ids and timed. Families of llama's layout.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import torch
from torch import nn

from ...fitness.materialise import kept_blocks, smaller_weights
from ...fitness.weights import Weights
from ...space.anatomy import Anatomy, Block
from ...space.costs import BlockState
from ...space.errors import SecateurError, StorageError
from ...space.space import Space

FAMILIES = ("llama", "mistral", "qwen2")
PLACEHOLDER = 32
"""Channels of zeros in a layer without MLP: deci skips a layer that has none together with its attention."""
NAMES = {
    "input_layernorm.weight": "attn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "self_attn.q_proj.bias": "attn_q.bias",
    "self_attn.k_proj.bias": "attn_k.bias",
    "self_attn.v_proj.bias": "attn_v.bias",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
}
OUTSIDE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def check_family(anatomy: Anatomy) -> None:
    """Raises SecateurError for a model that cannot be written."""
    if anatomy.family not in FAMILIES:
        raise SecateurError(
            f"gguf: {anatomy.family} has no layout with sizes of its own per layer; {', '.join(FAMILIES)} have"
        )
    if any(block.window is not None for block in anatomy.blocks):
        raise SecateurError("gguf: sliding attention windows cannot be written with sizes per layer")


def check_space(space: Space, config: Mapping[str, Any]) -> None:
    """Raises SecateurError where not every genome could be written, before anything is searched."""
    check_family(space.anatomy)
    rotary = (config.get("rope_parameters") or config.get("rope_scaling") or {}).get("rope_type", "default")
    if rotary != "default":
        raise SecateurError(f"gguf: rotary scaling '{rotary}' is not written")
    if any(gene.kind == "hidden" for gene in space.genes):
        raise SecateurError("gguf: a narrower residual width is not written; leave the hidden gene out")
    if space.additions.bias:
        raise SecateurError("gguf: added biases have no place in a deci file; choose another repair than bias")
    if any(gene.kind in ("attention", "block") and gene.drops and gene.members[0][0] == 0 for gene in space.genes):
        raise SecateurError(
            "gguf: llama.cpp reads the head size off the first layer; leave keep_first_attention as it is"
        )


def check_states(states: Sequence[BlockState], anatomy: Anatomy) -> None:
    """Raises SecateurError for a subnet that llama.cpp does not load."""
    kept = kept_blocks(states)
    if not kept or not states[kept[0]].attention:
        raise SecateurError("gguf: llama.cpp reads the head size off the first layer, which must keep some attention")
    if states[0].hidden < anatomy.hidden_size:
        raise SecateurError("gguf: a narrower residual width is not written")


def write_gguf(model: nn.Module, anatomy: Anatomy, states: Sequence[BlockState], weights: Weights, path: Path) -> None:
    """Writes the subnet to `path`, in the model's dtype.

    Raises:
        SecateurError: the family or the subnet cannot be written.
    """
    check_family(anatomy)
    check_states(states, anatomy)
    config: Any = getattr(model, "config")  # noqa: B009 - modules have no such attribute for the type checker
    values = smaller_weights(model, anatomy, states, weights)
    biases = [
        name
        for name in values
        if name.endswith(("o_proj.bias", "_proj.1.bias")) or (".mlp." in name and name.endswith(".bias"))
    ]
    if biases:
        raise SecateurError(f"gguf: '{biases[0]}' has no place in a deci file; choose another repair than bias")
    writer = gguf.GGUFWriter(path, "deci")
    _add_sizes(writer, config, anatomy, states)
    for name, tensor in values.items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if name in OUTSIDE:
            writer.add_tensor(OUTSIDE[name], _array(tensor, "norm" in name))
    for new, old in enumerate(kept_blocks(states)):
        _add_block(writer, new, anatomy.blocks[old], states[old], anatomy, values)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error}") from error
    finally:
        writer.close()


def _add_sizes(writer: Any, config: Any, anatomy: Anatomy, states: Sequence[BlockState]) -> None:
    kept = [states[index] for index in kept_blocks(states)]
    block = anatomy.blocks[0]
    parameters = getattr(config, "rope_parameters", None) or {}
    if parameters.get("rope_type", "default") != "default":
        raise SecateurError(f"gguf: rotary scaling '{parameters['rope_type']}' is not written")
    writer.add_block_count(len(kept))
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(anatomy.hidden_size)
    writer.add_feed_forward_length([state.mlp or PLACEHOLDER for state in kept])
    writer.add_head_count([state.attention * state.queries for state in kept])
    writer.add_head_count_kv([state.attention for state in kept])
    writer.add_key_length(block.head_dim)
    writer.add_value_length(block.head_dim)
    writer.add_rope_dimension_count(block.head_dim)
    writer.add_rope_freq_base(float(parameters.get("rope_theta", 10000.0)))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("none")


def _add_block(
    writer: Any, new: int, block: Block, state: BlockState, anatomy: Anatomy, values: dict[str, torch.Tensor]
) -> None:
    prefix = f"{anatomy.blocks_path}.{new}."
    for name, short in NAMES.items():
        tensor = values.get(prefix + name)
        if tensor is None:
            continue
        if short in ("attn_q.weight", "attn_k.weight", "attn_q.bias", "attn_k.bias"):
            tensor = _rotary_order(tensor, block.head_dim)
        writer.add_tensor(f"blk.{new}.{short}", _array(tensor, "norm" in short or short.endswith("bias")))
    if not state.mlp:
        width = anatomy.hidden_size
        dtype = values["model.embed_tokens.weight"].dtype
        writer.add_tensor(f"blk.{new}.ffn_norm.weight", _array(torch.ones(width), True))
        for short, shape in (
            ("ffn_gate", (PLACEHOLDER, width)),
            ("ffn_up", (PLACEHOLDER, width)),
            ("ffn_down", (width, PLACEHOLDER)),
        ):
            writer.add_tensor(f"blk.{new}.{short}.weight", _array(torch.zeros(shape, dtype=dtype), False))


def _rotary_order(tensor: torch.Tensor, head_dim: int) -> torch.Tensor:
    """Rows of each head from halves to pairs, as llama.cpp rotates them."""
    heads = tensor.shape[0] // head_dim
    return tensor.reshape(heads, 2, head_dim // 2, *tensor.shape[1:]).swapaxes(1, 2).reshape(tensor.shape)


def _array(tensor: torch.Tensor, single: bool) -> Any:
    """As numpy; vectors always in float32, bfloat16 as float16's size is not to be had in numpy."""
    if single or tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    return tensor.cpu().contiguous().numpy()

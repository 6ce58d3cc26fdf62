"""A GGUF file as llama.cpp's own converter writes it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gguf
import numpy as np
import torch

from tests.tiny import VOCABULARY, WORDS, model_of

HEAD = 8


def write_gguf(
    path: Path,
    factors: Sequence[float] = (),
    extra: Mapping[str, Any] = MappingProxyType({}),
    theta: float = 10000.0,
) -> Path:
    """A tiny llama with a vocabulary; `factors` of its rotary frequencies, and `extra` keys, or tensors of zeros."""

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(4)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(48)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(HEAD)
    writer.add_rope_freq_base(theta)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["<pad>", "<s>", "</s>", "w", "o", "r", "wo", "wor", *WORDS[5:]])
    writer.add_token_types([1] * VOCABULARY)
    writer.add_token_merges(["w o", "wo r"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    names = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.o_proj": "attn_output"}
    names |= {f"self_attn.{one}_proj": f"attn_{one}" for one in "qkv"}
    names |= {f"mlp.{one}_proj": f"ffn_{one}" for one in ("gate", "up", "down")}
    outside = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    outside |= {"lm_head.weight": "output.weight"}
    for name, tensor in model_of("llama", head_dim=HEAD).state_dict().items():
        short = outside.get(name)
        if short is None:
            _, _, layer, *inside, kind = name.split(".")
            short = f"blk.{layer}.{names['.'.join(inside)]}.{kind}"
        writer.add_tensor(short, rotated(short, tensor).numpy())
    if factors:
        writer.add_tensor("rope_freqs.weight", np.array(factors, dtype=np.float32))
    for key, value in extra.items():
        if isinstance(value, tuple):
            writer.add_tensor(key, np.zeros(value, dtype=np.float32))
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        else:
            writer.add_uint32(key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def rotated(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Queries and keys with each head's halves in turns, as llama.cpp rotates them."""
    if "attn_q" not in name and "attn_k" not in name:
        return tensor
    heads = tensor.shape[0] // HEAD
    return tensor.reshape(heads, 2, HEAD // 2, -1).swapaxes(1, 2).reshape(tensor.shape).contiguous()

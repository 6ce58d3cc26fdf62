"""The anatomy of opt, gpt2 and gpt_neox: layer norms, biases, as many KV heads as query heads."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..anatomy import Anatomy, Axis, Block, Linear, Tensor
from ..errors import SecateurError
from .parts import attention_of, mlp_of, norm, ungrouped

Config = Mapping[str, Any]
HEAD = "lm_head.weight"
"""Where it is not the embedding."""


def opt(config: Config, size: int) -> Anatomy:
    """OPT (Zhang et al. 2022, arXiv 2205.01068)."""
    if not config["do_layer_norm_before"]:
        raise SecateurError(
            "opt with do_layer_norm_before=false (opt-350m) normalises the residual stream itself, so that dropping a "
            "sublayer is not defined by its branch alone; use another model"
        )
    hidden, channels = config["hidden_size"], config["ffn_dim"]
    heads, vocabulary, width = config["num_attention_heads"], config["vocab_size"], config["word_embed_proj_dim"]
    bias, affine = bool(config["enable_bias"]), bool(config["layer_norm_elementwise_affine"])
    rows: dict[str, Axis] = {"k_proj": ("key",), "v_proj": ("key",), "q_proj": ("query",)}
    attention = attention_of(
        (
            *(Linear(f"self_attn.{name}", hidden, hidden, bias, rows=axis) for name, axis in rows.items()),
            Linear("self_attn.out_proj", hidden, hidden, bias, columns=("query",)),
        ),
        norm("self_attn_layer_norm", hidden, bias=True, affine=affine),
        (("self_attn", "attention"), ("self_attn_layer_norm", "identity")),
        (("self_attn", "num_heads", "heads"),),
    )
    mlp = mlp_of(
        (
            Linear("fc1", channels, hidden, bias, rows=("channel",)),
            Linear("fc2", hidden, channels, bias, columns=("channel",)),
        ),
        norm("final_layer_norm", hidden, bias=True, affine=affine),
        (("fc1", "identity"), ("fc2", "zero"), ("final_layer_norm", "identity")),
    )
    outside = [
        Tensor("model.decoder.embed_tokens.weight", (vocabulary, width)),
        # Two rows more than positions: OPT offsets positions by two for its padding token.
        Tensor("model.decoder.embed_positions.weight", (config["max_position_embeddings"] + 2, hidden)),
    ]
    macs = vocabulary * width
    if not config.get("_remove_final_layer_norm"):
        outside += norm("model.decoder.final_layer_norm", hidden, bias=True, affine=affine)
    if width != hidden:
        outside += [
            Tensor("model.decoder.project_out.weight", (width, hidden)),
            Tensor("model.decoder.project_in.weight", (hidden, width)),
        ]
        macs += 2 * width * hidden
    if not config.get("tie_word_embeddings", True):
        outside.append(Tensor(HEAD, (vocabulary, width)))
    names = (("heads", "num_attention_heads"), ("channel", "ffn_dim"), ("hidden", "hidden_size"))
    blocks = ungrouped(config["num_hidden_layers"], attention, mlp, heads, hidden, channels)
    path = "model.decoder.layers"
    return _model("opt", hidden, vocabulary, path, blocks, outside, macs, size, names)


def gpt2(config: Config, size: int) -> Anatomy:
    """GPT-2 (Radford et al. 2019): linears are stored as Conv1D, query, key and value fused."""
    if config.get("add_cross_attention"):
        raise SecateurError("gpt2 with cross-attention is not a causal language model; use one without")
    if config.get("scale_attn_by_inverse_layer_idx"):
        raise SecateurError(
            "gpt2 with scale_attn_by_inverse_layer_idx computes differently in every layer position, so that removing "
            "a block changes the others; use a model without it"
        )
    hidden = config["n_embd"]
    channels = config.get("n_inner") or 4 * hidden
    heads, vocabulary = config["n_head"], config["vocab_size"]
    fused: Axis = ("query", "key", "key")
    attention = attention_of(
        (
            Linear("attn.c_attn", 3 * hidden, hidden, bias=True, transposed=True, rows=fused),
            Linear("attn.c_proj", hidden, hidden, bias=True, transposed=True, columns=("query",)),
        ),
        norm("ln_1", hidden, bias=True),
        (("attn", "attention"), ("ln_1", "identity")),
        (("attn", "num_heads", "heads"), ("attn", "split_size", "query")),
    )
    mlp = mlp_of(
        (
            Linear("mlp.c_fc", channels, hidden, bias=True, transposed=True, rows=("channel",)),
            Linear("mlp.c_proj", hidden, channels, bias=True, transposed=True, columns=("channel",)),
        ),
        norm("ln_2", hidden, bias=True),
        (("mlp", "zero"), ("ln_2", "identity")),
    )
    outside = [
        Tensor("transformer.wte.weight", (vocabulary, hidden)),
        Tensor("transformer.wpe.weight", (config["n_positions"], hidden)),
        *norm("transformer.ln_f", hidden, bias=True),
    ]
    if not config.get("tie_word_embeddings", True):
        outside.append(Tensor(HEAD, (vocabulary, hidden)))
    names = (("heads", "n_head"), ("channel", "n_inner"), ("hidden", "n_embd"))
    blocks = ungrouped(config["n_layer"], attention, mlp, heads, hidden, channels)
    macs = vocabulary * hidden
    return _model("gpt2", hidden, vocabulary, "transformer.h", blocks, outside, macs, size, names)


def gpt_neox(config: Config, size: int) -> Anatomy:
    """GPT-NeoX and Pythia (Black et al. 2022, arXiv 2204.06745): query, key and value of a head lie together."""
    hidden, channels = config["hidden_size"], config["intermediate_size"]
    heads, vocabulary = config["num_attention_heads"], config["vocab_size"]
    bias = bool(config.get("attention_bias", True))
    attention = attention_of(
        (
            Linear("attention.query_key_value", 3 * hidden, hidden, bias, rows=("triple",)),
            Linear("attention.dense", hidden, hidden, bias, columns=("query",)),
        ),
        norm("input_layernorm", hidden, bias=True),
        (("attention", "attention"), ("input_layernorm", "identity")),
    )
    mlp = mlp_of(
        (
            Linear("mlp.dense_h_to_4h", channels, hidden, bias=True, rows=("channel",)),
            Linear("mlp.dense_4h_to_h", hidden, channels, bias=True, columns=("channel",)),
        ),
        norm("post_attention_layernorm", hidden, bias=True),
        (("mlp", "zero"), ("post_attention_layernorm", "identity")),
    )
    outside = [
        Tensor("gpt_neox.embed_in.weight", (vocabulary, hidden)),
        *norm("gpt_neox.final_layer_norm", hidden, bias=True),
    ]
    if not config.get("tie_word_embeddings"):
        outside.append(Tensor(HEAD, (vocabulary, hidden)))
    names = (("heads", "num_attention_heads"), ("channel", "intermediate_size"), ("hidden", "hidden_size"))
    blocks = ungrouped(config["num_hidden_layers"], attention, mlp, heads, hidden, channels)
    path, macs = "gpt_neox.layers", vocabulary * hidden
    return _model("gpt_neox", hidden, vocabulary, path, blocks, outside, macs, size, names)


def _model(
    family: str,
    hidden: int,
    vocabulary: int,
    path: str,
    blocks: tuple[Block, ...],
    outside: Sequence[Tensor],
    macs: int,
    size: int,
    names: tuple[tuple[str, str], ...],
) -> Anatomy:
    """Of `outside` the embedding comes first, and a head of its own last."""
    first, last = outside[0].name, outside[-1].name
    return Anatomy(
        family,
        hidden,
        vocabulary,
        path,
        blocks,
        tuple(outside),
        macs,
        size,
        config_names=names,
        embedding=first,
        head=last if last == HEAD else first,
    )

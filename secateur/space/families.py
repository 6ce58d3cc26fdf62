"""The anatomy of each known family, from its Hugging Face configuration.

To add a family, write a function `(config) -> Anatomy` in the manner of those below and enter it in `FAMILIES` under
its `model_type`; `tests/fitness/test_families.py` then compares it with a tiny random model of that family.
Configurations are the dictionaries of `PreTrainedConfig.to_dict()`, in which transformers has filled in the defaults.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .anatomy import Anatomy, Block, Linear, Role, Sublayer, SublayerKind, Tensor
from .errors import SecateurError, suggest

Config = Mapping[str, Any]
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


def anatomy(config: Config, dtype: str = "float32") -> Anatomy:
    """Returns the anatomy of the model that `config` describes.

    Raises:
        SecateurError: the family is unknown, or the configuration uses something its anatomy does not cover.
    """
    family = str(config.get("model_type"))
    if family not in FAMILIES:
        raise SecateurError(
            f"unknown model family '{family}'; {suggest(family, FAMILIES)}. "
            f"To add it, describe its modules in secateur/space/families.py (known: {', '.join(sorted(FAMILIES))})"
        )
    if dtype not in BYTES:
        raise SecateurError(f"unknown dtype '{dtype}'; {suggest(dtype, BYTES)}")
    if config.get("per_layer_config"):
        raise SecateurError("this checkpoint already has per-layer sizes; start from the dense model it was made from")
    return FAMILIES[family](config, BYTES[dtype])


def _norm(name: str, size: int, bias: bool = False, affine: bool = True) -> tuple[Tensor, ...]:
    if not affine:
        return ()
    weight = Tensor(f"{name}.weight", (size,))
    return (weight, Tensor(f"{name}.bias", (size,))) if bias else (weight,)


def _sublayer(
    kind: SublayerKind,
    linears: Iterable[Linear],
    tensors: Iterable[Tensor],
    stand_ins: Mapping[str, Role],
) -> Sublayer:
    return Sublayer(kind, tuple(linears), tuple(tensors), tuple(stand_ins.items()))


def _windows(config: Config, layers: int) -> list[int | None]:
    """The attention window of each layer, from `layer_types` where the family has them."""
    window = config.get("sliding_window")
    types = config.get("layer_types")
    if types is not None:
        return [window if kind == "sliding_attention" else None for kind in types]
    return [window if config["model_type"] in ("mistral", "phi3") else None] * layers


def _llama_like(
    config: Config,
    size: int,
    *,
    attention_bias: bool = False,
    output_bias: bool | None = None,
    mlp_bias: bool = False,
    norms: str = "pre",
    head_norms: str = "none",
    fused: bool = False,
) -> Anatomy:
    """Families of one mould: RMS norms, rotary attention, gated MLP, modules named as in llama.

    `norms`: where a branch is normalised: "pre", "post" (olmo2) or "sandwich" (gemma). `head_norms`: norms of queries
    and keys per head ("head", qwen3 and gemma3) or over all heads at once ("all", olmo2).
    """
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    head_dim = config.get("head_dim") or hidden // heads
    channels = config["intermediate_size"]
    output_bias = attention_bias if output_bias is None else output_bias

    queries, keys = heads * head_dim, kv_heads * head_dim
    if fused:
        projections = [Linear("self_attn.qkv_proj", queries + 2 * keys, hidden, attention_bias)]
        gates = [Linear("mlp.gate_up_proj", 2 * channels, hidden, mlp_bias)]
    else:
        projections = [
            Linear("self_attn.q_proj", queries, hidden, attention_bias),
            Linear("self_attn.k_proj", keys, hidden, attention_bias),
            Linear("self_attn.v_proj", keys, hidden, attention_bias),
        ]
        gates = [Linear(f"mlp.{name}_proj", channels, hidden, mlp_bias) for name in ("gate", "up")]
    projections.append(Linear("self_attn.o_proj", hidden, queries, output_bias))
    gates.append(Linear("mlp.down_proj", hidden, channels, mlp_bias))

    around_attention, around_mlp = {
        "pre": (["input_layernorm"], ["post_attention_layernorm"]),
        "post": (["post_attention_layernorm"], ["post_feedforward_layernorm"]),
        "sandwich": (
            ["input_layernorm", "post_attention_layernorm"],
            ["pre_feedforward_layernorm", "post_feedforward_layernorm"],
        ),
    }[norms]
    inner = {
        "none": (),
        "head": (Tensor("self_attn.q_norm.weight", (head_dim,)), Tensor("self_attn.k_norm.weight", (head_dim,))),
        "all": (Tensor("self_attn.q_norm.weight", (queries,)), Tensor("self_attn.k_norm.weight", (keys,))),
    }[head_norms]
    attention = _sublayer(
        "attention",
        projections,
        [tensor for name in around_attention for tensor in _norm(name, hidden)] + list(inner),
        {"self_attn": "attention", **dict.fromkeys(around_attention, "identity")},
    )
    mlp = _sublayer(
        "mlp",
        gates,
        [tensor for name in around_mlp for tensor in _norm(name, hidden)],
        {"mlp": "zero", **dict.fromkeys(around_mlp, "identity")},
    )
    blocks = tuple(
        Block(index, attention, mlp, heads, kv_heads, head_dim, channels, window)
        for index, window in enumerate(_windows(config, layers))
    )
    vocabulary = config["vocab_size"]
    outside = [Tensor("model.embed_tokens.weight", (vocabulary, hidden)), *_norm("model.norm", hidden)]
    if not config.get("tie_word_embeddings"):
        outside.append(Tensor("lm_head.weight", (vocabulary, hidden)))
    return Anatomy(
        config["model_type"], hidden, vocabulary, "model.layers", blocks, tuple(outside), vocabulary * hidden, size
    )


def _llama(config: Config, size: int) -> Anatomy:
    return _llama_like(
        config,
        size,
        attention_bias=bool(config.get("attention_bias")),
        mlp_bias=bool(config.get("mlp_bias")),
    )


def _qwen2(config: Config, size: int) -> Anatomy:
    return _llama_like(config, size, attention_bias=True, output_bias=False)


def _qwen3(config: Config, size: int) -> Anatomy:
    return _llama_like(config, size, attention_bias=bool(config.get("attention_bias")), head_norms="head")


def _gemma2(config: Config, size: int) -> Anatomy:
    return _llama_like(config, size, attention_bias=bool(config.get("attention_bias")), norms="sandwich")


def _gemma3(config: Config, size: int) -> Anatomy:
    bias = bool(config.get("attention_bias"))
    return _llama_like(config, size, attention_bias=bias, norms="sandwich", head_norms="head")


def _olmo2(config: Config, size: int) -> Anatomy:
    bias = bool(config.get("attention_bias"))
    return _llama_like(config, size, attention_bias=bias, norms="post", head_norms="all")


def _phi3(config: Config, size: int) -> Anatomy:
    return _llama_like(config, size, fused=True)


def _opt(config: Config, size: int) -> Anatomy:
    if not config["do_layer_norm_before"]:
        raise SecateurError(
            "opt with do_layer_norm_before=false (opt-350m) normalises the residual stream itself, so that dropping a "
            "sublayer is not defined by its branch alone; use another model"
        )
    hidden, channels = config["hidden_size"], config["ffn_dim"]
    heads, vocabulary, width = config["num_attention_heads"], config["vocab_size"], config["word_embed_proj_dim"]
    bias, affine = bool(config["enable_bias"]), bool(config["layer_norm_elementwise_affine"])
    attention = _sublayer(
        "attention",
        [Linear(f"self_attn.{name}", hidden, hidden, bias) for name in ("k_proj", "v_proj", "q_proj", "out_proj")],
        _norm("self_attn_layer_norm", hidden, bias=True, affine=affine),
        {"self_attn": "attention", "self_attn_layer_norm": "identity"},
    )
    mlp = _sublayer(
        "mlp",
        [Linear("fc1", channels, hidden, bias), Linear("fc2", hidden, channels, bias)],
        _norm("final_layer_norm", hidden, bias=True, affine=affine),
        {"fc1": "identity", "fc2": "zero", "final_layer_norm": "identity"},
    )
    blocks = tuple(
        Block(index, attention, mlp, heads, heads, hidden // heads, channels)
        for index in range(config["num_hidden_layers"])
    )
    outside = [
        Tensor("model.decoder.embed_tokens.weight", (vocabulary, width)),
        # Two rows more than positions: OPT offsets positions by two for its padding token.
        Tensor("model.decoder.embed_positions.weight", (config["max_position_embeddings"] + 2, hidden)),
    ]
    macs = vocabulary * width
    if not config.get("_remove_final_layer_norm"):
        outside += _norm("model.decoder.final_layer_norm", hidden, bias=True, affine=affine)
    if width != hidden:
        outside += [
            Tensor("model.decoder.project_out.weight", (width, hidden)),
            Tensor("model.decoder.project_in.weight", (hidden, width)),
        ]
        macs += 2 * width * hidden
    if not config.get("tie_word_embeddings", True):
        outside.append(Tensor("lm_head.weight", (vocabulary, width)))
    return Anatomy("opt", hidden, vocabulary, "model.decoder.layers", blocks, tuple(outside), macs, size)


def _gpt2(config: Config, size: int) -> Anatomy:
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
    attention = _sublayer(
        "attention",
        [
            Linear("attn.c_attn", 3 * hidden, hidden, bias=True, transposed=True),
            Linear("attn.c_proj", hidden, hidden, bias=True, transposed=True),
        ],
        _norm("ln_1", hidden, bias=True),
        {"attn": "attention", "ln_1": "identity"},
    )
    mlp = _sublayer(
        "mlp",
        [
            Linear("mlp.c_fc", channels, hidden, bias=True, transposed=True),
            Linear("mlp.c_proj", hidden, channels, bias=True, transposed=True),
        ],
        _norm("ln_2", hidden, bias=True),
        {"mlp": "zero", "ln_2": "identity"},
    )
    blocks = tuple(
        Block(index, attention, mlp, heads, heads, hidden // heads, channels) for index in range(config["n_layer"])
    )
    outside = [
        Tensor("transformer.wte.weight", (vocabulary, hidden)),
        Tensor("transformer.wpe.weight", (config["n_positions"], hidden)),
        *_norm("transformer.ln_f", hidden, bias=True),
    ]
    if not config.get("tie_word_embeddings", True):
        outside.append(Tensor("lm_head.weight", (vocabulary, hidden)))
    return Anatomy("gpt2", hidden, vocabulary, "transformer.h", blocks, tuple(outside), vocabulary * hidden, size)


def _gpt_neox(config: Config, size: int) -> Anatomy:
    hidden, channels = config["hidden_size"], config["intermediate_size"]
    heads, vocabulary = config["num_attention_heads"], config["vocab_size"]
    bias = bool(config.get("attention_bias", True))
    attention = _sublayer(
        "attention",
        [
            Linear("attention.query_key_value", 3 * hidden, hidden, bias),
            Linear("attention.dense", hidden, hidden, bias),
        ],
        _norm("input_layernorm", hidden, bias=True),
        {"attention": "attention", "input_layernorm": "identity"},
    )
    mlp = _sublayer(
        "mlp",
        [
            Linear("mlp.dense_h_to_4h", channels, hidden, bias=True),
            Linear("mlp.dense_4h_to_h", hidden, channels, bias=True),
        ],
        _norm("post_attention_layernorm", hidden, bias=True),
        {"mlp": "zero", "post_attention_layernorm": "identity"},
    )
    blocks = tuple(
        Block(index, attention, mlp, heads, heads, hidden // heads, channels)
        for index in range(config["num_hidden_layers"])
    )
    outside = [
        Tensor("gpt_neox.embed_in.weight", (vocabulary, hidden)),
        *_norm("gpt_neox.final_layer_norm", hidden, bias=True),
    ]
    if not config.get("tie_word_embeddings"):
        outside.append(Tensor("lm_head.weight", (vocabulary, hidden)))
    return Anatomy("gpt_neox", hidden, vocabulary, "gpt_neox.layers", blocks, tuple(outside), vocabulary * hidden, size)


FAMILIES: dict[str, Callable[[Config, int], Anatomy]] = {
    "llama": _llama,
    "mistral": _llama_like,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "gemma2": _gemma2,
    "gemma3_text": _gemma3,
    "phi3": _phi3,
    "olmo2": _olmo2,
    "smollm3": _llama,
    "granite": _llama,
    "opt": _opt,
    "gpt2": _gpt2,
    "gpt_neox": _gpt_neox,
}

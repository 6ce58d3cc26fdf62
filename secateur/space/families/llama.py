"""The anatomy of the families made after llama: RMS norms, rotary attention, gated MLP."""

from collections.abc import Mapping
from typing import Any

from ..anatomy import Anatomy, Axis, Linear, Sublayer, Tensor
from .parts import attention_of, mlp_of, norm, transformer_block

Config = Mapping[str, Any]
NORMS = {
    "pre": (["input_layernorm"], ["post_attention_layernorm"]),
    "post": (["post_attention_layernorm"], ["post_feedforward_layernorm"]),
    "sandwich": (
        ["input_layernorm", "post_attention_layernorm"],
        ["pre_feedforward_layernorm", "post_feedforward_layernorm"],
    ),
    "glm": (
        ["input_layernorm", "post_self_attn_layernorm"],
        ["post_attention_layernorm", "post_mlp_layernorm"],
    ),
}
HIDDEN_ORDERS = {"pre": ("pca", "magnitude"), "post": ("magnitude",), "sandwich": (), "glm": ()}
"""A rotation of the residual stream commutes with norms before a branch only; gemma's embeddings are scaled by its
width, and norms with a bias take their mean over it."""
GATED = ("gate_proj", "up_proj", "down_proj")
OF_HEADS = {"head": ("q_norm", "k_norm"), "hunyuan": ("query_layernorm", "key_layernorm")}
"""What norms of each head's queries and keys are called: in most families, and in Hunyuan."""
WINDOWED = ("mistral", "phi3", "starcoder2")
"""Families whose layers all have the window that the configuration names."""
CONFIG_NAMES = (
    ("heads", "num_attention_heads"),
    ("groups", "num_key_value_heads"),
    ("channel", "intermediate_size"),
    ("hidden", "hidden_size"),
)


def _windows(config: Config, layers: int) -> list[int | None]:
    """The attention window of each layer, from `layer_types` where the family has them."""
    window = config.get("sliding_window")
    types = config.get("layer_types")
    if types is not None:
        return [window if kind == "sliding_attention" else None for kind in types]
    return [window if config["model_type"] in WINDOWED else None] * layers


def _attention(
    config: Config,
    sizes: Mapping[str, int],
    bias: bool,
    output_bias: bool,
    norms: str,
    norm_bias: bool,
    head_norms: str,
    fused: bool,
    derived_heads: bool,
) -> Sublayer:
    hidden, head_dim = config["hidden_size"], sizes["head_dim"]
    queries, keys = sizes["heads"] * head_dim, sizes["kv_heads"] * head_dim
    attributes = [("self_attn", "num_key_value_groups", "queries")]
    if fused:
        rows: Axis = ("query", "key", "key")
        linears = [Linear("self_attn.qkv_proj", queries + 2 * keys, hidden, bias, rows=rows, columns=("hidden",))]
        attributes += [
            ("self_attn", "num_key_value_heads", "groups"),
            ("self_attn", "config.num_attention_heads", "heads"),
        ]
    elif derived_heads:
        attributes += [("self_attn", "num_heads", "heads"), ("self_attn", "num_key_value_heads", "groups")]
    if not fused:
        linears = [
            Linear("self_attn.q_proj", queries, hidden, bias, rows=("query",), columns=("hidden",)),
            Linear("self_attn.k_proj", keys, hidden, bias, rows=("key",), columns=("hidden",)),
            Linear("self_attn.v_proj", keys, hidden, bias, rows=("key",), columns=("hidden",)),
        ]
    linears.append(Linear("self_attn.o_proj", hidden, queries, output_bias, rows=("hidden",), columns=("query",)))
    around = NORMS[norms][0]
    tensors = [tensor for name in around for tensor in norm(name, hidden, ("hidden",), norm_bias)]
    if head_norms in OF_HEADS:
        tensors += [Tensor(f"self_attn.{name}.weight", (head_dim,)) for name in OF_HEADS[head_norms]]
    elif head_norms == "all":
        tensors += [*norm("self_attn.q_norm", queries, ("query",)), *norm("self_attn.k_norm", keys, ("key",))]
    return attention_of(
        tuple(linears),
        tuple(tensors),
        (("self_attn", "attention"), *((name, "identity") for name in around)),
        tuple(attributes),
    )


def _mlp(config: Config, bias: bool, norms: str, norm_bias: bool, fused: bool, names: tuple[str, ...]) -> Sublayer:
    hidden, channels = config["hidden_size"], config["intermediate_size"]
    *inner, last = names
    if fused:
        rows: Axis = ("channel", "channel")
        linears = [Linear("mlp.gate_up_proj", 2 * channels, hidden, bias, rows=rows, columns=("hidden",))]
    else:
        linears = [
            Linear(f"mlp.{name}", channels, hidden, bias, rows=("channel",), columns=("hidden",)) for name in inner
        ]
    linears.append(Linear(f"mlp.{last}", hidden, channels, bias, rows=("hidden",), columns=("channel",)))
    around = NORMS[norms][1]
    return mlp_of(
        tuple(linears),
        tuple(tensor for name in around for tensor in norm(name, hidden, ("hidden",), norm_bias)),
        (("mlp", "zero"), *((name, "identity") for name in around)),
    )


def llama_like(
    config: Config,
    size: int,
    *,
    attention_bias: bool = False,
    output_bias: bool | None = None,
    mlp_bias: bool = False,
    norms: str = "pre",
    norm_bias: bool = False,
    head_norms: str = "none",
    fused: tuple[str, ...] = (),
    mlp_names: tuple[str, ...] = GATED,
    hidden_orders: tuple[str, ...] | None = None,
    derived_heads: bool = False,
) -> Anatomy:
    """Modules are named as in llama.

    `norms`: where a branch is normalised: "pre", "post" (olmo2), "sandwich" (gemma) or "glm"; `norm_bias`: they are
    layer norms. `head_norms`: norms of queries and keys per head (by their names in `OF_HEADS`) or over all heads at
    once ("all", olmo2). `fused`: of "attention" and "mlp" those whose first linears are one. `mlp_names`: of its
    linears, the last writes to the stream. `hidden_orders`: where the norms are not all that says them.
    `derived_heads`: their size follows from how many there are, and attention reads that by itself.
    """
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    sizes = {
        "heads": heads,
        "kv_heads": config.get("num_key_value_heads") or heads,
        "head_dim": config.get("head_dim") or hidden // heads,
    }
    output_bias = attention_bias if output_bias is None else output_bias
    attention = _attention(
        config, sizes, attention_bias, output_bias, norms, norm_bias, head_norms, "attention" in fused, derived_heads
    )
    mlp = _mlp(config, mlp_bias, norms, norm_bias, "mlp" in fused, mlp_names)
    if hidden_orders is None:
        hidden_orders = () if norm_bias else HIDDEN_ORDERS[norms]
    blocks = tuple(
        transformer_block(
            index, attention, mlp, **sizes, channels=config["intermediate_size"], hidden=hidden, window=window
        )
        for index, window in enumerate(_windows(config, config["num_hidden_layers"]))
    )
    vocabulary = config["vocab_size"]
    embedding = Tensor("model.embed_tokens.weight", (vocabulary, hidden), ((), ("hidden",)))
    head = Tensor("lm_head.weight", (vocabulary, hidden), ((), ("hidden",)))
    if config.get("tie_word_embeddings"):
        head = embedding
    return Anatomy(
        config["model_type"],
        hidden,
        vocabulary,
        "model.layers",
        blocks,
        tuple(dict.fromkeys((embedding, *norm("model.norm", hidden, ("hidden",), norm_bias), head))),
        vocabulary * hidden,
        size,
        config_names=CONFIG_NAMES,
        explicit_head_dim=not derived_heads,
        hidden_orders=hidden_orders,
        embedding=embedding.name,
        norm="model.norm",
        head=head.name,
    )


def llama(config: Config, size: int) -> Anatomy:
    """llama, smollm3, granite, and Ministral."""
    bias, mlp_bias = bool(config.get("attention_bias")), bool(config.get("mlp_bias"))
    return llama_like(config, size, attention_bias=bias, mlp_bias=mlp_bias)


def qwen2(config: Config, size: int) -> Anatomy:
    """Qwen2 (Yang et al. 2024, arXiv 2407.10671): biases on queries, keys and values."""
    return llama_like(config, size, attention_bias=True, output_bias=False)


def qwen3(config: Config, size: int) -> Anatomy:
    """Qwen3 (Yang et al. 2025, arXiv 2505.09388): a norm on each head's queries and keys."""
    return llama_like(config, size, attention_bias=bool(config.get("attention_bias")), head_norms="head")


def gemma2(config: Config, size: int) -> Anatomy:
    """Gemma 2 (2024, arXiv 2408.00118): norms before and after each branch, windows in every other layer."""
    return llama_like(config, size, attention_bias=bool(config.get("attention_bias")), norms="sandwich")


def gemma3(config: Config, size: int) -> Anatomy:
    """Gemma 3, its text model (2025, arXiv 2503.19786): Gemma 2's norms, and norms on heads."""
    bias = bool(config.get("attention_bias"))
    return llama_like(config, size, attention_bias=bias, norms="sandwich", head_norms="head")


def olmo2(config: Config, size: int) -> Anatomy:
    """OLMo 2 (2025, arXiv 2501.00656): norms after each branch, and on all queries and keys together."""
    bias = bool(config.get("attention_bias"))
    return llama_like(config, size, attention_bias=bias, norms="post", head_norms="all")


def phi3(config: Config, size: int) -> Anatomy:
    """Phi-3 and Phi-4 (Abdin et al. 2024, arXiv 2404.14219): fused projections."""
    return llama_like(config, size, fused=("attention", "mlp"))

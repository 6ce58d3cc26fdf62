"""The anatomy of encoders with a masked-token head: bert, roberta with its kin, and distilbert.

Their norms come after the residual sum, so a dropped sublayer takes its norm with it: its input, which the norm before
has normalised already, passes on unchanged. Both sublayers dropped are then the block removed.
"""

from collections.abc import Mapping
from typing import Any

from ..anatomy import Anatomy, Linear, Tensor
from ..errors import SecateurError
from .parts import attention_of, mlp_of, norm, ungrouped

Config = Mapping[str, Any]


def bert(config: Config, size: int) -> Anatomy:
    """BERT (Devlin et al. 2019, arXiv 1810.04805)."""
    return _encoder(config, size, "bert", "cls.predictions", "transform.dense", "transform.LayerNorm")


def roberta(config: Config, size: int) -> Anatomy:
    """RoBERTa (Liu et al. 2019, arXiv 1907.11692), XLM-RoBERTa and CamemBERT."""
    return _encoder(config, size, "roberta", "lm_head", "dense", "layer_norm")


def _square(hidden: int, query: str, key: str, value: str, output: str) -> tuple[Linear, ...]:
    """The linears of an attention with as many KV heads as query heads."""
    return (
        Linear(query, hidden, hidden, bias=True, rows=("query",)),
        Linear(key, hidden, hidden, bias=True, rows=("key",)),
        Linear(value, hidden, hidden, bias=True, rows=("key",)),
        Linear(output, hidden, hidden, bias=True, columns=("query",)),
    )


def _through(hidden: int, channels: int, first: str, second: str) -> tuple[Linear, ...]:
    """The linears of an MLP without a gate."""
    return (
        Linear(first, channels, hidden, bias=True, rows=("channel",)),
        Linear(second, hidden, channels, bias=True, columns=("channel",)),
    )


def _encoder(config: Config, size: int, root: str, head: str, dense: str, head_norm: str) -> Anatomy:
    """`root` and `head` are modules; `dense` and `head_norm` the linear and the norm inside the head."""
    if config.get("is_decoder") or config.get("add_cross_attention"):
        raise SecateurError(f"{root} as a decoder is not covered; set is_decoder and add_cross_attention to false")
    hidden, channels, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    attention = attention_of(
        _square(hidden, "attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"),
        norm("attention.output.LayerNorm", hidden, bias=True),
        (("attention", "keep"),),
        (("attention.self", "num_attention_heads", "heads"), ("attention.self", "all_head_size", "query")),
    )
    mlp = mlp_of(
        _through(hidden, channels, "intermediate.dense", "output.dense"),
        norm("output.LayerNorm", hidden, bias=True),
        (("intermediate", "identity"), ("output", "second")),
    )
    blocks = ungrouped(config["num_hidden_layers"], attention, mlp, heads, hidden, channels)
    vocabulary, embeddings = config["vocab_size"], f"{root}.embeddings"
    outside = [
        Tensor(f"{embeddings}.word_embeddings.weight", (vocabulary, hidden)),
        Tensor(f"{embeddings}.position_embeddings.weight", (config["max_position_embeddings"], hidden)),
        Tensor(f"{embeddings}.token_type_embeddings.weight", (config["type_vocab_size"], hidden)),
        *norm(f"{embeddings}.LayerNorm", hidden, bias=True),
        Tensor(f"{head}.bias", (vocabulary,)),
        Tensor(f"{head}.{dense}.weight", (hidden, hidden)),
        Tensor(f"{head}.{dense}.bias", (hidden,)),
        *norm(f"{head}.{head_norm}", hidden, bias=True),
    ]
    untied = not config.get("tie_word_embeddings", True)
    if untied:
        outside += [
            Tensor(f"{head}.decoder.weight", (vocabulary, hidden)),
            Tensor(f"{head}.decoder.bias", (vocabulary,)),
        ]
    return Anatomy(
        config["model_type"],
        hidden,
        vocabulary,
        f"{root}.encoder.layer",
        blocks,
        tuple(outside),
        vocabulary * hidden + hidden * hidden,
        size,
        causal=False,
        embedding=outside[0].name,
        head=f"{head}.decoder.weight" if untied else outside[0].name,
        config_names=(("heads", "num_attention_heads"), ("channel", "intermediate_size"), ("hidden", "hidden_size")),
    )


def distilbert(config: Config, size: int) -> Anatomy:
    """DistilBERT (Sanh et al. 2019, arXiv 1910.01108): half of BERT's blocks, and no token types."""
    hidden, channels, heads = config["dim"], config["hidden_dim"], config["n_heads"]
    attention = attention_of(
        _square(hidden, "attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"),
        norm("sa_layer_norm", hidden, bias=True),
        (("attention", "attention"), ("sa_layer_norm", "identity")),
    )
    mlp = mlp_of(
        _through(hidden, channels, "ffn.lin1", "ffn.lin2"),
        norm("output_layer_norm", hidden, bias=True),
        (("ffn", "zero"), ("output_layer_norm", "identity")),
    )
    vocabulary, embeddings = config["vocab_size"], "distilbert.embeddings"
    outside = [
        Tensor(f"{embeddings}.word_embeddings.weight", (vocabulary, hidden)),
        Tensor(f"{embeddings}.position_embeddings.weight", (config["max_position_embeddings"], hidden)),
        *norm(f"{embeddings}.LayerNorm", hidden, bias=True),
        Tensor("vocab_transform.weight", (hidden, hidden)),
        Tensor("vocab_transform.bias", (hidden,)),
        *norm("vocab_layer_norm", hidden, bias=True),
        Tensor("vocab_projector.bias", (vocabulary,)),
    ]
    untied = not config.get("tie_word_embeddings", True)
    if untied:
        outside.append(Tensor("vocab_projector.weight", (vocabulary, hidden)))
    return Anatomy(
        "distilbert",
        hidden,
        vocabulary,
        "distilbert.transformer.layer",
        ungrouped(config["n_layers"], attention, mlp, heads, hidden, channels),
        tuple(outside),
        vocabulary * hidden + hidden * hidden,
        size,
        causal=False,
        embedding=outside[0].name,
        head="vocab_projector.weight" if untied else outside[0].name,
        config_names=(("heads", "n_heads"), ("channel", "hidden_dim"), ("hidden", "dim")),
    )

"""The anatomy of each known family, from its Hugging Face configuration.

To add a family, write a function `(config, bytes per parameter) -> Anatomy` in the manner of those imported below and
enter it in `FAMILIES` under its `model_type`, with what is special about its checkpoints; then
`tests/fitness/test_families.py` compares it with a tiny random model of that family.
Configurations are the dictionaries of `PreTrainedConfig.to_dict()`, in which transformers has filled in the defaults.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from ..anatomy import Anatomy, Tensor
from ..errors import SecateurError, suggest
from .bert import bert, distilbert, roberta
from .gpt import gpt2, gpt_neox, opt
from .llama import gemma2, gemma3, llama, llama_like, olmo2, phi3, qwen2, qwen3
from .llama_kin import (
    arcee,
    ernie,
    exaone4,
    gemma,
    glm,
    glm4,
    hunyuan,
    nemotron,
    seed_oss,
    stablelm,
    starcoder2,
)
from .parts import head_of, with_outside, without_head

Config = Mapping[str, Any]
POOLER = "secateur_pooler"
"""The entry of a configuration that says that a model has no pooler although its class has one."""
BASES = {"hunyuan_v1_dense": "hunyuan_dense_v1"}
"""What families are called in the names of their classes, where that is something else."""
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


class Family(NamedTuple):
    """A family of models.

    Attributes:
        anatomy: of a model, from its configuration and the bytes of a parameter.
        encoder: it predicts masked tokens, in both directions.
        unused: parts of pretrained models that predicting tokens has no use for, by how their names begin.
        pads_first: the first position is the one after the padding token's number.
        pooler: without a head its first token goes through a matrix, for those who want that.
    """

    anatomy: Callable[[Config, int], Anatomy]
    encoder: bool = False
    unused: tuple[str, ...] = ()
    pads_first: bool = False
    pooler: bool = False

    def positions(self, config: Config) -> int | None:
        """How many tokens a text can have; None where nothing says so."""
        most = config.get("max_position_embeddings") or config.get("n_positions")
        pad = config.get("pad_token_id")
        return most - pad - 1 if most is not None and self.pads_first and isinstance(pad, int) else most


def anatomy(config: Config, dtype: str = "float32") -> Anatomy:
    """Returns the anatomy of the model that `config` describes.

    Raises:
        SecateurError: the family is unknown, or the configuration uses something its anatomy does not cover.
    """
    family = str(config.get("model_type"))
    if family.startswith("secateur_") or (family in FAMILIES and config.get("per_layer_config")):
        raise SecateurError("this checkpoint already has per-layer sizes; start from the dense model it was made from")
    if family not in FAMILIES:
        raise SecateurError(f"unknown model family '{family}'; {_instead(config)}known: {', '.join(sorted(FAMILIES))}")
    if dtype not in BYTES:
        raise SecateurError(f"unknown dtype '{dtype}'; {suggest(dtype, BYTES)}")
    check_sizes(config, family)
    shape = FAMILIES[family].anatomy(_Entries(config), BYTES[dtype])
    if is_headless(config):
        pooler = FAMILIES[family].pooler and config.get(POOLER, True)
        shape = without_head(shape, _pooler(shape.hidden_size) if pooler else ())
    return with_outside(shape)


def is_headless(config: Config) -> bool:
    """Whether a checkpoint says that it is of a model without a head, as embedding models are. Where embedding and head
    are one, nothing of a decoder's is missing for that."""
    family, names = str(config.get("model_type")), config.get("architectures")
    if family not in FAMILIES or not isinstance(names, list | tuple) or len(names) != 1:
        return False
    called = str(names[0]).removeprefix("Secateur").lower()
    base = "".join(BASES.get(family, family).split("_")).replace("-", "") + "model"
    return called.replace("_", "") == base and (is_encoder(config) or not config.get("tie_word_embeddings", True))


def corrected(config: Config, names: Collection[str]) -> dict[str, Any]:
    """What has to be said otherwise of a checkpoint that claims to have no head, by the names of its parameters: that
    it has one all the same, or that it has no pooler."""
    family = FAMILIES[str(config["model_type"])]
    if any(tensor.name in names for tensor in head_of(family.anatomy(_Entries(config), BYTES["float32"]))):
        return {"architectures": None}
    if family.pooler and not any(name.endswith("pooler.dense.weight") for name in names):
        return {POOLER: False}
    return {}


def _pooler(hidden: int) -> tuple[Tensor, ...]:
    return Tensor("pooler.dense.weight", (hidden, hidden)), Tensor("pooler.dense.bias", (hidden,))


class _Entries(dict[str, Any]):
    """A configuration of which a missing entry is told by name."""

    def __missing__(self, name: str) -> Any:
        raise SecateurError(f"{self.get('model_type')}: the configuration has no {name}")


def own_dtype(config: Config) -> str:
    """The dtype that a checkpoint says its weights are in; float32 where it says none that is known."""
    named = str(config.get("dtype") or config.get("torch_dtype") or "").removeprefix("torch.")
    return named if named in BYTES else "float32"


def saved_dtype(wanted: str, config: Config) -> str:
    """The dtype that weights are counted and written in: the one that is `wanted`, or for "auto" the checkpoint's."""
    return own_dtype(config) if wanted == "auto" else wanted


def _instead(config: Config) -> str:
    """What would work for a model that has another one inside, as those that also see or hear."""
    inner = config.get("text_config") or config.get("llm_config") or config.get("language_config")
    if not isinstance(inner, Mapping):
        return ""
    kind = inner.get("model_type")
    if kind in FAMILIES:
        return f"its language model is of family '{kind}', which is known: save that part as a model of its own. All "
    return f"it holds a language model of family '{kind}', which is unknown too; "


def check_sizes(config: Config, family: str) -> None:
    """Raises SecateurError for sizes that no model has, or that do not fit each other; defaults may be missing."""
    sizes = {name: config.get(name) for name in SIZES if config.get(name) is not None}
    for name, value in sizes.items():
        least = 0 if name == "sliding_window" else 1
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise SecateurError(f"{family}: {name} is {value!r} in the configuration; it has to be a whole number")
    hidden = sizes.get("hidden_size", sizes.get("n_embd", sizes.get("dim")))
    heads = sizes.get("num_attention_heads", sizes.get("n_head", sizes.get("n_heads")))
    groups = sizes.get("num_key_value_heads", heads)
    if heads is None or hidden is None or groups is None:
        return
    if heads % groups:
        raise SecateurError(
            f"{family}: num_attention_heads is {heads} and num_key_value_heads {groups} in the configuration; each "
            "key-value head serves a whole number of heads"
        )
    if not sizes.get("head_dim") and hidden % heads:
        raise SecateurError(
            f"{family}: {heads} heads do not divide the hidden size of {hidden}, and the configuration has no head_dim"
        )


SIZES = (
    *("hidden_size", "n_embd", "num_hidden_layers", "n_layer", "num_attention_heads", "n_head", "num_key_value_heads"),
    *("head_dim", "intermediate_size", "ffn_dim", "n_inner", "vocab_size", "max_position_embeddings", "n_positions"),
    *("sliding_window", "type_vocab_size", "word_embed_proj_dim", "dim", "hidden_dim", "n_heads", "n_layers"),
)
"""Entries of configurations that are sizes."""


FAMILIES: dict[str, Family] = {
    "llama": Family(llama),
    "mistral": Family(llama_like),
    "qwen2": Family(qwen2),
    "qwen3": Family(qwen3),
    "gemma2": Family(gemma2),
    "gemma3_text": Family(gemma3),
    "phi3": Family(phi3),
    "olmo2": Family(olmo2),
    "smollm3": Family(llama),
    "granite": Family(llama),
    "gemma": Family(gemma),
    "olmo3": Family(olmo2),
    "exaone4": Family(exaone4),
    "ministral": Family(llama),
    "ernie4_5": Family(ernie),
    "seed_oss": Family(seed_oss),
    "hunyuan_v1_dense": Family(hunyuan),
    "glm": Family(glm),
    "glm4": Family(glm4),
    "arcee": Family(arcee),
    "nemotron": Family(nemotron),
    "starcoder2": Family(starcoder2),
    "stablelm": Family(stablelm),
    "opt": Family(opt),
    "gpt2": Family(gpt2),
    "gpt_neox": Family(gpt_neox),
    "bert": Family(bert, encoder=True, unused=("bert.pooler.", "cls.seq_relationship."), pooler=True),
    "roberta": Family(roberta, encoder=True, unused=("roberta.pooler.",), pads_first=True, pooler=True),
    "xlm-roberta": Family(roberta, encoder=True, unused=("roberta.pooler.",), pads_first=True, pooler=True),
    "camembert": Family(roberta, encoder=True, unused=("roberta.pooler.",), pads_first=True, pooler=True),
    "distilbert": Family(distilbert, encoder=True),
}


def is_encoder(config: Config) -> bool:
    """Whether a configuration is of a family that predicts masked tokens."""
    family = config.get("model_type")
    return isinstance(family, str) and family in FAMILIES and FAMILIES[family].encoder

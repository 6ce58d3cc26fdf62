"""The anatomy of each known family, from its Hugging Face configuration.

To add a family, write a function `(config, bytes per parameter) -> Anatomy` in the manner of those imported below and
enter it in `FAMILIES` under its `model_type`; `tests/fitness/test_families.py` then compares it with a tiny random
model of that family.
Configurations are the dictionaries of `PreTrainedConfig.to_dict()`, in which transformers has filled in the defaults.
"""

from collections.abc import Callable, Mapping
from typing import Any

from .anatomy import Anatomy
from .bert_like import bert, roberta
from .errors import SecateurError, suggest
from .gpt_like import gpt2, gpt_neox, opt
from .llama_like import gemma2, gemma3, llama, llama_like, olmo2, phi3, qwen2, qwen3

Config = Mapping[str, Any]
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


def anatomy(config: Config, dtype: str = "float32") -> Anatomy:
    """Returns the anatomy of the model that `config` describes.

    Raises:
        SecateurError: the family is unknown, or the configuration uses something its anatomy does not cover.
    """
    family = str(config.get("model_type"))
    if config.get("per_layer_config") or family.startswith("secateur_"):
        raise SecateurError("this checkpoint already has per-layer sizes; start from the dense model it was made from")
    if family not in FAMILIES:
        raise SecateurError(
            f"unknown model family '{family}'; {suggest(family, FAMILIES)}. "
            f"To add it, describe its modules in secateur/space/families.py (known: {', '.join(sorted(FAMILIES))})"
        )
    if dtype not in BYTES:
        raise SecateurError(f"unknown dtype '{dtype}'; {suggest(dtype, BYTES)}")
    return FAMILIES[family](config, BYTES[dtype])


FAMILIES: dict[str, Callable[[Config, int], Anatomy]] = {
    "llama": llama,
    "mistral": llama_like,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "gemma2": gemma2,
    "gemma3_text": gemma3,
    "phi3": phi3,
    "olmo2": olmo2,
    "smollm3": llama,
    "granite": llama,
    "opt": opt,
    "gpt2": gpt2,
    "gpt_neox": gpt_neox,
    "bert": bert,
    "roberta": roberta,
}
ENCODERS = ("bert", "roberta")
"""Families that predict masked tokens."""

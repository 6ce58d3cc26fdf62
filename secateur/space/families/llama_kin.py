"""The anatomy of families that differ from llama's in names, biases, norms, or the gate of the MLP."""

from collections.abc import Mapping
from typing import Any

from ..anatomy import Anatomy
from ..errors import SecateurError
from .llama import llama_like

Config = Mapping[str, Any]


def gemma(config: Config, size: int) -> Anatomy:
    """Gemma (2024, arXiv 2403.08295): its embeddings are scaled by the width of the stream, which therefore stays."""
    return llama_like(config, size, attention_bias=bool(config.get("attention_bias")), hidden_orders=())


def ernie(config: Config, size: int) -> Anatomy:
    """Ernie 4.5, its dense models (Baidu 2025)."""
    bias = bool(config.get("use_bias"))
    return llama_like(config, size, attention_bias=bias, mlp_bias=bias)


def seed_oss(config: Config, size: int) -> Anatomy:
    """Seed-OSS (ByteDance 2025)."""
    return llama_like(
        config,
        size,
        attention_bias=bool(config.get("attention_bias")),
        output_bias=bool(config.get("attention_out_bias")),
        mlp_bias=bool(config.get("mlp_bias")),
    )


def exaone4(config: Config, size: int) -> Anatomy:
    """EXAONE 4.0 (LG AI Research 2025, arXiv 2507.11407): norms after each branch, and on heads."""
    return llama_like(config, size, norms="post", head_norms="head")


def hunyuan(config: Config, size: int) -> Anatomy:
    """Hunyuan, its dense models (Tencent 2025): norms on heads after the rotation."""
    return llama_like(config, size, attention_bias=bool(config.get("attention_bias")), head_norms="hunyuan")


def glm(config: Config, size: int) -> Anatomy:
    """GLM-4 of 2024 (arXiv 2406.12793): gate and up projection are one."""
    bias = bool(config.get("attention_bias"))
    return llama_like(config, size, attention_bias=bias, output_bias=False, fused=("mlp",))


def glm4(config: Config, size: int) -> Anatomy:
    """GLM-4 of 2025 (0414): the same with norms before and after each branch."""
    bias = bool(config.get("attention_bias"))
    return llama_like(config, size, attention_bias=bias, output_bias=False, norms="glm", fused=("mlp",))


def arcee(config: Config, size: int) -> Anatomy:
    """AFM-4.5B (Arcee 2025): no gate."""
    bias, mlp_bias = bool(config.get("attention_bias")), bool(config.get("mlp_bias"))
    return llama_like(config, size, attention_bias=bias, mlp_bias=mlp_bias, mlp_names=("up_proj", "down_proj"))


def nemotron(config: Config, size: int) -> Anatomy:
    """Nemotron-4 and Minitron (NVIDIA 2024, arXiv 2402.16819 and 2407.14679): layer norms, no gate."""
    bias, mlp_bias = bool(config.get("attention_bias")), bool(config.get("mlp_bias"))
    names = ("up_proj", "down_proj")
    return llama_like(config, size, attention_bias=bias, mlp_bias=mlp_bias, norm_bias=True, mlp_names=names)


def starcoder2(config: Config, size: int) -> Anatomy:
    """StarCoder 2 (Lozhkov et al. 2024, arXiv 2402.19173): layer norms, biases, no gate."""
    bias = bool(config.get("use_bias"))
    return llama_like(config, size, attention_bias=bias, mlp_bias=bias, norm_bias=True, mlp_names=("c_fc", "c_proj"))


def stablelm(config: Config, size: int) -> Anatomy:
    """StableLM 2 (Bellagente et al. 2024, arXiv 2402.17834): layer norms."""
    for name in ("use_parallel_residual", "qk_layernorm"):
        if config.get(name):
            raise SecateurError(f"stablelm with {name} is not covered; use a model without it")
    return llama_like(
        config,
        size,
        attention_bias=bool(config.get("use_qkv_bias")),
        output_bias=False,
        norm_bias=True,
        derived_heads=True,
    )

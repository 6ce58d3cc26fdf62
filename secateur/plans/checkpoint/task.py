"""What a model is for, as transformers and the hub call it."""

from typing import NamedTuple

from ...space.anatomy import Anatomy


class Task(NamedTuple):
    """`auto`: the class that loads a model; `pipeline`: the hub's name for what it does."""

    auto: str
    pipeline: str


def task_of(anatomy: Anatomy) -> Task:
    """Of a model: predicting tokens, masked tokens, or making embeddings."""
    if anatomy.headless:
        return Task("AutoModel", "feature-extraction")
    if anatomy.causal:
        return Task("AutoModelForCausalLM", "text-generation")
    return Task("AutoModelForMaskedLM", "fill-mask")

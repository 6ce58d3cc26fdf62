"""How far a subnet's embedding of a text is from the dense model's: one minus the cosine of the angle between them."""

import torch

from .rows import EmbeddingScore


def cosine_distance(embedding: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
    """Of embeddings (hidden,); a scalar in [0, 2]."""
    return 1 - torch.nn.functional.cosine_similarity(embedding.double(), dense.double(), dim=0)


EMBEDDING = EmbeddingScore(cosine_distance)

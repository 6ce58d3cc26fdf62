"""The dense model's perplexity on the packaged texts, by the protocol of the project's reference figures.

QuAC 25.988, SOTU 21.886, XSum 27.376: SmolLM2-135M-Instruct (Q4_1, dequantised), 60 windows of 512 tokens.
"""

import math

import torch

from benchmarks.setup import MODEL, console, table_of
from secateur.fitness.model.checkpoint import load_model, load_tokenizer
from secateur.fitness.scores.cross_entropy import cross_entropy
from secateur.fitness.sources import documents
from secateur.fitness.text import windows_after_a_third

REFERENCE = {"quac": 25.988, "sotu": 21.886, "xsum": 27.376}


@torch.inference_mode()
def perplexity(model: torch.nn.Module, tokenizer: object, name: str, windows: int, length: int) -> float:
    """Of the first `windows` windows, each scored from its second token."""
    total = 0.0
    for ids in windows_after_a_third(documents(f"package:{name}"), tokenizer, windows, length):
        total += float(cross_entropy(model(ids).logits[0, :-1].float(), ids[0, 1:]).sum())
    return math.exp(total / windows / (length - 1))


def main() -> None:
    model, tokenizer = load_model(MODEL), load_tokenizer(MODEL)
    table = table_of(
        "Dense perplexity, 60 windows of 512",
        ("text", "here", "reference"),
    )
    for name in REFERENCE:
        table.add_row(name, f"{perplexity(model, tokenizer, name, 60, 512):.3f}", f"{REFERENCE[name]:.3f}")
    console.print(table)


if __name__ == "__main__":
    main()

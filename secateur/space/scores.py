"""What subnets can be scored on, by name; how each is computed stands in the module that its entry names."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .anatomy import Anatomy


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of a score before it is loaded. All are minimised.

    Attributes:
        where: "module:object" in `fitness/scores`, relative to it where it begins with a dot.
        about: what it says, for users.
        nats: it is counted in nats per token.
        distance: it is one to the dense model, so that it is 0 for that.
        slopes: how it changes around a subnet can be told from one pass backwards, and candidates can be trained on it.
        stream: it compares with the dense model's own head or stream, so that residual streams have to have one width
            and weights may not be trained.
        headless: it says something of a model that predicts no tokens.
    """

    where: str
    about: str
    nats: bool = False
    distance: bool = False
    slopes: bool = False
    stream: bool = False
    headless: bool = False


SCORES: dict[str, Entry] = {
    "kl": Entry(
        ".kl:KL",
        "KL to the dense model over its top tokens and one bucket for all others; never above the full KL",
        nats=True,
        distance=True,
        slopes=True,
    ),
    "kl_full": Entry(
        ".kl_full:KL_FULL",
        "KL to the dense model over the whole vocabulary",
        nats=True,
        distance=True,
        stream=True,
    ),
    "cross_entropy": Entry(
        ".cross_entropy:CROSS_ENTROPY",
        "negative log-likelihood of the next token; its exponential is the perplexity",
        nats=True,
        slopes=True,
    ),
    "hidden_error": Entry(
        ".hidden_error:HIDDEN_ERROR",
        "squared error of the last hidden state relative to the dense one",
        distance=True,
        stream=True,
        headless=True,
    ),
    "embedding": Entry(
        ".embedding:EMBEDDING",
        "one minus the cosine similarity of pooled embeddings of a text with the dense model's",
        distance=True,
        stream=True,
        headless=True,
    ),
}
HELD_OUT_SCORES = ("kl", "cross_entropy")
"""What every plan is scored on on held-out text, whatever was searched by; plans are compared by the first where not
all have the one that was."""
HEADLESS_SCORES = ("embedding", "hidden_error")
"""The same for a model without a head."""


def always_scored(anatomy: Anatomy) -> tuple[str, str]:
    """What every plan of a model is scored on on held-out text."""
    return HEADLESS_SCORES if anatomy.headless else HELD_OUT_SCORES


def keeps_hidden(anatomy: Anatomy, scores: Iterable[str]) -> bool:
    """Whether the dense model's last hidden states are looked at: all that there is without a head."""
    return anatomy.headless or any(SCORES[name].stream for name in scores if name in SCORES)


EXPONENTIALS: Mapping[str, str] = {"perplexity": "cross_entropy"}
"""Objectives that are the exponential of a score's mean."""

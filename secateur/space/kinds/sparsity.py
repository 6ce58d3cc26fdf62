"""The share of zeros in linears, or how many of every few inputs are none."""

import re
from typing import ClassVar, Literal

from pydantic import Field

from ..errors import SecateurError
from ..gene import Feature
from ..treatments import STEPS, Sparsity
from .linears import LinearKind, LinearSettings
from .settings import Levels

EITHER_WAY = 8
"""Levels to either side, where a text does not say how many."""


class SparsitySettings(LinearSettings):
    """The share of zeros in linears, or how many of every few inputs are none."""

    kind: Literal["sparsity"] = "sparsity"
    levels: Levels = Field(default=(), examples=[[0.4, 0.5, 0.6], ["2:4", 0.5], "0.5 step 1.5%"])
    """Shares of zeros, and patterns such as "2:4"; or a text, "0.5 step 1.5%": half of the weights, and up to 8 levels
    to either side that are apart by as many weights in every gene, 1.5 % of those of the largest."""
    texts: ClassVar[bool] = True
    multiple_of: Literal[1] | None = None
    """Says nothing; recipes of before may have it."""

    def features(self) -> frozenset[Feature]:
        return frozenset({"zeros"})

    @classmethod
    def example(cls) -> str:
        """A list of levels, for messages."""
        return "[0.4, 0.5, 0.6] or ['2:4']"


def equal_weights(text: str, size: int, largest: int) -> list[Sparsity]:
    """Levels around a share of zeros that are apart by as many weights in every gene, as in EvoPress (Sieberling et al.
    2024, arXiv 2410.14649, sec. 4): whatever two genes a level is moved between, as many weights are left.

    Shares are multiples of 1/200, and zeros whole numbers of each row's weights, so that this holds up to rounding.

    Args:
        text: the share in the middle, and the step in shares of the largest gene; "0.5 step 1.5%".
        size: weights of a gene.
        largest: those of the largest.

    Raises:
        SecateurError: it cannot be read, or leaves the gene nothing but the middle.
    """
    match = re.fullmatch(r"([0-9.]{1,20}%?) step ([0-9.]{1,20}%?)(?: ([0-9]{1,3}) levels)?", text.strip())
    if match is None:
        raise SecateurError(f"sparsity: cannot read levels '{text[:40]}'; write a list, or '0.5 step 1.5%'")
    middle = Sparsity.parse(match[1]).steps
    if not Sparsity.parse(match[2]):
        raise SecateurError(f"sparsity: levels '{text[:40]}' are no step apart; write one of {1 / STEPS} or more")
    step, count = Sparsity.parse(match[2]).steps * largest / size, int(match[3] or EITHER_WAY)
    found = [round(middle + number * step) for number in range(-count, count + 1)]
    levels = [Sparsity(steps=steps) for steps in dict.fromkeys(found) if 0 <= steps < STEPS]
    if len(levels) < 2:
        raise SecateurError(
            f"sparsity: levels '{text[:40]}' are too far apart for a gene of {size:,} weights, where the largest has "
            f"{largest:,}; write a smaller step"
        )
    return levels


SPARSITY = LinearKind("sparsity", SparsitySettings, "zeros", Sparsity.parse, equal_weights)

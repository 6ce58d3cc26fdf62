"""The share of zeros in linears, or how many of every few inputs are none."""

from typing import Literal

from pydantic import Field

from ..gene import Feature
from ..treatments import Sparsity
from .linears import LinearKind, LinearSettings
from .settings import Levels


class SparsitySettings(LinearSettings):
    """The share of zeros in linears, or how many of every few inputs are none."""

    kind: Literal["sparsity"] = "sparsity"
    levels: Levels = Field(default=(), examples=[[0.4, 0.5, 0.6], ["2:4", 0.5]])
    """Shares of zeros, and patterns such as "2:4"."""
    multiple_of: Literal[1] | None = None
    """Says nothing; recipes of before may have it."""

    def features(self) -> frozenset[Feature]:
        return frozenset({"zeros"})

    @classmethod
    def example(cls) -> str:
        """A list of levels, for messages."""
        return "[0.4, 0.5, 0.6] or ['2:4']"


SPARSITY = LinearKind("sparsity", SparsitySettings, "zeros", Sparsity.parse)

"""The type that the weights of linears are stored in."""

from typing import ClassVar, Literal

from pydantic import Field

from ..bits import OR_OTHER, Bits
from ..gene import Feature
from .linears import LinearKind, LinearSettings
from .settings import Levels


class BitsSettings(LinearSettings):
    """The type that the weights of linears are stored in, of llama.cpp's."""

    kind: Literal["bits"] = "bits"
    levels: Levels = Field(default=(), examples=[["Q8_0", "Q5_K", "Q3_K"], ["Q4_K or other"]])
    """Types, from Q8_0 down to IQ2_S; "Q4_K or other": rows that are no whole blocks of it take the type that llama.cpp
    takes for them, which may be larger."""
    texts: ClassVar[bool] = False

    def features(self) -> frozenset[Feature]:
        return frozenset({"bits"})

    @classmethod
    def example(cls) -> str:
        """A list of levels, for messages."""
        return "[Q8_0, Q5_0, Q4_0]"


BITS = LinearKind(
    "bits",
    BitsSettings,
    "bits",
    Bits.read,
    otherwise=f"write '{OR_OTHER.strip()}' after the type for what llama.cpp takes there, ",
)

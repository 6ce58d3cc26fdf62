"""The type that the weights of linears, of the embedding or of the head are stored in."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from ..anatomy import Anatomy
from ..bits import OR_OTHER, Bits
from ..both import Both
from ..errors import SecateurError
from ..gene import Feature
from ..grids import Grid
from .linears import LinearKind, LinearSettings, Site
from .settings import Levels

GRIDS = ("int", "fp")
"""How the names of those begin that are none of llama.cpp's."""


def read(value: float | int | str) -> Bits | Grid | Both:
    """A type of llama.cpp's, a grid of integers, or one with zeros besides.

    Raises:
        ValueError: it is none of them.
    """
    text = str(value).strip().lower()
    if "+" in text:
        return Both.read(value)
    return Grid.read(value) if text.startswith(GRIDS) else Bits.read(value)


class BitsSettings(LinearSettings):
    """The type that weights are stored in: one of llama.cpp's, or a grid of integers."""

    kind: Literal["bits"] = "bits"
    levels: Levels = Field(
        default=(), examples=[["Q8_0", "Q5_K", "Q3_K"], ["Q4_K or other"], ["int8", "int4-g128", "int3-g64-sym"]]
    )
    """Types, from Q8_0 down to IQ2_S; "Q4_K or other": rows that are no whole blocks of it take the type that llama.cpp
    takes for them, which may be larger. Or integers of 8 to 2 bits, with a scale and zero point for every 128 weights
    (`int4-g128`), zero points that need be no integers (`int4-g64-half`), a scale alone (`int4-g128-sym`), or one of
    each row (`int8`); or eight-bit floats (`fp8`). Zeros besides: `0.5+int4-g128`, `2:4+int8-sym`."""
    of: Literal["layers", "embedding", "head"] = "layers"
    """Of the layers' linears; of the embedding, which may be the head as well; or of a head of its own."""
    texts: ClassVar[bool] = False

    @model_validator(mode="after")
    def _of_one(self) -> "BitsSettings":
        if self.of != "layers" and (self.layers != "all" or self.per != "linear"):
            raise ValueError(f"the {self.of} is one matrix: it takes no 'layers' and no 'per'")
        return self

    def features(self) -> frozenset[Feature]:
        return frozenset({"bits"})

    @classmethod
    def example(cls) -> str:
        """A list of levels, for messages."""
        return "[Q8_0, Q5_0, Q4_0]"

    def sites(self, anatomy: Anatomy) -> tuple[Site, ...]:
        """What has one level together.

        Raises:
            SecateurError: a head that is the embedding; see `sites_of` for more.
        """
        if self.of == "layers":
            return LinearSettings.sites(self, anatomy)
        if self.of == "head" and anatomy.tied:
            raise SecateurError("bits: the head of this model is its embedding; write of: embedding")
        if self.of == "head" and anatomy.headless:
            raise SecateurError("bits: this model has no head; leave of: head out")
        name = anatomy.embedding if self.of == "embedding" else anatomy.head
        return ((self.of, (anatomy.places_outside[name.removesuffix(".weight")],)),)


BITS = LinearKind(
    "bits",
    BitsSettings,
    "bits",
    read,
    otherwise=f"write '{OR_OTHER.strip()}' after a type of llama.cpp's for what that takes there, or another group; ",
)

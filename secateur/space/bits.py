"""Types that the weights of a linear are stored in, with the exact bytes of each: llama.cpp's, from 8 bits down.

Sizes are those of ggml (`ggml_get_type_traits`; `gguf.GGML_QUANT_SIZES`): a row is a whole number of blocks, and all
blocks of a type are of one size. What llama.cpp makes of a row that is none (`tensor_type_fallback` in its
`llama-quant.cpp`) is here as well: it falls to a type of smaller blocks, which may be larger.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from .errors import suggest

BITS_OF_ALL = 16
"""What shares are told of: a weight in half precision."""


@dataclass(frozen=True, slots=True)
class Stored:
    """How a type stores weights.

    Attributes:
        number: by which GGUF files know it.
        block: weights of a block; rows are whole blocks.
        bytes: of a block.
        otherwise: the type that llama.cpp takes for rows that are no whole blocks; empty: half precision.
        needs_importance: it cannot be made without an importance matrix.
    """

    number: int
    block: int
    bytes: int
    otherwise: str = ""
    needs_importance: bool = False

    @property
    def bits(self) -> float:
        """A weight."""
        return 8 * self.bytes / self.block


TYPES: Mapping[str, Stored] = {
    "F16": Stored(1, 1, 2),
    "Q8_0": Stored(8, 32, 34),
    "Q6_K": Stored(14, 256, 210, "Q8_0"),
    "Q5_1": Stored(7, 32, 24),
    "Q5_K": Stored(13, 256, 176, "Q5_1"),
    "Q5_0": Stored(6, 32, 22),
    "Q4_1": Stored(3, 32, 20),
    "Q4_K": Stored(12, 256, 144, "Q5_0"),
    "Q4_0": Stored(2, 32, 18),
    "IQ4_NL": Stored(20, 32, 18),
    "IQ4_XS": Stored(23, 256, 136, "IQ4_NL"),
    "Q3_K": Stored(11, 256, 110, "Q4_0"),
    "IQ3_S": Stored(21, 256, 110, "IQ4_NL"),
    "IQ3_XXS": Stored(18, 256, 98, "IQ4_NL"),
    "Q2_K": Stored(10, 256, 84, "Q4_0"),
    "IQ2_S": Stored(22, 256, 82, "IQ4_NL", needs_importance=True),
}
"""From large to small. Half precision is there as what others fall to."""
SIMPLE = ("Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0")
"""Those that can be made without llama.cpp's own library."""


@dataclass(frozen=True, slots=True)
class Bits:
    """A linear whose weights are stored in a type.

    Attributes:
        kind: the type, of `TYPES`.
        falling: rows that are no whole blocks are stored in the type that llama.cpp takes for them.
    """

    kind: str
    falling: bool = False

    @classmethod
    def read(cls, value: float | int | str) -> "Bits":
        """Reads "Q4_K", or "Q4_K or other" where rows may fall to another type; in any case of letters.

        Raises:
            ValueError: there is no such type.
        """
        text = str(value).strip()
        falling = text.lower().endswith(OR_OTHER)
        kind = text[: -len(OR_OTHER)].upper() if falling else text.upper()
        if kind not in TYPES:
            raise ValueError(f"no type; {suggest(kind, tuple(TYPES))}")
        return cls(kind, falling)

    @property
    def name(self) -> str:
        """In `TREATMENTS`."""
        return "bits"

    @property
    def stored(self) -> Stored:
        """How."""
        return TYPES[self.kind]

    @property
    def share(self) -> float:
        """Of the bits of half precision that are gone."""
        return 1 - self.stored.bits / BITS_OF_ALL

    @property
    def multiple(self) -> int:
        """Of what a linear's inputs have to be."""
        return 1 if self.falling else self.stored.block

    def at(self, inputs: int) -> "Bits":
        """The type that rows of so many inputs are stored in."""
        if not self.falling or self.stored.block == 1:
            return Bits(self.kind)
        if inputs % self.stored.block == 0:
            return Bits(self.kind)
        return Bits(self.stored.otherwise or "F16", falling=True).at(inputs)

    def parameters(self, outputs: int, inputs: int) -> int:
        """All are there."""
        return outputs * inputs

    def zeros(self, outputs: int, inputs: int) -> int:
        """None are made."""
        return 0

    def bytes(self, outputs: int, inputs: int, width: int) -> int:
        """Of the blocks of all rows, as GGUF files have them.

        Raises:
            ValueError: rows are no whole blocks.
        """
        own = self.at(inputs).stored
        if inputs % own.block:
            raise ValueError(f"{inputs} inputs are no whole blocks of {self}")
        return outputs * (inputs // own.block) * own.bytes

    def to_json(self) -> str:
        """With the treatment's name."""
        return str(self)

    def __str__(self) -> str:
        return f"{self.name}:{self.kind}{OR_OTHER if self.falling else ''}"

    def __bool__(self) -> bool:
        return True


OR_OTHER = " or other"
"""Ends the text of a level that may fall to another type."""

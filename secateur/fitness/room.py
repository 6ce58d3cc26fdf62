"""How much may be held while a model is evaluated."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes.

    Attributes:
        hidden: of hidden states, where the model is.
        host: of hidden states on the host of an accelerator.
        assembled: of weights that candidates are made of, and of planes and repairs they are made from.
    """

    hidden: int = 2**29
    host: int = 0
    assembled: int = 2**30

    def stays(self, blocks: int) -> bool:
        """Whether a candidate may stay applied as a whole, of which all blocks take as many bytes, beside a cache."""
        return self.assembled >= 2 * blocks


ROOM = Room()
"""Where nobody has said how much memory there is."""

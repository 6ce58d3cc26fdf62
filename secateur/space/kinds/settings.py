"""What the sections `genes` of a recipe have in common, and what else makes genes."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from ..errors import SecateurError
from ..gene import Feature
from ..settings import Positive, Settings

Setting = int | float | str
"""A level as a recipe says it."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a recipe says of all genes together.

    Attributes:
        keep_first_attention: layer 0 keeps some attention, and the first layer of each sort where sorts alternate.
        hidden: how the residual stream is narrowed.
        multiple: channels have to be multiples of that, for the tool that is aimed at.
        together: all layers have to have one width, for the tool that is aimed at.
    """

    keep_first_attention: bool = True
    hidden: str = "pca"
    multiple: int = 1
    together: bool = False


class GeneSettings(Settings):
    """Genes of one kind."""

    kind: str
    """What they decide."""
    layers: str | tuple[int, ...] = Field(default="all", examples=["1-28", "0,3,10-12", [0, 3]])
    """Over which layers they are: `all`, ranges, or a list."""

    def features(self) -> frozenset[Feature]:
        """What its genes can do, as far as the settings say."""
        return frozenset()


def _readable(value: object) -> object:
    """One message for what is no list of levels; a union of types would give one for each of its members."""

    def one(level: object) -> Setting:
        if isinstance(level, bool) or not isinstance(level, int | float | str):
            shown = level if level is None or isinstance(level, bool) else f"that is a {type(level).__name__}"
            raise ValueError(f"cannot read level {shown}; write counts, shares, or one list of them per layer")
        if len(str(level)) > 40 or (isinstance(level, float) and not math.isfinite(level)):
            raise ValueError(f"cannot read level {str(level)[:40]}; write a count or a share")
        return level

    if isinstance(value, str):
        return value
    if not isinstance(value, list | tuple):
        raise ValueError("write a list of levels, or a text such as 'step 128'")
    return tuple(tuple(map(one, level)) if isinstance(level, list | tuple) else one(level) for level in value)


Levels = Annotated[str | tuple[Setting | tuple[Setting, ...], ...], BeforeValidator(_readable)]
"""Levels of all layers, in one text or list; or one list for each of them."""


class WidthSettings(GeneSettings):
    """Genes that decide how much of a dimension is kept."""

    levels: Levels = Field(default=(), examples=[[1.0, 0.75, 0.5, 0], "step 128", "5 levels to 0.25"])
    """What is kept: counts, shares, 0 for dropped, or a text; one list for all layers or one for each."""
    multiple_of: Positive | None = None
    """What kept shares are rounded to; null: channels to 64, or the next divisor of it that the dimension allows."""
    per: Literal["linear", "model"] = "linear"
    """`model`: one width for all layers."""

    def features(self) -> frozenset[Feature]:
        return frozenset({"widths"} if self.levels else ())


class DroppableSettings(WidthSettings):
    """The same of what may be dropped; without `levels` it is kept or dropped."""

    @model_validator(mode="after")
    def _levels_fit(self) -> "DroppableSettings":
        if self.multiple_of not in (None, 1) and not self.levels:
            raise ValueError(f"'multiple_of' belongs to widths, not to {self.kind} without 'levels' of width")
        if self.per == "model" and not self.levels:
            raise ValueError(f"per: model is one width for all layers: give 'levels' to {self.kind}")
        check_ascending(self.layers, self.levels)
        return self

    def features(self) -> frozenset[Feature]:
        return WidthSettings.features(self) | {"drops"}


def check_ascending(layers: str | Sequence[int], levels: str | Sequence[object]) -> None:
    """Raises ValueError where lists of levels, one for each layer, stand beside layers that are not in order."""
    if not isinstance(levels, str) and any(isinstance(level, tuple) for level in levels):
        numbers = [int(n) for n in re.findall(r"\d+", str(layers))]
        if any(second <= first for first, second in pairwise(numbers)):
            raise ValueError("with one list of levels per layer, write 'layers' in ascending order, each once")


def parse_layers(text: str | Sequence[int], count: int) -> tuple[int, ...]:
    """Reads "all", "1-28", "0,3,10-12" or a list of indices.

    Raises:
        SecateurError: it cannot be read, or names a layer that the model does not have.
    """
    if text == "all":
        return tuple(range(count))
    layers: list[int] = []
    for part in str(text).split(",") if isinstance(text, str) else map(str, text):
        match = re.fullmatch(r"\s*([0-9]+)\s*(?:-\s*([0-9]+)\s*)?", part)
        if match is None:
            raise SecateurError(f"layers: cannot read '{part[:80]}'; write 'all', '1-28' or '0,3,10-12'")
        first, last = match[1], match[2] or match[1]
        for layer, missing in ((first, first), (last, str(count))):
            # Compared before a list of that length is made, or a number of that many digits.
            if len(layer.lstrip("0")) > len(str(count)) or int(layer) >= count:
                raise SecateurError(f"layers: there is no layer {missing[:20]}; the model has layers 0 to {count - 1}")
        if int(last) < int(first):
            raise SecateurError(f"layers: '{part.strip()}' goes backwards; write the lower layer first")
        layers.extend(range(int(first), int(last) + 1))
    if not layers:
        raise SecateurError("layers: empty; write 'all', '1-28' or '0,3,10-12'")
    return tuple(sorted(set(layers)))

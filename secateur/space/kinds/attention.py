"""How many KV groups an attention keeps, with the query heads of each; none: it is dropped."""

from typing import Literal

from pydantic import model_validator

from ..gene import Feature
from .settings import WidthSettings, check_ascending
from .sublayer import SublayerKind


class AttentionSettings(WidthSettings):
    """KV groups kept in each of `layers`, as in `WidthSettings`; without `levels` attention is kept or dropped."""

    kind: Literal["attention"] = "attention"

    @model_validator(mode="after")
    def _levels_fit(self) -> "AttentionSettings":
        check_optional(self)
        return self

    def features(self) -> frozenset[Feature]:
        return WidthSettings.features(self) | {"drops"}


def check_optional(settings: WidthSettings) -> None:
    """Raises ValueError for settings of levels where a sublayer is kept or dropped."""
    if settings.multiple_of not in (None, 1) and not settings.levels:
        raise ValueError(f"'multiple_of' belongs to widths, not to {settings.kind} without 'levels' of width")
    if settings.per == "model" and not settings.levels:
        raise ValueError(f"per: model is one width for all layers: give 'levels' to {settings.kind}")
    check_ascending(settings.layers, settings.levels)


ATTENTION = SublayerKind(
    name="attention",
    dimension="groups",
    branch="attention",
    unit="KV groups (query heads go with their group; kind 'queries' is for heads within a group)",
    field="attention",
    full=lambda block: block.kv_heads,
    settings=AttentionSettings,
    attends=True,
)

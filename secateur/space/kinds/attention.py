"""How many KV groups an attention keeps, with the query heads of each; none: it is dropped."""

from typing import Literal

from .settings import DroppableSettings
from .sublayer import SublayerKind


class AttentionSettings(DroppableSettings):
    """KV groups kept in each of `layers`, as in `WidthSettings`; without `levels` attention is kept or dropped."""

    kind: Literal["attention"] = "attention"


ATTENTION = SublayerKind(
    name="attention",
    dimension="groups",
    unit="KV groups (query heads go with their group; kind 'queries' is for heads within a group)",
    settings=AttentionSettings,
    attends=True,
)

"""How many KV groups an attention keeps, with the query heads of each; none: it is dropped."""

from typing import Literal

from .settings import DroppableSettings
from .sublayer import SublayerKind


class AttentionSettings(DroppableSettings):
    """How many KV groups of attention are kept; without `levels` it is kept or dropped as a whole."""

    kind: Literal["attention"] = "attention"


ATTENTION = SublayerKind(
    name="attention",
    dimension="groups",
    unit="KV groups (query heads go with their group; kind 'queries' is for heads within a group)",
    settings=AttentionSettings,
    attends=True,
)

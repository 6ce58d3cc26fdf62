"""How many channels an MLP keeps; none: it is dropped."""

from typing import Literal

from .settings import DroppableSettings
from .sublayer import SublayerKind


class MlpSettings(DroppableSettings):
    """Channels kept in each of `layers`, as in `WidthSettings`; without `levels` the MLP is kept or dropped."""

    kind: Literal["mlp"] = "mlp"


MLP = SublayerKind(
    name="mlp",
    dimension="channels",
    unit="channels",
    settings=MlpSettings,
    rounded=True,
)

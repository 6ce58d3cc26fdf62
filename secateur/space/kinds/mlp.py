"""How many channels an MLP keeps; none: it is dropped."""

from typing import Literal

from .settings import DroppableSettings
from .sublayer import SublayerKind


class MlpSettings(DroppableSettings):
    """How many channels of the MLP are kept; without `levels` it is kept or dropped as a whole."""

    kind: Literal["mlp"] = "mlp"


MLP = SublayerKind(
    name="mlp",
    dimension="channels",
    unit="channels",
    settings=MlpSettings,
    rounded=True,
)

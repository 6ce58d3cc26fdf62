"""How many channels an MLP keeps; none: it is dropped."""

from typing import Literal

from pydantic import model_validator

from ..gene import Feature
from .attention import check_optional
from .settings import WidthSettings
from .sublayer import SublayerKind


class MlpSettings(WidthSettings):
    """Channels kept in each of `layers`, as in `WidthSettings`; without `levels` the MLP is kept or dropped."""

    kind: Literal["mlp"] = "mlp"

    @model_validator(mode="after")
    def _levels_fit(self) -> "MlpSettings":
        check_optional(self)
        return self

    def features(self) -> frozenset[Feature]:
        return WidthSettings.features(self) | {"drops"}


MLP = SublayerKind(
    name="mlp",
    dimension="channels",
    branch="mlp",
    unit="channels",
    field="mlp",
    full=lambda block: block.channels,
    settings=MlpSettings,
    rounded=True,
)

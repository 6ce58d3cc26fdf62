"""How many query heads are kept in each KV group."""

from typing import Literal

from pydantic import Field, model_validator

from .settings import Levels, WidthSettings, check_ascending
from .sublayer import SublayerKind


class QueriesSettings(WidthSettings):
    """How many query heads of each KV group are kept, never none."""

    kind: Literal["queries"] = "queries"
    levels: Levels = Field(default=(), examples=[[3, 2, 1], [1.0, 0.5]])
    """What is kept: counts or shares; one list for all layers or one for each."""

    @model_validator(mode="after")
    def _levels_fit(self) -> "QueriesSettings":
        if not self.levels:
            raise ValueError("queries genes need 'levels', such as [1.0, 0.75, 0.5]")
        check_ascending(self.layers, self.levels)
        return self


QUERIES = SublayerKind(
    name="queries",
    dimension="queries",
    unit="query heads per KV group (the same number is kept in every group)",
    settings=QueriesSettings,
    droppable=False,
)

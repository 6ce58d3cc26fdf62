"""The layers of a plan: what is kept of each dimension of a block, and what is done to its linears."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from ..space.anatomy import HIDDEN, Anatomy, Block
from ..space.errors import SecateurError
from ..space.state import BlockState, dense_state, outside_of, settled
from ..space.treatments import Sparsity, treatment

NAMED = {"groups": "attention", "queries": "queries", "channels": "mlp"}
"""Dimensions of which a layer of a plan has a field, and its name."""
UNITS = {"groups": "KV groups", "queries": "query heads in each KV group", "channels": "MLP channels"}


def unit(dimension: str) -> str:
    """What is counted along a dimension, for people; others are called by their own name."""
    return UNITS.get(dimension, dimension)


class Value(BaseModel):
    """A part of a plan file: frozen, without keys that nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Kept(Value):
    """How much is kept: `kept` of `of`; 0 is dropped. `indices` are the units of the dense model that are kept, in the
    order in which the smaller model has them; absent where nothing or all is kept, or the stream is rotated."""

    kept: int = Field(ge=0)
    of: int = Field(ge=1)
    indices: tuple[int, ...] | None = None


class Layer(Value):
    """One layer of the dense model.

    `removed`: no sublayer is kept. `attention`: KV groups; `queries`: query heads in each of them, absent where
    all are kept, with `indices` over all heads of the dense model; `mlp`: channels; `others`: what is kept of
    dimensions that have no name of their own here, where it is not all. `sparsity`: share of zeros, or "N:M", of each
    linear that is kept and not dense, by its name inside the layer; `treated`: what else is done to linears."""

    index: int = Field(ge=0)
    removed: bool
    attention: Kept | None = None
    queries: Kept | None = None
    mlp: Kept | None = None
    others: dict[str, Kept] = Field(default_factory=dict)
    sparsity: dict[str, float | str] = Field(default_factory=dict)
    treated: dict[str, str] = Field(default_factory=dict)

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what is empty and was not in plans of before, whose readers would not know it."""
        values: dict[str, Any] = dump(self)
        return {name: value for name, value in values.items() if value or name not in ("others", "treated")}

    @model_validator(mode="after")
    def _said_once(self) -> "Layer":
        if twice := sorted(self.sparsity.keys() & self.treated.keys()):
            raise ValueError(f"'{twice[0]}' has both sparsity and another treatment")
        if named := sorted(self.others.keys() & {*NAMED, HIDDEN}):
            raise ValueError(f"others: '{named[0]}' has a field of its own")
        return self

    @property
    def kept(self) -> dict[str, Kept]:
        """What is kept, by dimension, as far as it is said."""
        own = {dimension: getattr(self, name) for dimension, name in NAMED.items()}
        return {**{dimension: kept for dimension, kept in own.items() if kept is not None}, **self.others}

    @property
    def levels(self) -> dict[str, float | str]:
        """What is done to linears, by their names."""
        return {**self.sparsity, **self.treated}


def state_of(layer: Layer, block: Block) -> BlockState:
    """A layer of a plan at full residual width; raises SecateurError where it does not fit the block."""
    where = f"plan, layer {layer.index}"
    names = [linear.name for linear in block.linears]
    unknown = sorted(set(layer.levels) - set(names))
    if unknown:
        raise SecateurError(f"{where}: no linear '{unknown[0]}'; linears: {', '.join(names)}")
    for sublayer in block.sublayers:
        if sublayer.dimensions[0] in NAMED and sublayer.dimensions[0] not in layer.kept:
            raise SecateurError(f"{where}: says nothing of its {sublayer.name}")
    for dimension, part in layer.kept.items():
        name, full = NAMED.get(dimension, dimension), block.dimensions.get(dimension)
        if full is None:
            raise SecateurError(f"{where}: {name} keeps {part.kept}, but the model has none there")
        if part.of != full or part.kept > full or (name == "queries" and not part.kept):
            raise SecateurError(f"{where}: {name} keeps {part.kept} of {part.of}, but the model has {full}")
    kept = {dimension: part.kept for dimension, part in layer.kept.items()}
    levels = {name: treatment(level) for name, level in layer.levels.items()}
    return settled(block, dense_state(block).with_kept(**kept).with_treated(levels))


Orders = Mapping[str, Any]
"""Importance orders as the journal has them: by dimension those of each block, and "hidden"."""


def layers(anatomy: Anatomy, states: Sequence[BlockState], orders: Orders | None) -> tuple[Layer, ...]:
    """The layers of a plan that makes `states` of the blocks."""
    return tuple(
        Layer(
            index=block.index,
            removed=state.removed,
            **_kept_of(block, state, orders),
            **_levels_of(block, state),
        )
        for block, state in zip(anatomy.blocks, states, strict=True)
    )


def outside_levels(anatomy: Anatomy, states: Sequence[BlockState]) -> dict[str, str]:
    """What is done to embedding and head, by their full names."""
    return {name: str(level) for name, level in outside_of(anatomy.blocks, states).treated}


def _levels_of(block: Block, state: BlockState) -> dict[str, Any]:
    """What is done to the linears of a block, as fields of its layer."""
    levels = {linear.name: state.treated[linear.name] for linear in block.linears if linear.name in state.treated}
    zeros = {name: level.to_json() for name, level in levels.items() if isinstance(level, Sparsity)}
    return {"sparsity": zeros, "treated": {name: str(level) for name, level in levels.items() if name not in zeros}}


def _kept_of(block: Block, state: BlockState, orders: Orders | None) -> dict[str, Any]:
    """What a block keeps of its dimensions, as fields of its layer."""
    fields: dict[str, Any] = {"others": {}}
    for sublayer in block.sublayers:
        for number, dimension in enumerate(sublayer.dimensions):
            count, full = state.kept[dimension], block.dimensions[dimension]
            if not number:
                kept = _kept(count, full, orders[dimension][block.index] if orders else None)
            elif 0 < count < full:
                kept = _inner(sublayer.dimensions[: number + 1], block, state, orders)
            else:
                continue  # all of each unit of the dimension before it, or of none
            if dimension in NAMED:
                fields[NAMED[dimension]] = kept
            elif count < full:
                fields["others"][dimension] = kept
    return fields


def residual(anatomy: Anatomy, states: Sequence[BlockState], orders: Orders | None) -> Kept | None:
    """The residual width of a plan; None where all of it is kept."""
    kept, hidden = states[0].hidden, anatomy.hidden_size
    return None if kept == hidden else _kept(kept, hidden, orders["hidden"] if orders else None)


def _kept(kept: int, of: int, order: list[int] | None) -> Kept:
    indices = tuple(order[:kept]) if order is not None and 0 < kept < of else None
    return Kept(kept=kept, of=of, indices=indices)


def _inner(dimensions: tuple[str, ...], block: Block, state: BlockState, orders: Orders | None) -> Kept:
    """Units of the last dimension in each unit of those before it, with indices over all of them in the dense model."""
    kept, full = state.kept[dimensions[-1]], block.dimensions[dimensions[-1]]
    if orders is None:
        return Kept(kept=kept, of=full)
    units = orders[dimensions[0]][block.index][: state.kept[dimensions[0]]]
    for dimension in dimensions[1:]:
        count, order = block.dimensions[dimension], np.array(orders[dimension][block.index])
        rows = order.reshape(-1, count)[units, : state.kept[dimension]]
        units = (np.array(units)[:, None] * count + rows).reshape(-1)
    return Kept(kept=kept, of=full, indices=tuple(int(unit) for unit in units))

"""The neutral plan: what is kept and removed in each layer of the dense model, for any tool to read.

The JSON Schema in `plan.schema.json` is generated from these classes (`python -m secateur.plans.plan`); a test
compares. Layer indices are those of the dense model. `version` changes when a field changes its meaning or goes away.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..files import read_json, write_text
from ..space.anatomy import HIDDEN, Anatomy, Block
from ..space.costs import COSTS, NONE_ADDED, block_costs, total
from ..space.errors import SecateurError, suggest
from ..space.state import BlockState, dense_state, settled
from ..space.treatments import Sparsity, treatment

NAMED = {"groups": "attention", "queries": "queries", "channels": "mlp"}
"""Dimensions of which a layer of a plan has a field, and its name."""
UNITS = {"groups": "KV groups", "queries": "query heads in each KV group", "channels": "MLP channels"}
"""What is counted along a dimension, for people; others are called by their own name."""
SCHEMA_FILE = Path(__file__).with_name("plan.schema.json")


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _known_cost(name: str) -> str:
    if name not in COSTS:
        raise ValueError(f"no cost is called so; {suggest(name[:80], COSTS)}")
    return name


CostName = Annotated[str, AfterValidator(_known_cost)]
CostValue = Annotated[int, Field(ge=0, le=2**62)]


class Kept(_Value):
    """How much is kept: `kept` of `of`; 0 is dropped. `indices` are the units of the dense model that are kept, in the
    order in which the smaller model has them; absent where nothing or all is kept, or the stream is rotated."""

    kept: int = Field(ge=0)
    of: int = Field(ge=1)
    indices: tuple[int, ...] | None = None


class Layer(_Value):
    """One layer of the dense model.

    `removed`: neither sublayer is kept. `attention`: KV groups; `queries`: query heads in each of them, absent where
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

    @property
    def kept(self) -> dict[str, Kept]:
        """What is kept, by dimension, as far as it is said."""
        own = {dimension: getattr(self, name) for dimension, name in NAMED.items()}
        return {**{dimension: kept for dimension, kept in own.items() if kept is not None}, **self.others}

    @property
    def levels(self) -> dict[str, float | str]:
        """What is done to linears, by their names."""
        return {**self.sparsity, **self.treated}


class WidthIdentity(_Value):
    """How narrower sublayers were made: importance `order`, `repair` of what is left, order of the residual width."""

    order: str
    repair: str | None
    hidden: str | None


class ModelIdentity(_Value):
    """Which dense model the plan is for; `digest` names its weights, and is empty where nobody has read them."""

    path: str
    family: str
    digest: str
    dtype: str
    layers: int


class TextIdentity(_Value):
    """Which text was scored on; `digest` names its tokens, `prefix` are those that every sequence begins with."""

    source: str
    digest: str
    sequences: int
    length: int
    prefix: tuple[int, ...] = ()


class Score(_Value):
    """Mean over sequences with its standard error; lower is better."""

    mean: float
    standard_error: float
    sequences: int


class MeasuredLatency(_Value):
    """A request timed end to end on the smaller model, in turns with the dense one.

    Nanoseconds of a prefill of `prompt` tokens in each of `batch` sequences and of one decoded token, and the ratio to
    dense with half its 95 % interval, by "prefill", "decode" and "latency" (all of a request of `tokens` tokens)."""

    device: str
    batch: int
    prompt: int
    tokens: int
    prefill: int
    decode: int
    ratios: dict[str, tuple[float, float]]


class Plan(_Value):
    """A compression plan. `hidden`: residual width, absent where all is kept; `scores` by text and score, those of the
    baselines and the dense model in `compared`, by name. Latencies in `costs` are from a table, in nanoseconds;
    `latency` is measured, where it was, and `latency_estimate` says that the table is no measurement. `training`: what
    the weights beside the plan have been trained on, and how; absent where they have not. A plan that was read from
    another tool's file has no scores, texts, genome or recipe."""

    format: Literal["secateur-plan"] = "secateur-plan"
    version: Literal[1] = 1
    name: str
    model: ModelIdentity
    pruner: str | None
    widths: WidthIdentity | None = None
    hidden: Kept | None = None
    layers: tuple[Layer, ...]
    costs: dict[CostName, CostValue]
    dense_costs: dict[CostName, CostValue]
    latency: MeasuredLatency | None = None
    latency_estimate: bool = False
    budgets: dict[CostName, CostValue]
    scores: dict[str, dict[str, Score]]
    compared: dict[str, dict[str, dict[str, Score]]] = Field(default_factory=dict)
    texts: dict[str, TextIdentity]
    genome: dict[str, float | int | str]
    seed: int
    recipe_digest: str
    recipe: dict[str, Any]
    training: str | None = None

    @model_validator(mode="after")
    def _costs_compare(self) -> "Plan":
        if missing := sorted(self.costs.keys() - self.dense_costs.keys()):
            raise ValueError(f"dense_costs: has no '{missing[0]}', which is among the costs")
        return self

    def states(self, anatomy: Anatomy) -> tuple[BlockState, ...]:
        """What becomes of each block; raises SecateurError when the plan does not fit the model."""
        if len(self.layers) != len(anatomy.blocks):
            raise SecateurError(f"the plan has {len(self.layers)} layers, the model {len(anatomy.blocks)}")
        hidden = self.hidden.kept if self.hidden else anatomy.hidden_size
        if self.hidden and (not anatomy.hidden_orders or not 0 < hidden <= anatomy.hidden_size):
            raise SecateurError(f"plan: a residual width of {hidden} does not fit a model of {anatomy.hidden_size}")
        states = []
        for layer, block in zip(self.layers, anatomy.blocks, strict=True):
            if layer.index != block.index:
                raise SecateurError(f"plan: layer {layer.index} stands where layer {block.index} belongs")
            states.append(_state(layer, block).with_kept(**{HIDDEN: hidden}))
        return tuple(states)

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Those that some layer says something of."""
        return tuple(dict.fromkeys(dimension for layer in self.layers for dimension in layer.kept))

    def to_text(self) -> str:
        """The JSON of the plan file."""
        return json.dumps(self.model_dump(mode="json"), indent=1) + "\n"

    def write(self, path: Path) -> None:
        """Writes the plan file, whole or not at all; raises StorageError where that is not possible."""
        write_text(path, self.to_text())


def _state(layer: Layer, block: Block) -> BlockState:
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


def bare_plan(name: str, path: str, dtype: str, anatomy: Anatomy, states: Sequence[BlockState], context: int) -> Plan:
    """The plan of a profile that no run of ours has found: without scores, texts, budgets or a recipe.

    `path` and `dtype` are those of the dense model, whose weights have not been read; MACs are at `context` tokens.
    """
    dense = tuple(dense_state(block) for block in anatomy.blocks)
    return Plan(
        name=name,
        model=ModelIdentity(path=path, family=anatomy.family, digest="", dtype=dtype, layers=len(anatomy.blocks)),
        pruner=None,
        hidden=residual(anatomy, states, None),
        layers=layers(anatomy, states, None),
        costs=_costs(anatomy, states, context),
        dense_costs=_costs(anatomy, dense, context),
        budgets={},
        scores={},
        texts={},
        genome={},
        seed=0,
        recipe_digest="",
        recipe={},
    )


def _costs(anatomy: Anatomy, states: Sequence[BlockState], context: int) -> dict[str, int]:
    width = anatomy.bytes_per_parameter
    pairs = zip(anatomy.blocks, states, strict=True)
    parts = [block_costs(block, state, context, NONE_ADDED, width=width) for block, state in pairs]
    return total(anatomy, parts, states[0].hidden, NONE_ADDED).to_json()


def read_plan(path: Path) -> Plan:
    """Reads a plan file; raises SecateurError when it is missing or not a plan."""
    values = read_json(path, f"plan {path}")
    try:
        return Plan.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SecateurError(f"plan {path}: {where[:200]}: {first['msg']}") from error


def schema() -> dict[str, Any]:
    """The JSON Schema of a plan."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Plan.model_json_schema()}


if __name__ == "__main__":
    SCHEMA_FILE.write_text(json.dumps(schema(), indent=1) + "\n")

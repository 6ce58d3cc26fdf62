"""The neutral plan: what is kept and removed in each layer of the dense model, for any tool to read.

The JSON Schema in `plan.schema.json` is generated from these classes (`python -m secateur.plans.plan`); a test
compares. Layer indices are those of the dense model. `version` changes when a field changes its meaning or goes away.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from ..files import read_json, write_text
from ..space.anatomy import HIDDEN, Anatomy
from ..space.costs import COSTS, NONE_ADDED, block_costs, total
from ..space.errors import SecateurError, suggest
from ..space.state import BlockState, dense_state, settled
from ..space.treatments import treatment
from .html import html_table
from .layers import Kept, Layer, Value, layers, outside_levels, residual, state_of, unit

SCHEMA_FILE = Path(__file__).with_name("plan.schema.json")


def _known_cost(name: str) -> str:
    if name not in COSTS:
        raise ValueError(f"no cost is called so; {suggest(name[:80], COSTS)}")
    return name


CostName = Annotated[str, AfterValidator(_known_cost)]
CostValue = Annotated[int, Field(ge=0, le=2**62)]


class WidthIdentity(Value):
    """How narrower sublayers were made: importance `order`, `repair` of what is left, order of the residual width."""

    order: str
    repair: str | None
    hidden: str | None


class ModelIdentity(Value):
    """Which dense model the plan is for; `digest` names its weights, and is empty where nobody has read them."""

    path: str
    family: str
    digest: str
    dtype: str
    layers: int


class TextIdentity(Value):
    """Which text was scored on; `digest` names its tokens, `prefix` are those that every sequence begins with, `parts`
    the names of the texts that the sequences of a mixture are of."""

    source: str
    digest: str
    sequences: int
    length: int
    prefix: tuple[int, ...] = ()
    parts: tuple[str, ...] = ()


class Score(Value):
    """Mean over sequences with its standard error; lower is better."""

    mean: float
    standard_error: float
    sequences: int


class MeasuredLatency(Value):
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


class Plan(Value):
    """A compression plan. `hidden`: residual width, absent where all is kept; `scores` by text and score, those of the
    baselines and the dense model in `compared`, by name. Latencies in `costs` are from a table, in nanoseconds;
    `outside`: what is done to embedding and head, by their full names, where something is; `importance` names the
    importance matrix that bits were made with, where a file was given; `base`: the plan that this
    one was searched on top of, all of which is in `layers` too, while `genome` is what came on top.
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
    outside: dict[str, str] = Field(default_factory=dict)
    costs: dict[CostName, CostValue]
    dense_costs: dict[CostName, CostValue]
    latency: MeasuredLatency | None = None
    latency_estimate: bool = False
    budgets: dict[CostName, CostValue]
    scores: dict[str, dict[str, Score]]
    compared: dict[str, dict[str, dict[str, Score]]] = Field(default_factory=dict)
    texts: dict[str, TextIdentity]
    genome: dict[str, float | int | str]
    importance: str = ""
    base: "Plan | None" = None
    seed: int
    recipe_digest: str
    recipe: dict[str, Any]
    training: str | None = None

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what is empty and was not in plans of before, whose readers would not know it."""
        values: dict[str, Any] = dump(self)
        return {name: value for name, value in values.items() if value or name not in ("outside", "importance", "base")}

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
            levels = {matrix.name: treatment(self.outside.get(matrix.name, 0)) for matrix in block.outside}
            state = state_of(layer, block).with_kept(**{HIDDEN: hidden}).with_treated(levels)
            states.append(settled(block, state))
        known = [matrix.name for block in anatomy.blocks for matrix in block.outside]
        if unknown := sorted(self.outside.keys() - known):
            raise SecateurError(f"plan: outside: no matrix '{unknown[0]}'; there are {' and '.join(known)}")
        return tuple(states)

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Those that some layer says something of."""
        return tuple(dict.fromkeys(dimension for layer in self.layers for dimension in layer.kept))

    def table(self) -> tuple[list[str], list[list[str]]]:
        """(headings, a row of cells for each layer): what it keeps of each dimension, and the levels of its linears;
        then those of what is outside."""
        rows = []
        for layer in self.layers:
            kept = (layer.kept.get(dimension) for dimension in self.dimensions)
            cells = ["" if one is None else f"{one.kept} of {one.of}" if one.kept else "dropped" for one in kept]
            levels = ", ".join(f"{name} {value}" for name, value in layer.levels.items())
            rows.append([str(layer.index), *cells, levels])
        rows += [[name, *[""] * len(self.dimensions), level] for name, level in self.outside.items()]
        stored = bool(self.outside) or any(layer.treated for layer in self.layers)
        return ["layer", *map(unit, self.dimensions), "levels" if stored else "sparsity"], rows

    def _repr_html_(self) -> str:
        """In a notebook: layer by layer."""
        return html_table(f"{self.name}: {self.model.path}", *self.table())

    def to_text(self) -> str:
        """The JSON of the plan file."""
        return json.dumps(self.model_dump(mode="json"), indent=1) + "\n"

    def write(self, path: Path) -> None:
        """Writes the plan file, whole or not at all; raises StorageError where that is not possible."""
        write_text(path, self.to_text())


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
        outside=outside_levels(anatomy, states),
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

"""What a subnet asks of the tool that is to carry it out, and where it asks for it first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ..space.anatomy import Anatomy, Block
from ..space.state import BlockState
from .plan import Plan

Feature = Literal["layers", "sublayers", "groups", "queries", "channels", "hidden", "shares", "patterns"]
"""Whole layers dropped; attention or MLP alone dropped; KV groups, query heads inside groups, MLP channels, or the
residual width narrowed; linears with a share of zeros, or with an N:M pattern."""
ALL: frozenset[Feature] = frozenset(get_args(Feature))


@dataclass(frozen=True, slots=True)
class Subject:
    """What formats are asked about: a subnet, and the dense model that it is part of.

    Attributes:
        states: what becomes of each block.
        config: of the dense model, defaults filled in.
        path, dtype: where that is, and what its weights are written in.
        pruner: what chose the zeros, where that is known.
        biased: a repair adds biases.
        chosen: which units are kept is known, and not only how many.
        plan: the neutral plan, where there is one.
    """

    anatomy: Anatomy
    states: tuple[BlockState, ...]
    config: Mapping[str, Any]
    path: str = ""
    dtype: str = "float32"
    pruner: str | None = None
    biased: bool = False
    chosen: bool = True
    plan: Plan | None = None

    @classmethod
    def of(cls, plan: Plan, anatomy: Anatomy, config: Mapping[str, Any]) -> "Subject":
        """A plan, as formats read it; raises SecateurError where it does not fit the model."""
        return cls(
            anatomy,
            plan.states(anatomy),
            config,
            plan.model.path,
            plan.model.dtype,
            plan.pruner,
            biased=plan.widths is not None and plan.widths.repair == "bias",
            chosen=bool(plan.recipe),
            plan=plan,
        )

    @property
    def kept(self) -> tuple[int, ...]:
        """Layers of the dense model that are not removed."""
        return tuple(index for index, state in enumerate(self.states) if not state.removed)

    @property
    def removed(self) -> tuple[int, ...]:
        return tuple(index for index, state in enumerate(self.states) if state.removed)


def features(anatomy: Anatomy, states: Sequence[BlockState]) -> dict[Feature, str]:
    """What the plan asks for, with the first place that asks for it in words."""
    found: dict[Feature, str] = {}
    if states[0].hidden < anatomy.hidden_size:
        found["hidden"] = f"the residual stream keeps {states[0].hidden} of {anatomy.hidden_size} channels"
    for block, state in zip(anatomy.blocks, states, strict=True):
        for feature, words in _of_block(block, state):
            found.setdefault(feature, f"layer {block.index} {words}")
    return found


def _of_block(block: Block, state: BlockState) -> list[tuple[Feature, str]]:
    found: list[tuple[Feature, str]] = []
    if state.removed:
        return [("layers", "is dropped whole")]
    if not state.attention or not state.mlp:
        found.append(("sublayers", f"keeps its {'MLP' if state.mlp else 'attention'} alone"))
    if 0 < state.attention < block.kv_heads:
        found.append(("groups", f"keeps {state.attention} of {block.kv_heads} KV groups"))
    if 0 < state.queries < block.queries:
        found.append(("queries", f"keeps {state.queries} of {block.queries} query heads in each KV group"))
    if 0 < state.mlp < block.channels:
        found.append(("channels", f"keeps {state.mlp} of {block.channels} MLP channels"))
    for linear, level in zip(block.linears, state.sparsity, strict=True):
        if level.of:
            found.append(("patterns", f"has {level} zeros in {linear.name}"))
        elif level:
            found.append(("shares", f"has {level.share:.1%} zeros in {linear.name}"))
    return found

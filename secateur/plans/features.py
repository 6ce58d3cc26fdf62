"""What a subnet asks of the tool that is to carry it out, and where it asks for it first."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..space.anatomy import Anatomy, Block
from ..space.state import BlockState, outside_of
from ..space.treatments import Sparsity
from .layers import UNITS, unit
from .plan import Plan

OTHERS = "others"
"""Dimensions and treatments besides those named here."""
ALL = frozenset({"layers", "sublayers", *UNITS, "hidden", "shares", "patterns", OTHERS})
"""What a subnet can ask for: whole layers dropped; sublayers alone dropped; KV groups, query heads inside groups, MLP
channels, or the residual width narrowed; linears with a share of zeros, or with an N:M pattern; and others, each by the
name of its dimension or treatment."""


def carried(feature: str, carries: Collection[str]) -> bool:
    """Whether it is among what is carried."""
    return feature in carries or (OTHERS in carries and feature not in ALL)


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


def features(anatomy: Anatomy, states: Sequence[BlockState]) -> dict[str, str]:
    """What the plan asks for, with the first place that asks for it in words."""
    found: dict[str, str] = {}
    if states[0].hidden < anatomy.hidden_size:
        found["hidden"] = f"the residual stream keeps {states[0].hidden} of {anatomy.hidden_size} channels"
    for block, state in zip(anatomy.blocks, states, strict=True):
        for feature, words in _of_block(block, state):
            found.setdefault(feature, f"layer {block.index} {words}")
    for name, level in outside_of(anatomy.blocks, states).treated:
        found.setdefault(level.name, f"{name} has {level}")
    return found


def _of_block(block: Block, state: BlockState) -> list[tuple[str, str]]:
    if state.removed:
        return [("layers", "is dropped whole")]
    found = []
    kept = [sublayer for sublayer in block.sublayers if state.has(sublayer)]
    if len(kept) < len(block.sublayers):
        words = " and ".join("MLP" if sublayer.name == "mlp" else sublayer.name for sublayer in kept)
        found.append(("sublayers", f"keeps its {words} alone"))
    for sublayer in kept:
        for dimension in sublayer.dimensions:
            count, full = state.kept[dimension], block.dimensions[dimension]
            if count < full:
                found.append((dimension, f"keeps {count} of {full} {unit(dimension)}"))
    for linear in block.linears:
        level = state.treated.get(linear.name)
        if isinstance(level, Sparsity):
            asked = ("patterns", f"has {level}") if level.of else ("shares", f"has {level.share:.1%}")
            found.append((asked[0], f"{asked[1]} zeros in {linear.name}"))
        elif level is not None:
            found.append((level.name, f"has {level} in {linear.name}"))
    return found

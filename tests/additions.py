"""One more of everything that is a table, as somebody would add it: each defined here, and entered by one line."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from secateur.fitness.scores.rows import Rows, RowScore
from secateur.operators.rules.dropping import drop_blocks
from secateur.operators.rules.rule import Rule, Statistics
from secateur.operators.rules.table import RULES
from secateur.operators.sampling import on_budget
from secateur.plans.changes import Changes, dropped
from secateur.plans.features import Subject
from secateur.plans.formats.form import Content, Files, Format, of
from secateur.plans.formats.table import FORMATS
from secateur.search.problem import Problem
from secateur.search.steps import Batch, Steps, best_of
from secateur.search.strategies import table as strategies
from secateur.search.strategy import Strategy
from secateur.space import scores
from secateur.space.anatomy import Anatomy, Block
from secateur.space.families.llama import llama
from secateur.space.families.table import FAMILIES, Family
from secateur.space.gene import Feature, Gene, Place, nearest_level
from secateur.space.genome import Genome
from secateur.space.kinds.settings import GeneSettings, Wishes
from secateur.space.kinds.table import KINDS
from secateur.space.settings import Positive
from secateur.space.space import Space
from secateur.space.state import BlockState


class FirstCome(Strategy):
    """The best of `count` random genomes, each on `sequences` sequences."""

    name: Literal["first-come"] = "first-come"
    sequences: Positive = 2
    count: Positive = 12

    def steps(self, problem: Problem) -> Steps:
        rng = np.random.default_rng(problem.seed)
        best = None
        for _ in range(self.count):
            genome = on_budget(problem.space, rng)
            told = yield Batch((genome,), range(self.sequences), best.genome if best else None)
            best = best_of([*([best] if best else []), *told])
        return best.genome if best else None


def every_other(space: Space, _statistics: Statistics, _rng: np.random.Generator) -> Genome:
    """Drops every other block, from the second on."""
    return drop_blocks(space, range(1, len(space.anatomy.blocks), 2))


class PairSettings(GeneSettings):
    """The MLPs of neighbouring layers keep the same of `shares` of their channels."""

    kind: Literal["pairs"] = "pairs"
    shares: tuple[float, ...] = (0.5,)

    def features(self) -> frozenset[Feature]:
        return frozenset({"widths"})


@dataclass(frozen=True)
class Pairs:
    """How many channels both MLPs of two neighbouring layers keep."""

    name: str = "pairs"
    dimension: str = "channels"
    settings: type[GeneSettings] = PairSettings
    free: bool = False
    everywhere: bool = False
    absorbs: bool = False

    def genes(self, anatomy: Anatomy, asked: GeneSettings, wishes: Wishes) -> tuple[Gene, ...]:
        assert isinstance(asked, PairSettings)
        full = anatomy.blocks[0].channels
        levels = (full, *(int(full * share) for share in asked.shares))
        starts = range(0, len(anatomy.blocks) - 1, 2)
        return tuple(Gene(self, f"{one}-{one + 1}", levels, ((one, -1), (one + 1, -1))) for one in starts)

    def features(self, gene: Gene) -> frozenset[Feature]:
        return frozenset({"widths"})

    def apply(self, gene: Gene, level: int, block: Block, state: BlockState) -> BlockState:
        return replace(state, mlp=min(state.mlp, int(gene.label(level))))

    def places(self, gene: Gene, anatomy: Anatomy) -> frozenset[Place]:
        return frozenset((block, "mlp") for block in gene.blocks)

    def silences(self, gene: Gene, level: int) -> frozenset[Place]:
        return frozenset()

    def removed(self, gene: Gene, level: int) -> float:
        return 1 - gene.counts[level] / gene.counts[0]

    def nearest(self, gene: Gene, states: Sequence[BlockState], anatomy: Anatomy) -> int:
        kept = [states[block].mlp / anatomy.blocks[block].channels for block in gene.blocks]
        return nearest_level(gene, 1 - sum(kept) / len(kept))


def _other_tokens(rows: Rows) -> torch.Tensor:
    assert rows.top is not None
    return (rows.logits.argmax(-1) != rows.top.tokens[:, 0]).float()


OTHER_TOKENS = RowScore(_other_tokens, top=True)
"""The share of positions where another token than the dense model's is most likely."""


def write(subject: Subject) -> Files:
    """The channels of each layer that is kept whole, or nothing of."""
    return {"widths.json": json.dumps({"widths": [state.mlp for state in subject.states]})}


def reads(content: Content) -> bool:
    return "widths" in content.names


def read(content: Content, _: Anatomy) -> Changes:
    changes = dropped(layer for layer, width in enumerate(content.values["widths"]) if not width)
    changes.kept |= {("mlp", layer): int(width) for layer, width in enumerate(content.values["widths"])}
    return changes


def enter() -> None:
    """One line each; `leave` takes them out again."""
    strategies.STRATEGIES["first-come"] = strategies.Entry("tests.additions:FirstCome")
    RULES["every-other"] = Rule(every_other, "drops", good=True)
    KINDS["pairs"] = Pairs()
    scores.SCORES["other_tokens"] = scores.Entry("tests.additions:OTHER_TOKENS", "share of tokens that change")
    FAMILIES["helium"] = Family(llama)
    FORMATS["mlp-widths"] = Format(
        "mlp-widths", "one number a layer", of("layers", "channels"), write, reads=reads, read=read
    )


def leave() -> None:
    """For whoever goes on in the same process."""
    for table, name in (
        (strategies.STRATEGIES, "first-come"),
        (RULES, "every-other"),
        (KINDS, "pairs"),
        (scores.SCORES, "other_tokens"),
        (FAMILIES, "helium"),
        (FORMATS, "mlp-widths"),
    ):
        table.pop(name)


def enter_slowly() -> None:
    """The same, in a process that is to be killed: it evaluates slowly."""
    from secateur.fitness.evaluator import SubnetEvaluator

    enter()
    passed = SubnetEvaluator._losses

    def slower(*arguments: Any) -> Any:
        time.sleep(0.3)
        return passed(*arguments)

    SubnetEvaluator._losses = slower  # type: ignore[method-assign, assignment]

"""One more of everything that is a table, as somebody would add it: each defined here, and entered by one line."""

import json
import time
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from secateur.fitness.scores.rows import Rows, RowScore
from secateur.fitness.scores.teacher import Teacher
from secateur.fitness.subnets.subnet import Subnet
from secateur.fitness.treatments import Ground, Kept, Position, Watch
from secateur.operators.rules.dropping import drop_blocks
from secateur.operators.rules.rule import Rule, Statistics
from secateur.operators.rules.table import RULES
from secateur.operators.sampling import on_budget
from secateur.plans.changes import Changes
from secateur.plans.features import Subject
from secateur.plans.formats.form import Content, Files, Format, of
from secateur.plans.formats.table import FORMATS
from secateur.search.problem import Problem
from secateur.search.steps import Batch, Steps
from secateur.search.strategies import table as strategies
from secateur.search.strategy import Strategy
from secateur.space import question, scores
from secateur.space.anatomy import Anatomy, Block
from secateur.space.evaluation import Evaluation
from secateur.space.families.llama import llama
from secateur.space.families.table import FAMILIES, Family
from secateur.space.gene import Feature, Gene, Place, nearest_level
from secateur.space.genome import Genome
from secateur.space.kinds.linears import LinearKind, LinearSettings
from secateur.space.kinds.settings import GeneSettings, Wishes
from secateur.space.kinds.table import KINDS
from secateur.space.question import QUESTIONS, Record, Status
from secateur.space.settings import Positive
from secateur.space.space import Space
from secateur.space.state import BlockState
from secateur.space.treatments import TREATMENTS, Entry, Treatment


@dataclass(frozen=True)
class Confidence:
    """The mean probability of the likeliest token, by sequence."""

    genome: Genome
    key: str
    sequences: range
    values: tuple[float, ...]
    tokens: int
    seconds: float
    status: Status = "ok"


@dataclass(frozen=True)
class Confident:
    """How sure a subnet is of its predictions."""

    name: str = "confidence"

    def on(self, text: str) -> str:
        return text

    def fits(self, space: Space, score: str) -> bool:
        return space.anatomy.causal

    def charges(self, sequences: range, length: int) -> Mapping[Hashable, int]:
        return dict.fromkeys(sequences, length)

    def within(self, answer: Confidence, sequences: range) -> Confidence:
        start = answer.sequences.start
        values = answer.values[sequences.start - start : sequences.stop - start]
        return replace(answer, sequences=sequences, values=values)

    def joined(self, answers: Sequence[Confidence], genome: Genome, sequences: range) -> Confidence:
        values = tuple(value for answer in answers for value in answer.values)
        tokens, seconds = sum(answer.tokens for answer in answers), sum(answer.seconds for answer in answers)
        return Confidence(genome, answers[0].key, sequences, values, tokens, seconds)

    def failed(self, space: Space, genome: Genome, sequences: range, reason: str) -> Confidence:
        return Confidence(genome, space.key(genome), sequences, (), 0, 0.0, "failed")

    def record(self, answer: Confidence) -> Record:
        content, tokens, seconds = {"values": answer.values}, answer.tokens, answer.seconds
        return Record(answer.genome, answer.key, answer.sequences, content, tokens=tokens, seconds=seconds)

    def read(self, record: Record) -> Confidence:
        values = tuple(float(value) for value in record.content["values"])
        return Confidence(record.genome, record.key, record.sequences, values, record.tokens, record.seconds)


CONFIDENCE = Confident()


class Confidences:
    """Asks the model."""

    def __init__(self, space: Space, subnet: Subnet, teacher: Teacher, score: str) -> None:
        self.space, self.subnet, self.teacher = space, subnet, teacher

    def __call__(self, genomes: Sequence[Genome], sequences: range) -> Iterator[Confidence]:
        ids = self.teacher.text.ids[sequences.start : sequences.stop]
        for genome in genomes:
            started = time.perf_counter()
            with self.subnet:
                self.subnet.apply(self.space.states(genome))
                probabilities = self.teacher.blocks.model(input_ids=ids).logits.softmax(-1).amax(-1)
            values = tuple(probabilities.mean(-1).tolist())
            seconds = time.perf_counter() - started
            yield Confidence(genome, self.space.key(genome), sequences, values, ids.numel(), seconds)


class FirstCome(Strategy):
    """The best of `count` random genomes, each on `sequences` sequences; of equals the one that is surer."""

    name: Literal["first-come"] = "first-come"
    sequences: Positive = 2
    count: Positive = 12

    def steps(self, problem: Problem) -> Steps:
        rng = np.random.default_rng(problem.seed)
        best: Evaluation | None = None
        also = (CONFIDENCE,) if CONFIDENCE.name in problem.questions else ()
        for _ in range(self.count):
            genome = on_budget(problem.space, rng)
            told = yield Batch((genome,), range(self.sequences), best.genome if best else None, also=also)
            found = [one for one in (best, *told) if one is not None and one.status == "ok"]
            best = min(found, key=lambda one: (one.loss, -sum(one.answer(CONFIDENCE).values)), default=None)
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
        full = anatomy.blocks[0].dimensions["channels"]
        levels = (full, *(int(full * share) for share in asked.shares))
        starts = range(0, len(anatomy.blocks) - 1, 2)
        return tuple(Gene(self, f"{one}-{one + 1}", levels, ((one, -1), (one + 1, -1))) for one in starts)

    def features(self, gene: Gene) -> frozenset[Feature]:
        return frozenset({"widths"})

    def apply(self, gene: Gene, level: int, block: Block, state: BlockState) -> BlockState:
        return state.with_kept(channels=min(state.kept["channels"], int(gene.label(level))))

    def places(self, gene: Gene, anatomy: Anatomy) -> frozenset[Place]:
        return frozenset((block, "mlp") for block in gene.blocks)

    def silences(self, gene: Gene, level: int, anatomy: Anatomy) -> frozenset[Place]:
        return frozenset()

    def removed(self, gene: Gene, level: int) -> float:
        return 1 - gene.counts[level] / gene.counts[0]

    def nearest(self, gene: Gene, states: Sequence[BlockState], anatomy: Anatomy) -> int:
        kept = [states[block].kept["channels"] / anatomy.blocks[block].dimensions["channels"] for block in gene.blocks]
        return nearest_level(gene, 1 - sum(kept) / len(kept))


class RoundingSettings(LinearSettings):
    """Linears of which each row has 2^`levels` values."""

    kind: Literal["rounding"] = "rounding"

    def features(self) -> frozenset[Feature]:
        return frozenset({"treatments"})


@dataclass(frozen=True)
class Rounding:
    """Weights rounded to so many bits, with the largest of a row in the model's precision."""

    bits: int
    name: str = "rounding"
    multiple: int = 1

    @classmethod
    def parse(cls, bits: float | int | str) -> "Rounding":
        return cls(int(bits))

    @property
    def share(self) -> float:
        return 1 - self.bits / 16

    def parameters(self, outputs: int, inputs: int) -> int:
        return outputs * inputs

    def at(self, inputs: int) -> "Rounding":
        return self

    def zeros(self, outputs: int, inputs: int) -> int:
        return 0

    def bytes(self, outputs: int, inputs: int, width: int) -> int:
        return outputs * (-(-inputs * self.bits // 8) + width)

    def to_json(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return f"rounding:{self.bits}"

    def __bool__(self) -> bool:
        return True


class Rounded:
    """Rounds to the nearest of 2^bits values of each row."""

    identity = "1"
    from_before = True

    def __init__(self, ground: Ground) -> None:
        self.prepared: set[int] = set()

    def prepare(self, wanted: Mapping[Position, Collection[Treatment]], watch: Watch) -> None:
        self.prepared |= {block for block, _ in wanted}

    def weight(self, place: tuple[int, int], matrix: torch.Tensor, level: Treatment, kept: Kept | None) -> torch.Tensor:
        assert place[0] in self.prepared
        return self.hold(level, matrix, matrix)

    def hold(self, level: Treatment, matrix: torch.Tensor, began: torch.Tensor) -> torch.Tensor:
        assert isinstance(level, Rounding)
        step = matrix.detach().abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / (2 ** (level.bits - 1) - 1)
        # Gradients pass as if nothing was rounded.
        rounded: torch.Tensor = matrix + ((matrix / step).round() * step - matrix).detach()
        return rounded


def _other_tokens(rows: Rows) -> torch.Tensor:
    assert rows.top is not None
    return (rows.logits.argmax(-1) != rows.top.tokens[:, 0]).float()


OTHER_TOKENS = RowScore(_other_tokens, top=True)
"""The share of positions where another token than the dense model's is most likely."""


def write(subject: Subject) -> Files:
    """The channels of each layer that is kept whole, or nothing of."""
    return {"widths.json": json.dumps({"widths": [state.kept["channels"] for state in subject.states]})}


def reads(content: Content) -> bool:
    return "widths" in content.names


def read(content: Content, _: Anatomy) -> Changes:
    widths = {layer: int(width) for layer, width in enumerate(content.values["widths"])}
    kept = {("channels", layer): width for layer, width in widths.items()}
    return Changes(kept, removed={layer for layer, width in widths.items() if not width})


def enter() -> None:
    """One line each; `leave` takes them out again."""
    strategies.STRATEGIES["first-come"] = strategies.Entry("tests.additions:FirstCome")
    RULES["every-other"] = Rule(every_other, "drops", good=True)
    KINDS["pairs"] = Pairs()
    QUESTIONS["confidence"] = question.Entry("tests.additions:CONFIDENCE", "tests.additions:Confidences")
    TREATMENTS["rounding"] = Entry("tests.additions:Rounding.parse", "tests.additions:Rounded")
    KINDS["rounding"] = LinearKind("rounding", RoundingSettings, "treatments", Rounding.parse)
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
        (QUESTIONS, "confidence"),
        (TREATMENTS, "rounding"),
        (KINDS, "rounding"),
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

"""The question that every search asks: what a subnet loses on a text, by itself or after a short training."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from .costs import Costs
from .evaluation import Evaluation, merged
from .genome import Genome
from .question import Chain, Record
from .space import Space

TRAINING_PASSES = 3
"""What a trained token costs, in forward passes: one forward, two backward."""


class _Content(TypedDict):
    """Losses by score, a sequence each; exact costs; the score that search minimises."""

    losses: dict[str, list[float]]
    costs: dict[str, int]
    score: str


_CONTENT = TypeAdapter(_Content)


@dataclass(frozen=True, slots=True)
class Losses:
    """What subnets lose after they were trained in the stages of `trained`; without any, as they are."""

    trained: Chain = ()

    @property
    def name(self) -> str:
        """Of all losses."""
        return "losses"

    def on(self, text: str) -> str:
        """Under which title losses on a text are kept."""
        stages = " + ".join(f"{tokens:,}" for tokens in self.trained)
        return f"{text}, trained on {stages} tokens" if self.trained else text

    def charges(self, sequences: range, length: int) -> Mapping[Hashable, int]:
        """Every sequence once for each training, and every stage of training once."""
        scored: dict[Hashable, int] = {(self.trained, index): length for index in sequences}
        stages = [self.trained[:count] for count in range(1, len(self.trained) + 1)]
        return scored | {("trained", chain): TRAINING_PASSES * chain[-1] for chain in stages}

    def within(self, answer: Evaluation, sequences: range) -> Evaluation:
        """The losses of these sequences, and their share of what the whole took."""
        inside = slice(sequences.start - answer.sequences.start, sequences.stop - answer.sequences.start)
        share = len(sequences) / len(answer.sequences)
        return replace(
            answer,
            sequences=sequences,
            losses={name: values[inside] for name, values in answer.losses.items()},
            tokens=round(answer.tokens * share),
            layer_passes=round(answer.layer_passes * share),
            seconds=answer.seconds * share,
        )

    def joined(self, answers: Sequence[Evaluation], genome: Genome, sequences: range) -> Evaluation:
        """One after the other."""
        return replace(merged(answers), genome=genome, sequences=sequences)

    def failed(self, space: Space, genome: Genome, sequences: range, reason: str) -> Evaluation:
        """With its costs, without losses."""
        return Evaluation(genome, space.key(genome), sequences, {}, space.costs(genome), "failed", reason)

    def record(self, answer: Evaluation) -> Record:
        """With losses, costs and the name of the score."""
        return Record(
            answer.genome,
            answer.key,
            answer.sequences,
            {"losses": answer.losses, "costs": answer.costs.to_json(), "score": answer.score},
            answer.status,
            answer.reason,
            answer.tokens,
            answer.layer_passes,
            answer.seconds,
        )

    def read(self, record: Record) -> Evaluation:
        """Raises ValueError where losses are not one a sequence, or there are none without a failure."""
        content = _CONTENT.validate_python(record.content)
        losses = {name: tuple(column) for name, column in content["losses"].items()}
        if any(len(column) != len(record.sequences) for column in losses.values()):
            raise ValueError("losses")
        if not losses and record.status != "failed":
            raise ValueError("status")
        if losses and not (content["score"] in losses or len(losses) == 1):
            raise ValueError("score")
        return Evaluation(
            genome=record.genome,
            key=record.key,
            sequences=record.sequences,
            losses=losses,
            costs=Costs(**content["costs"]),
            status=record.status,
            reason=record.reason,
            tokens=record.tokens,
            layer_passes=record.layer_passes,
            seconds=record.seconds,
            score=content["score"],
        )


LOSSES = Losses()
"""Of subnets as they are."""

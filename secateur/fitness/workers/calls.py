"""What workers are asked to do, as functions whose last argument is the worker's hand; `partial` gives the others."""

from collections.abc import Sequence
from typing import Any

from ...space.genome import Genome
from ...space.latency import LatencyTable, Measured, Workload
from ...space.question import Chain, Priced, Told
from ...space.tasks import TaskResult
from ..scores.tasks import TaskRun
from ..workplace import unwatched
from .hand import Hand

Layers = Sequence[int]


def ask(
    question: Priced[Told],
    title: str,
    scores: tuple[str, ...],
    genomes: Sequence[Genome],
    sequences: range,
    hand: Hand,
) -> list[Told]:
    """Answers a question on sequences of a text; see `Answers`."""
    return list(hand.answers.to(question, title, scores)(genomes, sequences))


def teach(title: str, scores: tuple[str, ...], sequences: range, hand: Hand) -> None:
    """Has the dense model's answers on sequences of a text in the cache."""
    hand.answers.evaluator(title, scores).teacher.prepare(sequences)


def measure_orders(layers: Layers, hand: Hand) -> None:
    """Has the order of heads and channels of some layers in the cache."""
    if not hand.is_arranged:
        hand.loaded.measure_orders(layers)


def prepare(layers: Layers, hand: Hand) -> None:
    """Has the levels of some layers in the cache, once all orders are."""
    hand.arranged.prepare(hand.space, unwatched, layers)


def open_place(hand: Hand) -> None:
    """Opens a worker's place as far as its papers need."""
    hand.loaded  # noqa: B018


def trained_as(hand: Hand) -> str:
    """What names the weights that trainings begin with."""
    assert hand.answers.trainer is not None
    return hand.answers.trainer.identity


def speed(hand: Hand) -> float:
    """Tokens a second of a dense evaluation."""
    return hand.bench.tokens_per_second()


def latency_table(workload: Workload, threads: int | None, spread: float, seconds: float, hand: Hand) -> LatencyTable:
    """What every shape of the space takes; see `Bench.latency_table`."""
    return hand.bench.latency_table(hand.space, workload, threads, spread, seconds)


def machine(threads: int | None, hand: Hand) -> dict[str, Any]:
    """What identifies the machine that models are timed on."""
    return hand.bench.machine(threads)


def time_whole(genome: Genome, workload: Workload, threads: int | None, repeats: int, hand: Hand) -> Measured:
    """A genome as a model of its own, timed end to end; see `Bench.time_whole`."""
    return hand.bench.time_whole(hand.space, genome, workload, threads, repeats)


def task(genome: Genome, chain: Chain, name: str, include: str | None, how: TaskRun, hand: Hand) -> TaskResult | str:
    """What an lm-eval task says of a genome; see `Answers`."""
    return hand.answers.task_or_why(genome, chain, name, include, how)

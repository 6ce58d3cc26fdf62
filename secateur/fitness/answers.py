"""What answers questions about subnets on a bench: losses, as they are or after a training, and what else there is."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from ..space.evaluation import Evaluation
from ..space.genome import Genome
from ..space.losses import Losses
from ..space.question import QUESTIONS, Chain, Priced, Told
from ..space.space import Space
from ..space.tables import load
from ..space.tasks import TaskResult
from .bench import Bench
from .evaluator import SubnetEvaluator
from .scores.tasks import TaskRun, run_task
from .subnets.subnet import pointed
from .training import Trainer, TrainingError

Asked = Callable[[Sequence[Genome], range], Iterator[Told]]
"""One question on one text: a `search.memo.Asker`."""


class Answers:
    """Answers on the texts of a bench, for genomes of `space`.

    `trainer`: trains genomes, where that is asked for. `trained` is told how many tokens were trained on just now.
    """

    def __init__(
        self,
        bench: Bench,
        space: Space,
        trainer: Trainer | None = None,
        trained: Callable[[int], None] = lambda tokens: None,
    ) -> None:
        self.bench, self.space, self.trainer, self._trained = bench, space, trainer, trained
        self._evaluators: dict[tuple[str, tuple[str, ...]], SubnetEvaluator] = {}

    def evaluator(self, title: str, scores: tuple[str, ...]) -> SubnetEvaluator:
        """Scores on one of the texts; one for each, since it holds the dense model's answers."""
        key = title, scores
        if key not in self._evaluators:
            self._evaluators[key] = self.bench.evaluator(self.space, title, scores)
        return self._evaluators[key]

    def to(self, question: Priced[Told], title: str, scores: tuple[str, ...]) -> Asked[Told]:
        """What answers one question on a text, where search minimises the first of `scores`."""
        evaluator = self.evaluator(title, scores)
        found: Any
        if not isinstance(question, Losses):
            make = load(QUESTIONS[question.name].answered, None)
            found = make(self.space, self.bench.subnet, evaluator.teacher, scores[0])
        elif question.trained:
            found = partial(self._after_training, evaluator, question.trained)
        else:
            found = evaluator
        asked: Asked[Told] = found
        return asked

    def task_or_why(
        self, genome: Genome, chain: Chain, task: str, include: str | None, how: TaskRun
    ) -> TaskResult | str:
        """What an lm-eval task says of a genome, after a training where there is a chain of stages; or why that
        failed."""
        assert self.trainer is not None or not chain, "the recipe says how to train"
        try:
            parameters = self.trainer(genome, chain) if self.trainer is not None and chain else {}
        except TrainingError as error:
            return str(error)
        with self.bench.subnet as subnet:
            subnet.apply(self.space.states(genome))
            with pointed(self.bench.model, parameters):
                return run_task(self.bench.model, self.bench.tokenizer, include, task, how)

    def _after_training(
        self, evaluator: SubnetEvaluator, chain: Chain, genomes: Sequence[Genome], sequences: range
    ) -> Iterator[Evaluation]:
        trainer = self.trainer
        assert trainer is not None, "the recipe says how to train"
        for genome in genomes:
            before = trainer.trained_tokens
            yield evaluator.changed(genome, sequences, lambda one: trainer(one, chain))
            self._trained(trainer.trained_tokens - before)

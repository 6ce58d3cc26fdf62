"""The model of a run with its texts, and what answers a search: the journal where it can, the model where it must."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..fitness.bench import Bench
from ..fitness.cache import cache_folder, digest
from ..fitness.scores.tasks import TaskRequest
from ..fitness.scores.teacher import Teacher
from ..fitness.text import TextRequest
from ..fitness.training import Trainer, Training
from ..fitness.widths.preparation import WidthSettings
from ..fitness.workplace import Workplace
from ..search.memo import Asker, Memo
from ..space.errors import SecateurError
from ..space.evaluation import Evaluation
from ..space.gene import features_of
from ..space.genome import Genome
from ..space.losses import TRAINING_PASSES, Losses
from ..space.question import QUESTIONS, Chain, Priced, Question, Told
from ..space.space import Space
from ..space.tables import load
from .asked.recipe import TRAINING, Recipe
from .asked.settings import TextSettings, TrainingSettings
from .memory import placement_of
from .problem import counting_of
from .record.facts import DEVICE, MODEL, ORDER, PROVENANCE, TEXTS, ZEROS, ZerosFact
from .record.folder import RunFolder
from .record.journal import CALIBRATION, Journal
from .watcher import Watcher


def with_zeros(folder: RunFolder, space: Space, bench: Bench) -> Space:
    """The space with the zeros in its costs that the model has by itself; the journal notes how many.

    Raises:
        SecateurError: a budget cannot be kept with them either.
    """
    zeros = bench.own_zeros() if counting_of(folder) > 1 else None
    if zeros is None:
        return space
    outside = zeros.outside(space.anatomy.hidden_size)
    noted: ZerosFact = {"linears": zeros.linears, "outside": outside}
    folder.journal.note(ZEROS, noted, what=f"model {folder.recipe.model.path}")
    counted = replace(space, zeros=zeros)
    counted.check_budgets()
    return counted


def workplace_of(
    recipe: Recipe, space: Space, training: TextSettings | None = None, at_most: bool = False
) -> Workplace:
    """Which model and texts a recipe means; `training`: the text to train on, by default the recipe's, if it has one.

    `at_most`: of `training` fewer sequences will do where there are no more.
    """
    # What is trained on comes last, so that the other texts are the same with it and without.
    others = (*recipe.held_out, training or recipe.training_text)
    features, widths = features_of(space.genes), None
    if "widths" in features:
        hidden = recipe.widths.hidden if "stream" in features else None
        widths = WidthSettings(recipe.widths.order, recipe.widths.repair, hidden)
    return Workplace(
        recipe.model.path,
        (
            _request(recipe.calibration, CALIBRATION),
            *(_request(text, text.title, at_most and text is training) for text in others if text is not None),
        ),
        recipe.model.dtype,
        recipe.model.saved_dtype,
        recipe.model.device,
        recipe.model.trust_remote_code,
        recipe.seed,
        recipe.pruner if "zeros" in features else None,
        widths,
        tasks_of(recipe),
        placement_of(recipe, space),
    )


def check_same(folder: RunFolder, bench: Bench, training: bool = False) -> None:
    """Raises SecateurError where model, texts or the order of heads and channels are not those of the run.

    `training`: the text that is trained on has to be the run's too.
    """
    journal = folder.journal
    if journal.of(MODEL) != bench.digest:
        raise SecateurError(f"model {folder.recipe.model.path} is not the one the run was made with; put that one back")
    for title, values in (journal.of(TEXTS) or {}).items():
        checked = training or title != TRAINING
        if checked and title in bench.texts and bench.texts[title].digest != values["digest"]:
            raise SecateurError(f"text '{title}' is not the one the run was made with; put that one back")
    if bench.orders and journal.of(ORDER) != digest(bench.kept_orders()):
        raise SecateurError("heads and channels come in another order than when the run was made")


def tasks_of(recipe: Recipe) -> TaskRequest:
    """What the recipe says of lm-eval tasks and functions of the user's own."""
    return TaskRequest(**recipe.tasks.model_dump())


def _request(text: TextSettings, title: str, at_most: bool = False) -> TextRequest:
    return TextRequest(
        title,
        text.source,
        text.field,
        text.split,
        text.sequences,
        text.length,
        text.windows_per_document,
        text.positions,
        at_most,
        text.config,
        text.prefix,
    )


class TextJournal:
    """The answers on one text, kept with what they were made with; each new one is reported as progress.

    `provenance`: of the answers to a question; a run that goes on has to have the same, but for the device, of which it
    says so.
    """

    def __init__(
        self, journal: Journal, text: str, provenance: Callable[[Question[Any]], Mapping[str, Any]], watcher: Watcher
    ) -> None:
        self._journal, self._text, self._provenance, self._watcher = journal, text, provenance, watcher
        self._digests: dict[Question[Any], str] = {}

    def answers(self, question: Question[Told]) -> Iterator[Told]:
        """What is kept; raises SecateurError where it was made with something else."""
        values, about = dict(self._provenance(question)), question.on(self._text)
        self._digests[question] = digest(values)
        noted, device = self._journal.of(PROVENANCE, about), values["device"]
        if noted is not None and noted.get("device") != device:
            before = str(noted.get("device"))
            self._watcher.say(f"goes on on {device}; evaluations on {about} so far are of {before}")
            self._journal.note(DEVICE, before, before)
            values["device"] = before
        self._journal.note(PROVENANCE, {"digest": digest(values), **values}, about)
        self._journal.note(DEVICE, device, device)
        return (answer for _, answer in self._journal.answers(question, self._text))

    def append(self, question: Question[Told], answer: Told) -> None:
        """Keeps one that is new."""
        self._journal.append(self._text, question, self._digests[question], answer)
        self._watcher.advance(answer.tokens)


def memo_of(
    folder: RunFolder, space: Space, bench: Bench, title: str, scores: tuple[str, ...], watcher: Watcher
) -> Memo:
    """Answers batches on one of the texts; those of trained genomes too, where the recipe says how to train."""
    shared, training = bench.provenance(title, scores), folder.recipe.training
    trainer = trainer_of(training, folder.recipe.seed, space, bench) if training is not None else None
    evaluator = bench.evaluator(space, title, scores)

    def provenance(question: Question[Any]) -> Mapping[str, Any]:
        if trainer is None or not isinstance(question, Losses) or not question.trained:
            return shared
        return shared | {"trained": trainer.identity, "stages": question.trained}

    def others(question: Priced[Any]) -> Asker[Any]:
        if isinstance(question, Losses):
            return partial(train, question.trained)
        made: Asker[Any] = load(QUESTIONS[question.name].answered, None)(
            space, bench.subnet, evaluator.teacher, scores[0]
        )
        return made

    def train(chain: Chain, genomes: Sequence[Genome], sequences: range) -> Iterator[Evaluation]:
        assert trainer is not None
        for genome in genomes:
            before = trainer.trained_tokens
            yield evaluator.changed(genome, sequences, lambda one: trainer(one, chain))
            watcher.advance(TRAINING_PASSES * (trainer.trained_tokens - before))

    return Memo(space, evaluator, TextJournal(folder.journal, title, provenance, watcher), others)


def trainer_of(wanted: TrainingSettings, seed: int, space: Space, bench: Bench, folder: Path | None = None) -> Trainer:
    """Trains subnets on the bench's text for that; states are kept in `folder`, by default in the cache."""
    names = Training.__dataclass_fields__.keys() - {"seed"}
    settings = Training(**{name: getattr(wanted, name) for name in names}, seed=seed)
    teacher = Teacher(bench.blocks, bench.texts[TRAINING], bench.prepared_digest, keep_hidden=False)
    identity = digest(bench.provenance(TRAINING, ()), bench.dtype)
    return Trainer(space, bench.subnet, teacher, settings, folder or cache_folder() / "training", identity)

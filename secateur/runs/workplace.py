"""The model of a run with its texts, and what answers a search: the journal where it can, the model where it must."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..fitness.answers import Answers
from ..fitness.bench import Bench
from ..fitness.cache import digest
from ..fitness.memory import Placement
from ..fitness.scores.tasks import TaskRequest
from ..fitness.text import TextRequest
from ..fitness.training import Trainer, Training
from ..fitness.widths.preparation import WidthSettings
from ..fitness.workers import calls
from ..fitness.workers.hand import Papers
from ..fitness.workers.spread import Spread
from ..fitness.workers.team import Team
from ..fitness.workplace import Workplace
from ..search.memo import Asker, Memo
from ..space.errors import SecateurError
from ..space.losses import LOSSES, TRAINING_PASSES, Losses
from ..space.names import PREPARE
from ..space.question import Priced, Question, Told
from ..space.space import Space
from ..space.state import Outside
from .asked.machine import WorkersSettings
from .asked.recipe import Recipe
from .asked.settings import TRAINING, TextSettings
from .asked.training import TrainingSettings
from .memory import placement_of
from .problem import counting_of
from .record.facts import DEVICE, IMPORTANCE, MODEL, ORDER, PROVENANCE, TEXTS, ZEROS, ZerosFact
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
    outside = zeros.outside(Outside(space.anatomy.hidden_size))
    noted: ZerosFact = {"linears": zeros.linears, "outside": outside}
    folder.journal.note(ZEROS, noted, what=f"model {folder.recipe.model.path}")
    counted = replace(space, zeros=zeros)
    counted.check_budgets()
    return counted


def workplace_of(
    recipe: Recipe,
    space: Space,
    training: TextSettings | None = None,
    at_most: bool = False,
    placement: Placement | None = None,
) -> Workplace:
    """Which model and texts a recipe means; `training`: the text to train on, by default the recipe's, if it has one.

    `at_most`: of `training` fewer sequences will do where there are no more. `placement`: of the model, by default that
    for whoever works alone.
    """
    features, widths = space.features, None
    if "widths" in features:
        hidden = recipe.widths.hidden if "stream" in features else None
        widths = WidthSettings(recipe.widths.order, recipe.widths.repair, hidden)
    return replace(
        texts_of(recipe, training, at_most),
        pruner=recipe.pruner if "zeros" in features else None,
        quantizer=recipe.quantizer if "bits" in features else None,
        importance=recipe.importance,
        widths=widths,
        tasks=tasks_of(recipe),
        placement=placement or placement_of(alone(recipe), space),
    )


def texts_of(recipe: Recipe, training: TextSettings | None = None, at_most: bool = False) -> Workplace:
    """The texts that a recipe means, and of its model what they depend on: enough to read them."""
    # What is trained on comes last, so that the other texts are the same with it and without.
    prepare = recipe.prepare and recipe.prepare.model_copy(update={"name": PREPARE})
    others = (prepare, training or recipe.training_text)
    held_out = [replace(_request(text, text.title), seed=recipe.held_out_seed) for text in recipe.held_out]
    return Workplace(
        recipe.model.path,
        (
            _request(recipe.calibration, CALIBRATION),
            *held_out,
            *(_request(text, text.title, at_most and text is training) for text in others if text is not None),
        ),
        recipe.model.dtype,
        recipe.model.saved_dtype,
        recipe.model.device,
        recipe.model.trust_remote_code,
        recipe.seed,
    )


def alone(recipe: Recipe) -> Recipe:
    """A recipe for whoever works without others."""
    return recipe.model_copy(update={"workers": WorkersSettings(count=1)})


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
    given = bench.importances.digest if bench.importances is not None else None
    if given != journal.of(IMPORTANCE):
        raise SecateurError(
            f"importance {folder.recipe.importance} is not the file the run was made with; put that back"
        )
    if bench.orders and journal.of(ORDER) != digest(bench.kept_orders()):
        raise SecateurError("heads and channels come in another order than when the run was made")


def papers_noted(folder: RunFolder, training: bool = False) -> Papers:
    """What a run's workers have to work with, as `check_same` has it."""
    journal = folder.journal
    texts = {title: values["digest"] for title, values in (journal.of(TEXTS) or {}).items()}
    papers = {f"text '{title}'": value for title, value in texts.items() if training or title != TRAINING}
    return papers | {"model": journal.known(MODEL), "order": journal.of(ORDER) or ""}


def tasks_of(recipe: Recipe) -> TaskRequest:
    """What the recipe says of lm-eval tasks and functions of the user's own."""
    return TaskRequest(**recipe.tasks.model_dump())


def _request(text: TextSettings, title: str, at_most: bool = False) -> TextRequest:
    counts = apportioned(text.sequences, [part.weight for part in text.mixture])
    parts = [
        TextRequest(
            part.title,
            part.source,
            part.field,
            part.split,
            count,
            text.length,
            part.windows_per_document or text.windows_per_document,
            config=part.config,
        )
        for part, count in zip(text.mixture, counts, strict=True)
    ]
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
        tuple(zip(parts, counts, strict=True)),
    )


def apportioned(total: int, weights: Sequence[float]) -> list[int]:
    """How many of `total` each weight has, by largest remainders; one at least, at the cost of who has most. Nothing
    where there are no weights."""
    exact = [total * weight / sum(weights) for weight in weights]
    counts = [int(share) for share in exact]
    rest = sorted(range(len(weights)), key=lambda place: (counts[place] - exact[place], place))
    for place in rest[: total - sum(counts)]:
        counts[place] += 1
    while weights and 0 in counts:
        counts[counts.index(max(counts))] -= 1
        counts[counts.index(0)] = 1
    return counts


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
    folder: RunFolder,
    space: Space,
    bench: Bench,
    title: str,
    scores: tuple[str, ...],
    watcher: Watcher,
    team: Team | None = None,
    filed: str = "",
) -> Memo:
    """Answers batches on one of the texts, by `team` if there is one; those of trained genomes too, where the recipe
    says how to train. `filed`: under what answers are kept, by default the text's name."""
    shared, training = bench.provenance(title, scores), folder.recipe.training
    trainer = trainer_of(training, folder.recipe.seed, space, bench) if training is not None else None
    answers = Answers(bench, space, trainer, lambda tokens: watcher.advance(TRAINING_PASSES * tokens))
    identity = trainer.identity if trainer is not None else ""
    if team is not None:
        shared["device"] = team.device
        identity = team.one(calls.trained_as) if trainer is not None else ""

    def provenance(question: Question[Any]) -> Mapping[str, Any]:
        if not identity or not isinstance(question, Losses) or not question.trained:
            return shared
        return shared | {"trained": identity, "stages": question.trained}

    def asker(question: Priced[Any]) -> Asker[Any]:
        if team is not None:
            return Spread(team, space, question, title, scores, bench.texts[title].length)
        return answers.to(question, title, scores)

    return Memo(space, asker(LOSSES), TextJournal(folder.journal, filed or title, provenance, watcher), asker)


def trainer_of(wanted: TrainingSettings, seed: int, space: Space, bench: Bench, folder: Path | None = None) -> Trainer:
    """Trains subnets on the bench's text for that; states are kept in `folder`, by default in the cache."""
    return bench.trainer(space, training_of(wanted, seed), TRAINING, folder)


def training_of(wanted: TrainingSettings, seed: int) -> Training:
    """How subnets are trained, as a recipe says."""
    names = Training.__dataclass_fields__.keys() - {"seed"}
    return Training(**{name: getattr(wanted, name) for name in names}, seed=seed)

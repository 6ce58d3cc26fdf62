"""The composition: what answers a search's batches, from the journal where it can and from the model where it must."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from .fitness.bench import Bench
from .fitness.cache import cache_folder, digest
from .fitness.slopes import SubnetSlopes, has_slopes
from .fitness.teacher import Teacher
from .fitness.training import Trainer, Training
from .progress import Watcher
from .runs.folder import RunFolder
from .runs.journal import CALIBRATION, TextJournal, trained_text
from .runs.recipe import TRAINING
from .runs.settings import TrainingSettings
from .search.loop import TRAINING_PASSES
from .search.memo import Memo, SlopeMemo
from .search.strategy import Chain
from .space.evaluation import Evaluation
from .space.genome import Genome
from .space.slopes import Slopes
from .space.space import Space


class Watched:
    """The journal of one text, with each new row reported as progress."""

    def __init__(self, view: TextJournal, watcher: Watcher) -> None:
        self._view, self._watcher = view, watcher

    def evaluations(self) -> Iterable[Evaluation]:
        return self._view.evaluations()

    def append(self, evaluation: Evaluation) -> None:
        self._view.append(evaluation)
        self._watcher.advance(evaluation.tokens)

    def slopes(self) -> Iterable[Slopes]:
        return self._view.slopes()

    def append_slopes(self, slopes: Slopes) -> None:
        self._view.append_slopes(slopes)
        self._watcher.advance(slopes.tokens)


def memo_of(
    folder: RunFolder, space: Space, bench: Bench, title: str, scores: tuple[str, ...], watcher: Watcher
) -> Memo:
    """Answers batches on one of the texts; those of trained genomes too, where the recipe says how to train."""
    provenance = bench.provenance(title, scores)
    watched = Watched(folder.journal.view(title, provenance, digest(provenance)), watcher)
    evaluator = bench.evaluator(space, title, scores)
    slopes = None
    if title == CALIBRATION and has_slopes(space, scores[0]):
        slopes = SlopeMemo(space, SubnetSlopes(space, bench.subnet, evaluator.teacher, scores[0]), watched)
    if folder.recipe.training is None:
        return Memo(space, evaluator, watched, slopes)
    trainer = trainer_of(folder.recipe.training, folder.recipe.seed, space, bench)
    memos: dict[Chain, Memo] = {}

    def trained(chain: Chain) -> Memo:
        if chain not in memos:
            values = provenance | {"trained": trainer.identity, "stages": chain}
            view = folder.journal.view(trained_text(title, chain), values, digest(values))
            memos[chain] = Memo(space, lambda genomes, used: evaluate(chain, genomes, used), Watched(view, watcher))
        return memos[chain]

    def evaluate(chain: Chain, genomes: Sequence[Genome], sequences: range) -> Iterator[Evaluation]:
        for genome in genomes:
            before = trainer.trained_tokens
            yield evaluator.changed(genome, sequences, lambda one: trainer(one, chain))
            watcher.advance(TRAINING_PASSES * (trainer.trained_tokens - before))

    return Memo(space, evaluator, watched, slopes, trained)


def trainer_of(wanted: TrainingSettings, seed: int, space: Space, bench: Bench, folder: Path | None = None) -> Trainer:
    """Trains subnets on the bench's text for that; states are kept in `folder`, by default in the cache."""
    names = Training.__dataclass_fields__.keys() - {"seed"}
    settings = Training(**{name: getattr(wanted, name) for name in names}, seed=seed)
    teacher = Teacher(bench.blocks, bench.texts[TRAINING], bench.prepared_digest, keep_hidden=False)
    identity = digest(bench.provenance(TRAINING, ()), bench.dtype)
    return Trainer(space, bench.subnet, teacher, settings, folder or cache_folder() / "training", identity)

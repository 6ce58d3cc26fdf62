"""Trains a plan of a run further, in a folder of its own that a killed training goes on from."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError, model_validator

from ...files import read_json, write_text
from ...fitness.bench import Bench
from ...fitness.bits.rows import NEAREST
from ...fitness.bits.treatment import TRAINED
from ...fitness.training import Trainer, TrainingError
from ...plans.checkpoint.hf import export_hf
from ...plans.plan import Score
from ...search.trained import whole
from ...space.base import features_of_states
from ...space.errors import SecateurError
from ...space.evaluation import mean_and_error
from ...space.genome import Genome
from ...space.question import Chain
from ...space.scores import HELD_OUT_SCORES
from ...space.space import Space
from .. import problem, workplace
from ..asked.reading import training_settings
from ..asked.recipe import Recipe
from ..asked.settings import TRAINING, TextSettings
from ..memory import check_whole
from ..record.folder import RunFolder
from ..record.journal import CALIBRATION
from ..report.prediction import predicted_loss
from ..watcher import Watcher
from ..workplace import trainer_of
from .exporting import pick_plan
from .tasks import picked

RECORD = "tune.json"
MOST_STAGES = 10_000
MOST_SEQUENCES = 2048
"""Of text that is trained on, at most, where the recipe names none; more tokens go over it again."""


@dataclass(frozen=True, slots=True)
class Point:
    """What a plan loses after `tokens` of training: for each text each score's mean, nats per token."""

    tokens: int
    losses: dict[str, dict[str, float]]


class _Look(BaseModel):
    tokens: Annotated[int, Field(ge=0, le=2**62)]
    losses: Annotated[dict[str, Annotated[dict[str, float], Field(min_length=1)]], Field(min_length=1)]

    @model_validator(mode="after")
    def _is_first(self) -> "_Look":
        if any(HELD_OUT_SCORES[0] not in scores for scores in self.losses.values()):
            raise ValueError(f"has no {HELD_OUT_SCORES[0]}")
        return self


class _Record(BaseModel):
    """What a folder says of the training in it, besides its settings."""

    text: TextSettings
    text_digest: str
    points: tuple[_Look, ...] = ()


@dataclass(frozen=True, slots=True)
class Tuned:
    """What training has come to; `prediction` is the first score after twice the tokens, by the P^2 law."""

    checkpoint: Path
    points: tuple[Point, ...]
    prediction: float | None


def tune(
    folder: RunFolder,
    pick: str,
    tokens: int,
    every: int,
    out: Path,
    changes: Sequence[str] = (),
    watcher: Watcher | None = None,
) -> Tuned:
    """Trains a plan on `tokens`, in stages of `every`, then writes it as a checkpoint.

    Stages are whole sequences, so that all numbers of tokens are those really trained on; text that has been gone
    through is gone through again. `out` holds settings, points and states; called again with the same settings, what is
    there is not trained again, and more tokens go on from there, in stages of `every` then. `changes`: settings of
    training, such as training.what=full.

    Raises:
        SecateurError: no such plan, settings that do not fit or are not those in `out`, or a text that is too short.
    """
    watcher, recipe, space = watcher or Watcher(), folder.recipe, problem.space_of(folder)
    if space.anatomy.headless:
        raise SecateurError(f"tune: {folder.recipe.model.path} has no head, so that there is no loss to train on")
    genomes = picked(folder, space, [pick])
    if len(genomes) != 1:
        raise SecateurError(f"--pick {pick}: one plan is tuned at a time")
    [(name, genome)] = genomes.items()
    plan, settings = pick_plan(folder, name), training_settings(recipe.training, changes)
    wanted: dict[str, Any] = {
        "run": recipe.digest(),
        "pick": name,
        "genome": list(genome.levels),
        "training": settings.model_dump(mode="json", exclude={"text", "candidates", "stages", "sequences"}),
    }
    if settings.text is not None:
        wanted["text"] = settings.text.model_dump(mode="json")
    stored = "bits" in features_of_states(space.anatomy, space.states(genome))
    if stored and settings.what != "norms" and recipe.quantizer != NEAREST:
        raise SecateurError(f"tune: {TRAINED}, or write training.what=norms")
    kept = _kept(out, wanted)
    text = kept.text if kept is not None else settings.text or _default_text(recipe)
    points = {one.tokens: Point(one.tokens, one.losses) for one in kept.points} if kept is not None else {}
    chain = _chain(sorted(points), whole(tokens, text.length), whole(every, text.length), out)
    check_whole(workplace.alone(recipe), space, "tune", "training")
    watcher.phase("loading the model and its texts", None)
    default = kept is None and settings.text is None
    named = text.model_copy(update={"name": TRAINING})
    loaded = workplace.workplace_of(recipe, space, named, at_most=default).load()
    found = loaded.texts[TRAINING]
    if kept is not None and kept.text_digest != found.digest:
        raise SecateurError(
            f"{out}: {text.source} is not the text it was tuned on; put that back, or name another --out"
        )
    wanted["text"] = text.model_copy(update={"sequences": len(found)}).model_dump(mode="json")
    wanted["text_digest"] = found.digest
    bench = loaded.prepared(space, watcher.blocks)
    workplace.check_same(folder, bench)
    trainer = trainer_of(settings, recipe.seed, space, bench, out / "states")
    watcher.phase(f"training {name}", sum(chain))
    looks = [chain[:count] for count in range(len(chain) + 1)]
    scores: dict[str, dict[str, Score]] | None = None
    try:
        for look in looks:
            scores = None
            if sum(look) not in points:
                scores = _scores(recipe, space, bench, genome, trainer, look)
                losses = {title: {score: one.mean for score, one in row.items()} for title, row in scores.items()}
                points[sum(look)] = Point(sum(look), losses)
                values = wanted | {"points": [_plain(point) for point in points.values()]}
                write_text(out / RECORD, json.dumps(values, indent=1) + "\n")
            watcher.at(sum(look), f"{HELD_OUT_SCORES[0]} {_first(points[sum(look)]):.4f}")
        checkpoint = out / f"checkpoint-{sum(chain)}"
        if not checkpoint.exists():
            how = f"{settings.what}, {settings.loss}, {sum(chain):,} tokens of {text.source}"
            # The last look's, unless that was on record already.
            scores = scores or _scores(recipe, space, bench, genome, trainer, chain)
            trained = plan.model_copy(update={"training": how, "scores": scores})
            weights = trainer(genome, chain)
            export_hf(trained, bench.model, bench.tokenizer, bench.anatomy, bench.weights, checkpoint, weights)
    except TrainingError as error:
        raise SecateurError(f"{out}: {error}; lower training.learning_rate") from error
    reached = tuple(points[sum(look)] for look in looks)
    prediction = predicted_loss([(point.tokens, _first(point)) for point in reached], 2 * sum(chain))
    return Tuned(checkpoint, reached, prediction)


def _default_text(recipe: Recipe) -> TextSettings:
    """Calibration's source, of which there may be less than this."""
    return recipe.calibration.model_copy(update={"sequences": MOST_SEQUENCES, "positions": None})


def _chain(reached: Sequence[int], tokens: int, every: int, out: Path) -> Chain:
    """The stages of which some have been reached already (total tokens each), and of `every` from there to `tokens`.

    Raises:
        SecateurError: fewer tokens than were trained on, and no point on the way.
    """
    if reached and tokens < reached[-1] and tokens not in reached:
        known = ", ".join(f"{total:,}" for total in reached if total)
        raise SecateurError(f"{out}: has points at {known} tokens; write one of these, or more for --tokens")
    totals = [total for total in (0, *reached) if total <= tokens]
    if (tokens - totals[-1]) // every > MOST_STAGES:
        raise SecateurError(
            f"--every {every:,}: {tokens:,} tokens are more than {MOST_STAGES:,} stages of that; raise it"
        )
    totals += [*range(totals[-1] + every, tokens, every), tokens]
    return tuple(late - early for early, late in pairwise(sorted(set(totals))))


def _scores(
    recipe: Recipe, space: Space, bench: Bench, genome: Genome, trainer: Trainer, chain: Chain
) -> dict[str, dict[str, Score]]:
    """Scores on held-out text, or on calibration text where the recipe holds none out.

    Raises:
        TrainingError: the plan cannot be scored after its training.
    """
    parameters = trainer(genome, chain) if chain else {}
    texts = {text.title: text.sequences for text in recipe.held_out} or {CALIBRATION: recipe.calibration.sequences}
    found: dict[str, dict[str, Score]] = {}
    for title, count in texts.items():
        told = bench.evaluator(space, title, HELD_OUT_SCORES).changed(genome, range(count), lambda _: parameters)
        if not told.losses:
            raise TrainingError(f"training failed after {sum(chain):,} tokens: {told.reason}")
        found[title] = {}
        for name, values in told.losses.items():
            mean, error = mean_and_error(values)
            found[title][name] = Score(mean=mean, standard_error=error, sequences=count)
    return found


def _first(point: Point) -> float:
    """The first score, mean over texts."""
    values = [scores[HELD_OUT_SCORES[0]] for scores in point.losses.values()]
    return sum(values) / len(values)


def _plain(point: Point) -> dict[str, Any]:
    return {"tokens": point.tokens, "losses": point.losses}


def _kept(out: Path, wanted: dict[str, Any]) -> _Record | None:
    """What is on record in a folder; None where it is new or empty.

    Raises:
        SecateurError: it holds something else, or what was tuned with other settings than `wanted`.
    """
    if not out.exists() or (out.is_dir() and all(path.name.startswith(".") for path in out.iterdir())):
        return None
    if not (out / RECORD).exists():
        raise SecateurError(f"{out}: no folder of a tuned plan, and not empty; --out names another one")
    values = read_json(out / RECORD, f"{out / RECORD}")
    try:
        kept = _Record.model_validate(values)
    except ValidationError as error:
        [first, *_] = error.errors()
        where = ".".join(map(str, first["loc"]))[:80]
        raise SecateurError(
            f"{out}: no folder of a tuned plan, or a damaged one ({RECORD}: {where or 'all of it'}: {first['msg']}); "
            "--out names another folder"
        ) from error
    for key, value in wanted.items():
        if values.get(key) != value:
            before = str(values.get(key))[:200]
            raise SecateurError(
                f"{out}: was tuned with {key} {before}, not {str(value)[:200]}; --out names another folder"
            )
    return kept

"""The composition: trains a plan of a run further, in a folder of its own that a killed training goes on from."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import compose
from .evaluating import picked
from .execution import HELD_OUT_SCORES
from .exporting import pick_plan
from .fitness.bench import Bench
from .memos import trainer_of
from .progress import Watcher
from .runs.export.hf import export_hf
from .runs.folder import RunFolder, write_text
from .runs.journal import CALIBRATION
from .runs.reading import training_settings
from .runs.recipe import TRAINING, Recipe
from .runs.report.prediction import predicted_loss
from .runs.settings import TextSettings
from .search.strategy import Chain
from .space.errors import SecateurError
from .space.genome import Genome
from .space.space import Space

MOST_SEQUENCES = 2048
"""Of text that is trained on where the recipe names none; more tokens go over it again."""


@dataclass(frozen=True, slots=True)
class Point:
    """What a plan loses after `tokens` of training: for each text each score's mean, nats per token."""

    tokens: int
    losses: dict[str, dict[str, float]]


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

    `out` holds settings, points and states; called again with the same settings, what is there is not trained again,
    and more tokens go on from where it ended. `changes`: settings of training, such as training.what=full.

    Raises:
        SecateurError: no such plan, settings that do not fit or are not those in `out`, or a text that is too short.
    """
    watcher, recipe, space = watcher or Watcher(), folder.recipe, compose.space_of(folder)
    [(name, genome)] = picked(folder, space, [pick]).items()
    plan, settings = pick_plan(folder, name), training_settings(recipe.training, changes)
    stages = -(-tokens // every)
    text = settings.text or _default_text(recipe, tokens)
    file, points = out / "tune.json", list[Point]()
    wanted = {
        "run": recipe.digest(),
        "pick": name,
        "genome": list(genome.levels),
        "every": every,
        "training": settings.model_dump(mode="json", exclude={"text", "candidates", "stages", "sequences"}),
    }
    if out.exists():
        kept = _read(file)
        for key, value in wanted.items():
            if kept.get(key) != value:
                raise SecateurError(
                    f"{out}: was tuned with {key} {kept.get(key)}, not {value}; --out names another folder"
                )
        text = TextSettings.model_validate(kept["text"])
        points = [Point(one["tokens"], one["losses"]) for one in kept["points"]]
    checkpoint = out / f"checkpoint-{stages * every}"
    watcher.phase("loading the model and its texts", None)
    bench = compose.load_bench(recipe, space, text.model_copy(update={"name": TRAINING}))
    bench.prepare(space, watcher.blocks)
    trainer = trainer_of(settings, recipe.seed, space, bench, out / "states")
    watcher.phase(f"training {name}", stages * every)
    for stage in range(stages + 1):
        chain: Chain = (every,) * stage
        if len(points) <= stage:
            point = Point(stage * every, _losses(recipe, space, bench, genome, trainer, chain))
            if not all(math.isfinite(value) for scores in point.losses.values() for value in scores.values()):
                raise SecateurError(f"{out}: training failed after {sum(chain):,} tokens; lower training.learning_rate")
            points.append(point)
            values = wanted | {"text": text.model_dump(mode="json"), "points": [_plain(one) for one in points]}
            write_text(file, json.dumps(values, indent=1) + "\n")
        watcher.at(stage * every, f"{HELD_OUT_SCORES[0]} {_first(points[stage]):.4f}")
    if not checkpoint.exists():
        trained = trainer(genome, (every,) * stages)
        export_hf(plan, bench.model, bench.tokenizer, bench.anatomy, bench.weights, checkpoint, trained)
    known = [(point.tokens, _first(point)) for point in points[: stages + 1]]
    return Tuned(checkpoint, tuple(points[: stages + 1]), predicted_loss(known, 2 * stages * every))


def _default_text(recipe: Recipe, tokens: int) -> TextSettings:
    """Calibration's source: as much as the tokens need, up to `MOST_SEQUENCES`."""
    count = min(-(-tokens // recipe.calibration.length), MOST_SEQUENCES)
    return recipe.calibration.model_copy(update={"sequences": count, "positions": None})


def _losses(
    recipe: Recipe, space: Space, bench: Bench, genome: Genome, trainer: Any, chain: Chain
) -> dict[str, dict[str, float]]:
    """Mean losses on held-out text, or on calibration text where the recipe holds none out."""
    parameters = trainer(genome, chain) if chain else {}
    texts = {text.title: text.sequences for text in recipe.held_out} or {CALIBRATION: recipe.calibration.sequences}
    found = {}
    for title, count in texts.items():
        told = bench.evaluator(space, title, HELD_OUT_SCORES).changed(genome, range(count), lambda _: parameters)
        found[title] = {
            score: sum(told.losses[score]) / count if told.losses else math.inf for score in HELD_OUT_SCORES
        }
    return found


def _first(point: Point) -> float:
    """The first score, mean over texts."""
    values = [scores[HELD_OUT_SCORES[0]] for scores in point.losses.values()]
    return sum(values) / len(values)


def _plain(point: Point) -> dict[str, Any]:
    return {"tokens": point.tokens, "losses": point.losses}


def _read(file: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(file.read_text(encoding="utf8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SecateurError(f"{file.parent}: no folder of a tuned plan ({error}); --out names another one") from error
    return values

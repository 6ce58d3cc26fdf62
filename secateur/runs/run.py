"""Carries a run through search, baselines, confirmation and timing."""

from functools import partial
from pathlib import Path
from typing import cast

from ..fitness.bench import Bench
from ..fitness.cache import digest
from ..fitness.model.configuration import load_config, quantised_types, source_bytes
from ..fitness.model.device import find_device, with_threads
from ..fitness.text import Sequences
from ..fitness.timing.speed import matrix_speed, slowness
from ..fitness.widths.preparation import narrower_sublayers
from ..fitness.workers.hand import papers_of
from ..fitness.workers.spread import prepared
from ..fitness.workers.team import Team
from ..fitness.workplace import Loaded
from ..space.errors import SecateurError
from ..space.families.table import anatomy
from ..space.space import Space
from .asked.recipe import Recipe
from .base import base_noted, base_of, check_model, told_of_texts
from .checks import affordable, check
from .logged import logged, results
from .memory import check_needs
from .problem import build_space, check_genomes, counting_of, goal_of, pool_of
from .record.facts import (
    BASE,
    CONFIG,
    COUNTING,
    IMPORTANCE,
    METADATA,
    MODEL,
    ORDER,
    ORDERS,
    SOURCE_BYTES,
    SOURCE_TYPES,
    TEXTS,
    WHOLE,
    OrdersFact,
    TextFact,
)
from .record.folder import GIVEN, RunFolder, check_free
from .record.journal import CALIBRATION
from .stages.comparing import baseline, compare_file
from .stages.confirming import confirm
from .stages.replay import note_deciding
from .stages.searching import Execution, search_found
from .stages.starts import keep_peer
from .stages.timing import time_choices, with_latency
from .watcher import Watcher
from .workers import check_workers, coordinating, team_of, threads_of
from .workplace import memo_of, with_zeros


def execute(folder: RunFolder, watcher: Watcher | None = None, loaded: Loaded | None = None) -> None:
    """Carries a run through to its end from wherever it stands: search, baselines, confirmation on held-out text.

    Everything already in the journal is answered from there, so that a killed run goes on where it was;
    `loaded` is what `start` has loaded already.

    Raises:
        SecateurError: anything that is the user's to mend; what was finished is kept.
    """
    with logged(folder, watcher or Watcher(), partial(results, folder)) as told:
        _execute(folder, told, loaded)


def _execute(folder: RunFolder, watcher: Watcher, loaded: Loaded | None) -> None:
    recipe = folder.recipe
    config = load_config(recipe.model.path, recipe.model.trust_remote_code)
    counting = counting_of(folder)
    base = base_of(recipe, anatomy(config), base_noted(folder))
    space = build_space(recipe, config, counting=counting, metadata=folder.journal.of(METADATA), base=base)
    check_genomes(folder, space)
    note_deciding(recipe, folder)
    if loaded is None:
        check_workers(recipe)
        check_needs(recipe, space)
        watcher.phase("loading the model and its texts", None)
        loaded = coordinating(recipe, space).load()
    journal = folder.journal
    if counting > 1:
        journal.note(COUNTING, counting)
    size = source_bytes(recipe.model.path)
    if size is not None and journal.of(SOURCE_BYTES) is None:
        journal.note(SOURCE_BYTES, size)
    if "bits" in space.features and journal.of(SOURCE_TYPES) is None:
        journal.note(SOURCE_TYPES, quantised_types(recipe.model.path))
    journal.note(CONFIG, config)
    if space.layout is not None:
        journal.note(METADATA, space.layout.metadata)
    if base is not None:
        check_model(base, loaded.digest, recipe.model.path)
        journal.note(BASE, base.model_dump(mode="json"))
        if told := told_of_texts(base, {title: text.digest for title, text in loaded.texts.items()}):
            watcher.say(told)
    if loaded.importances is not None:
        journal.note(IMPORTANCE, loaded.importances.digest, what=f"importance {recipe.importance}")
    journal.note(MODEL, loaded.digest, what=f"model {recipe.model.path}")
    journal.note(TEXTS, {title: text_fact(text) for title, text in loaded.texts.items()})
    threads = threads_of(folder)
    with with_threads(threads), team_of(recipe, space, papers_of(loaded), threads) as team:
        if team is None and (warning := slowness(recipe.model.dtype, find_device(recipe.model.device))):
            watcher.say(warning)
        _note_whole(folder, loaded.shelf is None if team is None else team.whole, watcher)
        bench = _ready(loaded, space, team, watcher)
        _search(folder, space, bench, team, watcher)
        if team is not None:
            watcher.say(team.told())


def _note_whole(folder: RunFolder, whole: bool, watcher: Watcher) -> None:
    """Notes whether the whole model is on its device, on which it depends what a search may ask.

    Raises:
        SecateurError: it was, and no longer is.
    """
    journal = folder.journal
    if not whole:
        watcher.say("the model does not fit as a whole: its blocks come in turns, and a search does without slopes")
    begun = any(True for _ in journal.evaluations())
    if journal.of(WHOLE) is None:
        journal.note(WHOLE, int(begun or whole))
    if journal.of(WHOLE) and not whole:
        raise SecateurError(
            f"{folder.path}: was begun with the whole model on its device, which does not fit now; make room, or give "
            "model.memory more in another run"
        )


def _ready(loaded: Loaded, space: Space, team: Team | None, watcher: Watcher) -> Bench:
    """The run's own bench, after workers have prepared what takes long."""
    if team is not None:
        team.expect(papers_of(loaded))
        loaded.measure_basis()
        ordered = any(narrower_sublayers(space).values())
        if ordered or any(any(gene.treatments) for gene in space.genes):
            prepared(team, len(space.anatomy.blocks), ordered, watcher.blocks)
    bench = loaded.prepared(space, watcher.blocks)
    if team is not None:
        team.expect(papers_of(bench))
    return bench


def _search(folder: RunFolder, space: Space, bench: Bench, team: Team | None, watcher: Watcher) -> None:
    """All that a run does with a bench that is ready."""
    recipe, journal = folder.recipe, folder.journal
    if bench.orders:
        orders = bench.kept_orders()
        journal.note(ORDER, digest(orders))
        if journal.of(ORDERS) is None:
            journal.note(ORDERS, cast(OrdersFact, orders))
    space = with_latency(folder, space, bench, watcher, team)
    space = with_zeros(folder, space, bench)
    if space.budgets and space.feasible(space.dense):
        watcher.say(f"{space.origin} keeps the budgets as it is: lower them to have anything removed")
    memo = memo_of(folder, space, bench, CALIBRATION, recipe.scores, watcher, team)
    execution = Execution(folder, space, bench, watcher, memo, pool_of(recipe), goal_of(recipe, space), team)
    search_found(execution)
    for name in recipe.wanted_baselines():
        baseline(execution, name)
    for title, path in recipe.peers.items():
        compare_file(execution, title, path)
    confirm(execution)
    time_choices(folder, space, bench, watcher, team)


def text_fact(text: Sequences) -> TextFact:
    """What a journal notes of a text."""
    path = Path(text.name)
    source = f"{GIVEN}/{path.name}" if path.parent.name == GIVEN else text.name  # a run may be moved
    found: TextFact = {"source": source, "digest": text.digest, "sequences": len(text), "length": text.length}
    if text.prefix:
        found["prefix"] = list(text.prefix)
    if text.parts:
        found["parts"] = list(text.parts)
    return found


def start(recipe: Recipe, path: Path) -> tuple[RunFolder, Loaded]:
    """Begins a run in `path`: checks all that can go wrong before any long work, and only then makes the folder.

    Raises:
        SecateurError: recipe, model, texts and budgets do not fit together, or `path` is taken.
    """
    check_free(path)
    config = load_config(recipe.model.path, recipe.model.trust_remote_code)
    base = base_of(recipe, anatomy(config))
    space = build_space(recipe, config, base=base)
    operations = None
    if recipe.effort.minutes is not None:
        operations = matrix_speed(recipe.model.dtype, find_device(recipe.model.device))
    peers = check(recipe, space, affordable(recipe, space, operations))
    loaded = coordinating(recipe, space).load()
    check_model(base, loaded.digest, recipe.model.path)
    folder = RunFolder.create(path, recipe)
    for file, genome in peers.items():
        keep_peer(file, genome, folder.journal)
    return folder, loaded

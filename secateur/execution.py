"""The composition, last part: carries a run through search, baselines, confirmation and timing."""

import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .compose import build_space, goal_of, load_bench, tasks_of
from .fitness.bench import Bench
from .fitness.cache import digest
from .fitness.checkpoint import load_config
from .fitness.llama_cpp import load_llama_cpp
from .fitness.own_score import check_own, is_own
from .memos import memo_of
from .progress import Watcher
from .rules import from_files, line, peer, rule, uniform_lines
from .runs.export.gguf import check_space
from .runs.folder import RunFolder, check_free
from .runs.journal import CALIBRATION, CORNERS, FOUND, HYPERVOLUME, MEMBER, RANKS, Choice, Turn
from .runs.recipe import Recipe
from .runs.settings import SEARCH_BASELINES
from .runs.strategy_settings import RULES, GreedySettings, KnapsackSettings, MultiprunerSettings, RandomSettings
from .search.archive import Archive, Goal
from .search.loop import Allowance, Spending, Step, run
from .search.memo import Memo
from .search.strategy import Batch, Pool, Steps, Strategy
from .selection import note_training, trained_finalists, trained_tokens
from .space.errors import SecateurError, StorageError
from .space.front import knee, thinned
from .space.genome import Genome
from .space.space import Space
from .strategies import make_steps, trained_selection
from .timing import time_choices, with_latency

HELD_OUT_SCORES = ("kl", "cross_entropy")
NO_LIMIT = 10**18
FIDELITY = 2
"""Sequences on which searches that serve as baselines score, where the recipe's strategy does not say."""


LIBRARIES = ("moocore", "numpy", "optuna", "pymoo")
"""What the replay of a search for a front depends on; our own strategy also on scipy."""


@dataclass
class Execution:
    """A run being carried out: what `execute` keeps in hand."""

    folder: RunFolder
    space: Space
    bench: Bench
    watcher: Watcher
    memo: Memo
    pool: Pool
    goal: Goal | None = None

    @property
    def recipe(self) -> Recipe:
        return self.folder.recipe


def execute(folder: RunFolder, watcher: Watcher | None = None, bench: Bench | None = None) -> None:
    """Carries a run through to its end from wherever it stands: search, baselines, confirmation on held-out text.

    Everything already in the journal is answered from there, so that a killed run goes on where it was;
    `bench` is what `start` has loaded already.

    Raises:
        SecateurError: anything that is the user's to mend; what was finished is kept.
    """
    watcher = watcher or Watcher()
    recipe = folder.recipe
    config = load_config(recipe.model.path, recipe.model.trust_remote_code)
    space = build_space(recipe, config)
    if bench is None:
        watcher.phase("loading the model and its texts", None)
        bench = load_bench(recipe, space)
    journal = folder.journal
    journal.settle("config", config, "the model's configuration")
    journal.settle("model", bench.digest, f"model {recipe.model.path}")
    journal.settle(
        "texts",
        {
            t: {"source": s.name, "digest": s.digest, "sequences": len(s), "length": s.length}
            for t, s in bench.texts.items()
        },
        "the text",
    )
    bench.prepare(space, watcher.blocks)
    if bench.orders:
        orders = bench.kept_orders()
        journal.settle("order", digest(orders), "the importance order of heads and channels")
        if journal.fact("orders") is None:
            journal.settle("orders", orders, "the importance order of heads and channels")
    space = with_latency(folder, space, bench, watcher)
    memo = memo_of(folder, space, bench, CALIBRATION, recipe.scores, watcher)
    pool = Pool(recipe.calibration.sequences, recipe.calibration.length)
    execution = Execution(folder, space, bench, watcher, memo, pool, goal_of(recipe, space))
    if execution.goal is not None or recipe.strategy.name == "surrogate":
        names = (*LIBRARIES, "scipy") if recipe.strategy.name == "surrogate" else LIBRARIES
        libraries = {name: version(name) for name in names}
        journal.settle("libraries", libraries, "the version of what searches")
    search_found(execution)
    for name in recipe.wanted_baselines():
        baseline(execution, name)
    for title, path in recipe.peers.items():
        compare_file(execution, title, path)
    confirm(execution)
    time_choices(folder, space, bench, watcher)


def _search(execution: Execution, name: str, title: str, steps: Steps, allowance: Allowance) -> Archive | None:
    """Runs a strategy as `name` and notes its choice; for a front, the knee. Returns what a front was made from."""
    journal = execution.folder.journal
    spending = Spending(execution.pool.tokens_per_sequence)
    execution.watcher.phase(title, allowance.tokens)
    seconds = 0.0
    archive = _archive(execution, execution.goal) if execution.goal is not None else None
    curve: list[tuple[int, int, float]] = []
    known: dict[Genome, float] = {}
    timed: set[tuple[Genome, range]] = set()
    ranks: list[tuple[int, int, float]] = []

    def watch(step: Step) -> None:
        nonlocal seconds
        for evaluation in step.evaluations:
            if (evaluation.genome, evaluation.sequences) not in timed:
                timed.add((evaluation.genome, evaluation.sequences))
                seconds += evaluation.seconds
        known.update((evaluation.genome, evaluation.loss) for evaluation in step.evaluations)
        incumbent = step.incumbent
        note = f"best {known[incumbent]:.4f}" if incumbent in known else ""
        if archive is not None:
            archive.add(step.evaluations, execution.space.dense)
            incumbent, front = archive.knee(), len(archive.front())
            curve.append((step.spending.evaluations, step.spending.tokens, archive.hypervolume()))
            note = f"{front} on the front, hypervolume {curve[-1][2]:.4f}"
        if step.correlation is not None:
            ranks.append((step.spending.evaluations, step.spending.tokens, step.correlation))
            note += f", the model's rank correlation {step.correlation:.2f}"
        journal.turn(Turn(name, step.spending.tokens, step.spending.evaluations, incumbent))
        execution.watcher.at(step.spending.tokens, note)

    incumbent = run(Strategy(steps), execution.memo, spending, allowance, watch)
    if archive is not None:
        incumbent = archive.knee()
        journal.settle(f"{HYPERVOLUME} {name}", curve, f"the search of '{name}'")
    if ranks:
        journal.settle(f"{RANKS} {name}", ranks, f"the model of '{name}'")
    if incumbent is None:
        failed = [one.reason for _, one in journal.evaluations(CALIBRATION) if one.status == "failed"]
        why = f"; {len(failed)} evaluations failed, the last one: {failed[-1]}" if failed else ""
        raise SecateurError(
            f"{title}: ended after {spending.tokens:,} tokens without a genome that keeps the budgets{why}; raise "
            "'effort'" + (", or mend what fails" if failed else "")
        )
    journal.choose(Choice(name, incumbent, spending.tokens, spending.evaluations, seconds))
    return archive


def _archive(execution: Execution, goal: Goal) -> Archive:
    """An empty archive that knows the dense model, to which all is relative; its evaluation is not the search's.

    Raises:
        SecateurError: the dense model failed, or a reference leaves no room for a front.
    """
    archive, dense = Archive(goal), execution.space.dense
    [evaluation] = execution.memo(Batch((dense,), range(goal.sequences)))
    if evaluation.status == "failed":
        raise SecateurError(f"the dense model cannot be scored: {evaluation.reason}")
    archive.add([evaluation], dense)
    worst, ideal = goal.worst(evaluation), goal.ideal(evaluation)
    for objective, high, low in zip(goal.objectives, worst, ideal, strict=True):
        if high <= low:
            raise SecateurError(f"reference.{objective.name}: {high:g} is not above {low:g}, the best there can be")
    journal = execution.folder.journal
    journal.settle(CORNERS, {"worst": worst, "ideal": ideal}, "the reference of the hypervolume")
    return archive


def search_found(execution: Execution) -> None:
    """The search that the recipe asks for."""
    recipe, journal = execution.recipe, execution.folder.journal
    tokens = recipe.effort.tokens
    if recipe.effort.minutes is not None:
        if journal.fact("tokens") is None:
            measured = int(execution.bench.tokens_per_second() * 60 * recipe.effort.minutes)
            journal.settle("tokens", min(measured, tokens or measured), "the tokens for the given minutes")
        tokens = journal.fact("tokens")
    allowance = Allowance(tokens, recipe.effort.evaluations)
    wanted = getattr(recipe.strategy, "initial", ())
    space, bench, goal = execution.space, execution.bench, execution.goal
    if goal is None:
        initial = [rule(name, space, bench, recipe.seed) for name in wanted if name in RULES]
    else:
        initial = uniform_lines(recipe, space, bench, goal) if "uniform" in wanted else []
    initial += from_files(wanted, space, journal)
    selection = trained_selection(recipe, space, execution.pool, tokens)
    if selection is None:
        steps = make_steps(recipe, recipe.strategy, space, execution.pool, tokens, initial)
    else:
        left = tokens - selection.cost() if tokens is not None else None
        steps = make_steps(recipe, recipe.strategy, space, execution.pool, left, initial)
        steps = selection.steps(steps, Allowance(left, recipe.effort.evaluations))
        allowance = Allowance(tokens)
    archive = _search(execution, FOUND, f"searching with {recipe.strategy.name}", steps, allowance)
    if archive is not None:
        choose_members(execution, archive)
    if recipe.training is not None:
        note_training(recipe, journal, execution.memo, selection)


def choose_members(execution: Execution, archive: Archive) -> None:
    """Notes the members of the front that are confirmed and timed: all, or as many as stand for them, and the knee."""
    genomes = [genome for genome in archive.front() if genome != execution.space.dense]
    points = [archive.members[genome] for genome in genomes]
    chosen = thinned(points, execution.recipe.front.members) if genomes else []
    best = knee(points) if genomes else 0
    if chosen and best not in chosen:
        chosen = sorted({*chosen[:-1], best}) if len(chosen) > 1 else [best]
    for number, index in enumerate(chosen, start=1):
        execution.folder.journal.choose(Choice(f"{MEMBER}{number:02d}", genomes[index], 0, 0, 0.0))


def baseline(execution: Execution, name: str) -> None:
    """One baseline at the same budgets; what cannot keep them is noted with the reason."""
    journal = execution.folder.journal
    if journal.fact(f"skipped {name}") is not None or name == execution.recipe.strategy.name:
        return
    try:
        if name in SEARCH_BASELINES:
            _search_baseline(execution, name)
        elif execution.goal is not None:
            _baseline_line(execution, execution.goal, name)
        elif name not in journal.choices():
            execution.watcher.phase(f"baseline {name}", None)
            started = time.perf_counter()
            genome = rule(name, execution.space, execution.bench, execution.recipe.seed)
            journal.choose(Choice(name, genome, 0, 0, time.perf_counter() - started))
    except StorageError:
        raise
    except SecateurError as error:
        journal.settle(f"skipped {name}", str(error), f"baseline {name}")
        execution.watcher.say(f"baseline {name} does not apply: {error}")


def compare_file(execution: Execution, title: str, path: str) -> None:
    """A baseline that is the plan in a file; where it turns out to be over a measured budget, the reason is noted."""
    journal = execution.folder.journal
    if title in journal.choices() or journal.fact(f"skipped {title}") is not None:
        return
    try:
        journal.choose(Choice(title, peer(path, execution.space, journal), 0, 0, 0.0))
    except StorageError:
        raise
    except SecateurError as error:
        journal.settle(f"skipped {title}", str(error), f"baseline {title}")
        execution.watcher.say(str(error))


def _baseline_line(execution: Execution, goal: Goal, name: str) -> None:
    """A rule in several sizes, over the range of the front's members."""
    recipe, space, journal = execution.recipe, execution.space, execution.folder.journal
    execution.watcher.phase(f"baseline {name}", None)
    members = [choice.genome for title, choice in journal.choices().items() if title.startswith(MEMBER)]
    least = min((getattr(space.costs(genome), cost) for genome in members for cost in goal.costs[:1]), default=None)
    genomes = line(name, space, execution.bench, recipe.seed, goal, recipe.front.points, least)
    execution.memo(Batch(tuple(genomes), range(goal.sequences)))
    for number, genome in enumerate(genomes, start=1):
        journal.choose(Choice(f"{name}-{number}", genome, 0, 0, 0.0))


def _search_baseline(execution: Execution, name: str) -> None:
    """Greedy, knapsack or random search with no more tokens than the search had."""
    recipe, space, pool = execution.recipe, execution.space, execution.pool
    found = execution.folder.journal.choices()[FOUND]
    # What a search spent on training is no measure for one that does without.
    tokens = found.tokens - trained_tokens(execution.folder.journal)
    settings: Any = getattr(recipe.strategy, "warm", None) or recipe.strategy
    if settings.name != name:
        # The fidelity and levels of the recipe's own sweep, where it has one, so that evaluations are shared.
        sequences, anchors = getattr(settings, "sequences", FIDELITY), getattr(settings, "anchors", None)
        if execution.goal is not None:
            sequences = execution.goal.sequences
        if name == "random":
            settings = RandomSettings(name="random", sequences=sequences)
        elif name == "knapsack":
            settings = KnapsackSettings(name="knapsack", sequences=sequences, anchors=anchors)
        elif name == "multipruner":
            settings = MultiprunerSettings(name="multipruner", sequences=sequences)
        else:
            settings = GreedySettings(name="greedy", sequences=sequences, anchors=anchors)
    steps = make_steps(recipe, settings, space, pool, tokens)
    evaluations = found.evaluations if execution.goal is not None else None
    _search(execution, name, f"baseline {name}", steps, Allowance(tokens, evaluations))


def confirm(execution: Execution) -> None:
    """Scores every choice, and the dense model, on held-out text that no search saw."""
    genomes = {choice.genome: None for choice in execution.folder.journal.choices().values()}
    batch = (execution.space.dense, *genomes)
    for text in execution.recipe.held_out:
        folder, space, bench, watcher = execution.folder, execution.space, execution.bench, execution.watcher
        memo = memo_of(folder, space, bench, text.title, HELD_OUT_SCORES, watcher)
        total = len(set(batch)) * text.sequences * text.length
        watcher.phase(f"confirming on held-out {text.title}", total)
        memo(Batch(tuple(dict.fromkeys(batch)), range(text.sequences)))
        finalists, chain = trained_finalists(execution.folder.journal)
        if finalists:
            memo(Batch(finalists, range(text.sequences), trained=chain))


def start(recipe: Recipe, path: Path) -> tuple[RunFolder, Bench]:
    """Begins a run in `path`: checks all that can go wrong before any long work, and only then makes the folder.

    Raises:
        SecateurError: recipe, model, texts and budgets do not fit together, or `path` is taken.
    """
    check_free(path)
    space = build_space(recipe)
    for name in filter(is_own, recipe.scores):
        check_own(name, tasks_of(recipe), recipe.goal_sequences)
    if recipe.latency is not None and recipe.latency.device == "llama.cpp":
        load_llama_cpp()
        check_space(space, load_config(recipe.model.path, recipe.model.trust_remote_code))
    from_files(getattr(recipe.strategy, "initial", ()), space)
    for file in recipe.peers.values():
        peer(file, space)
    pool = Pool(recipe.calibration.sequences, recipe.calibration.length)
    selection = trained_selection(recipe, space, pool, recipe.effort.tokens)
    tokens = recipe.effort.tokens or NO_LIMIT
    make_steps(recipe, recipe.strategy, space, pool, tokens - selection.cost() if selection else tokens)
    bench = load_bench(recipe, space)
    folder = RunFolder.create(path, recipe)
    for file in recipe.peers.values():
        peer(file, space, folder.journal)
    return folder, bench

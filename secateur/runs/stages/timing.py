"""The latency table that a search uses, and the whole models that are timed after it."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from ...fitness.bench import Bench
from ...fitness.model.device import threads_here
from ...fitness.timing.llama_cpp import time_files
from ...fitness.workers import calls
from ...fitness.workers.team import Team
from ...plans.checkpoint.gguf import write_gguf
from ...space.base import begun
from ...space.costs import LATENCIES
from ...space.errors import DeviceError, SecateurError, StorageError
from ...space.genome import Genome
from ...space.latency import Measured, table_from_json
from ...space.space import Space
from ..asked.settings import LatencySettings
from ..problem import space_noted, workload_of
from ..record.facts import LATENCY, MEASURED, TIMED_ON, UNTIMED, LatencyFact, MeasuredFact
from ..record.folder import RunFolder
from ..watcher import Watcher


def with_latency(folder: RunFolder, space: Space, bench: Bench, watcher: Watcher, team: Team | None) -> Space:
    """The space with the measured latency; measured once a run, so that a resumed one searches on the same figures.

    By a worker, where there are some: it has the whole model.

    Raises:
        SecateurError: a budget on latency cannot be kept.
    """
    settings, journal = folder.recipe.latency, folder.journal
    if settings is None or settings.device == "estimate":
        return space
    if journal.of(LATENCY) is None:
        title = "measuring the latency of every shape"
        how = workload_of(settings), _threads(settings, team), settings.spread, settings.seconds
        if team is None:
            table = bench.latency_table(space, *how, lambda done, total: watcher.blocks(title, done, total))
        else:
            watcher.phase(title, None)
            table = team.one(partial(calls.latency_table, *how), patient=True)
        journal.note(LATENCY, cast(LatencyFact, table.to_json()))
    table = table_from_json(journal.known(LATENCY))
    return space_noted(folder, table)


def _threads(settings: LatencySettings, team: Team | None) -> int | None:
    """Of a CPU, that models are timed with; a worker would otherwise take as many as it evaluates with."""
    on_cpu = settings.device in ("cpu", "llama.cpp")
    return settings.threads if team is None or not on_cpu else settings.threads or threads_here()


FILES = ".gguf-"
"""How the names of folders begin that hold GGUF files while they are timed."""


@contextmanager
def _timer(
    folder: RunFolder, space: Space, bench: Bench, settings: LatencySettings, team: Team | None
) -> Iterator[Callable[[Genome], Measured]]:
    """Times genomes as whole models on the device, as long as this is open."""
    workload = workload_of(settings)
    if settings.device != "llama.cpp":
        how = workload, _threads(settings, team), settings.repeats
        if team is None:
            yield lambda genome: bench.time_whole(space, genome, *how)
        else:
            yield lambda genome: team.one(partial(calls.time_whole, genome, *how), patient=True)
        return
    for left in folder.path.glob(f"{FILES}*"):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(dir=folder.path, prefix=FILES) as files:
        dense, smaller = Path(files) / "dense.gguf", Path(files) / "smaller.gguf"
        write_gguf(bench.model, bench.anatomy, begun(bench.anatomy, None), bench.weights, dense)

        def timed(genome: Genome) -> Measured:
            smaller.unlink(missing_ok=True)
            write_gguf(bench.model, bench.anatomy, space.states(genome), bench.weights, smaller)
            return time_files(smaller, dense, workload, settings.threads, settings.repeats)

        yield timed


def time_choices(folder: RunFolder, space: Space, bench: Bench, watcher: Watcher, team: Team | None) -> None:
    """Times every choice end to end where latency is what the recipe is about; each is kept as soon as it is known.

    One after the other: whoever else computes on the device is timed too.
    """
    recipe, journal = folder.recipe, folder.journal
    settings = recipe.latency
    if settings is None or settings.device == "estimate" or not {*recipe.objectives, *recipe.budgets} & {*LATENCIES}:
        return
    genomes = dict.fromkeys(choice.genome for choice in journal.choices().values())
    keys = {genome: space.key(genome) for genome in genomes if genome != space.dense}
    left = [genome for genome, key in keys.items() if journal.of(MEASURED, key) is None]
    left = [genome for genome in left if journal.of(UNTIMED, keys[genome]) is None]
    if not left:
        return
    threads = _threads(settings, team)
    machine = bench.machine(threads) if team is None else team.one(partial(calls.machine, threads))
    journal.note(TIMED_ON, machine)
    title = f"timing whole models on {settings.device}"
    with _timer(folder, space, bench, settings, team) as timed:
        for number, genome in enumerate(left, start=len(keys) - len(left)):
            watcher.blocks(title, number, len(keys))
            try:
                journal.note(MEASURED, cast(MeasuredFact, timed(genome).to_json()), keys[genome])
            except (StorageError, DeviceError):
                raise
            except SecateurError as error:
                journal.note(UNTIMED, str(error), keys[genome])
                watcher.say(f"a plan cannot be timed: {error}")
    watcher.blocks(title, len(keys), len(keys))

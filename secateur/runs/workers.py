"""The workers that a recipe asks for: how many, where, and what each is given."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from ..fitness.model.device import CPU, find_device, threads_here
from ..fitness.scores.own import check_picklable
from ..fitness.workers.backends import Crew, connected
from ..fitness.workers.device import devices
from ..fitness.workers.hand import Papers, Place, worker
from ..fitness.workers.team import Team
from ..fitness.workplace import Workplace
from ..space.errors import SecateurError
from ..space.objective import is_own
from ..space.space import Space
from .asked.recipe import Recipe
from .asked.settings import TRAINING
from .memory import placement_of, smallest_placement
from .record.facts import THREADS
from .record.folder import RunFolder
from .workplace import training_of, workplace_of


def check_workers(recipe: Recipe) -> None:
    """Finds out whether the workers are there.

    Raises:
        SecateurError: a backend that is not installed, an address nobody answers at, more workers than devices, or a
            score that they could not be given.
    """
    if recipe.workers.alone:
        return
    for name in filter(is_own, recipe.scores):
        check_picklable(name)
        if recipe.workers.backend == "dask" and recipe.tasks.timeout is not None:
            raise SecateurError("tasks.timeout: Dask's workers cannot end what takes long; set workers.timeout instead")
    crew = crew_of(recipe)
    if crew.backend != "processes":
        with connected(crew):
            return


def crew_of(recipe: Recipe, threads: int | None = None) -> Crew:
    """Which workers a recipe means, each with so many threads on a CPU.

    Raises:
        SecateurError: more processes than devices.
    """
    asked = recipe.workers
    if asked.backend == "processes" and find_device(recipe.model.device).type != "cpu":
        there = devices(recipe.model.device) or 1
        if (asked.count or 1) > there:
            raise SecateurError(
                f"workers.count: {asked.count} on {recipe.model.device}, of which there {_are(there)} here; each "
                "worker has one of its own: ask for no more, or name them all (cuda)"
            )
    return Crew(asked.backend, asked.count, asked.address, asked.gpus, threads, asked.timeout)


def threads_of(folder: RunFolder) -> int:
    """With how many threads a run computes on a CPU, as it was begun: sums come out a little differently with others.

    Raises:
        SecateurError: the recipe asks for others than the run was begun with.
    """
    asked, noted = folder.recipe.workers, folder.journal.of(THREADS)
    chosen = asked.threads or noted
    if chosen is None and asked.alone:
        chosen = threads_here()
    if chosen is None:
        chosen = max(1, len(os.sched_getaffinity(0)) // (asked.count or 1)) if asked.backend == "processes" else 1
    folder.journal.note(THREADS, chosen)
    return chosen


def _are(count: int) -> str:
    return "is 1" if count == 1 else f"are {count}"


def coordinating(recipe: Recipe, space: Space) -> Workplace:
    """Where the run itself works: all by itself, or, where others do the work, with little more than one block at once.

    Raises:
        SecateurError: see `placement_of`.
    """
    if recipe.workers.alone:
        return workplace_of(recipe, space)
    workplace = workplace_of(recipe, space, placement=smallest_placement(recipe, space))
    try:
        find_device(workplace.device)
    except SecateurError:  # it is the workers'
        return replace(workplace, device=str(CPU))
    return workplace


@contextmanager
def team_of(recipe: Recipe, space: Space, papers: Papers, threads: int | None = None) -> Iterator[Team | None]:
    """The workers of a recipe, for as long as this is open; None where the run works alone.

    `papers`: what the run itself works with, as far as it is known; `threads`: of each worker on a CPU.

    Raises:
        SecateurError: see `crew_of` and `Team`.
    """
    if recipe.workers.alone:
        yield None
        return
    crew = crew_of(recipe, threads)
    training = (training_of(recipe.training, recipe.seed), TRAINING) if recipe.training is not None else None
    bare = replace(space, budgets=(), latency=None, zeros=None, counted={})
    workplace = workplace_of(recipe, space, placement=placement_of(recipe, space))
    given = Place(workplace, bare, training, crew.threads, tuple(sorted(papers.items())), worker())
    with Team(crew, given) as team:
        yield team

"""All that can be wrong with what a recipe asks for, found before anything that takes long."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..fitness.bits.imatrix import read_importances
from ..fitness.bits.planes import check_types
from ..fitness.model.configuration import load_config
from ..fitness.scores.own import check_own
from ..fitness.timing.llama_cpp import load_llama_cpp
from ..plans.formats.gguf import check_space
from ..space.errors import SecateurError
from ..space.genome import Genome
from ..space.objective import is_own
from ..space.space import Space
from .asked.recipe import Recipe
from .loggers.table import check_logs
from .memory import check_needs
from .problem import asked_problem, build_space
from .stages.starts import from_files, peer
from .workers import check_workers
from .workplace import tasks_of, texts_of

MOST_TOKENS = 2**50
"""With which every strategy has enough."""


def check(
    recipe: Recipe, space: Space, tokens: int | None = None, elsewhere: bool = False, texts: bool = False
) -> Mapping[str, Genome]:
    """Checks everything that can be checked without the model's weights; returns the genomes of plan files beside it.

    Args:
        tokens: that there will be time for, where the recipe limits it.
        elsewhere: it is written for another machine, so that what is on this one is not asked.
        texts: whether they are read too, as they are when the model is loaded.

    Raises:
        SecateurError: recipe, model, texts, budgets, effort or machine do not fit together; each problem on a line.
    """
    problems: list[str] = []
    peers: dict[str, Genome] = {}
    with _noted(problems):
        for name in filter(is_own, recipe.scores):
            # A search for one plan compares on ever more of the text, up to all of it.
            sequences = recipe.goal_sequences if recipe.objectives else recipe.calibration.sequences
            check_own(name, tasks_of(recipe), sequences)
    if recipe.latency is not None and recipe.latency.device == "llama.cpp":
        with _noted(problems):
            if not elsewhere:
                load_llama_cpp()
            check_space(space, load_config(recipe.model.path, recipe.model.trust_remote_code))
    with _noted(problems):
        from_files(recipe.strategy.start_names(), space)
    for file in recipe.peers.values():
        with _noted(problems):
            peers[file] = peer(file, space)
    with _noted(problems):
        known = [count for count in (recipe.effort.tokens, tokens) if count is not None]
        asked_problem(recipe, space, min(known, default=None))
    if not elsewhere:
        with _noted(problems):
            check_types(space, recipe.quantizer)
            if recipe.importance is not None:
                read_importances(Path(recipe.importance), space.anatomy)
        with _noted(problems):
            check_logs(recipe.log)
        with _noted(problems):
            check_workers(recipe)
        with _noted(problems):
            check_needs(recipe, space)
    if texts:
        with _noted(problems):
            texts_of(recipe).read_texts()
    if problems:
        raise SecateurError("\n".join(dict.fromkeys(problems)))
    return peers


def checked_space(recipe: Recipe, texts: bool) -> Space:
    """The recipe's space; where there is none, what is wrong with the texts is told too, if they are here.

    Raises:
        SecateurError: see `build_space`; each problem on a line.
    """
    try:
        return build_space(recipe)
    except SecateurError as error:
        problems = [str(error)]
        if texts:
            with _noted(problems):
                texts_of(recipe).read_texts()
        raise SecateurError("\n".join(dict.fromkeys(problems))) from error


def affordable(recipe: Recipe, space: Space, operations: float | None) -> int | None:
    """About how many tokens the recipe's minutes are, at so many operations a second; None where it has none."""
    if recipe.effort.minutes is None or operations is None:
        return None
    return int(operations / (2 * space.dense_costs.macs) * 60 * recipe.effort.minutes)


def least_effort(recipe: Recipe, space: Space) -> int | None:
    """The fewest tokens with which the recipe's strategy begins; None where it is refused for another reason.

    A strategy that takes any number of tokens needs 1.
    """

    def enough(tokens: int) -> bool:
        try:
            asked_problem(recipe, space, tokens)
        except SecateurError:
            return False
        return True

    low, high = 0, 1
    while not enough(high):
        if high >= MOST_TOKENS:
            return None
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


@contextlib.contextmanager
def _noted(problems: list[str]) -> Iterator[None]:
    """Goes on after an error of the user's, of which it keeps what is wrong."""
    try:
        yield
    except SecateurError as error:
        problems.append(str(error))

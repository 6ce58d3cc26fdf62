"""A first recipe for a model and a text, with a word on every choice; it is checked before it is written.

What is chosen follows from the model's configuration (which genes it can have) and from how much text there is.
"""

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..fitness.bits.planes import check_types
from ..fitness.model.checkpoint import load_tokenizer
from ..fitness.model.configuration import load_config
from ..fitness.text import Sequences, TextRequest, read
from ..fitness.timing.speed import speed_here
from ..operators.rules.table import RULES
from ..space.anatomy import Anatomy
from ..space.errors import SecateurError, suggest
from ..space.families.table import FAMILIES, anatomy
from ..space.scores import always_scored
from ..space.space import Space
from .asked.reading import written_recipe
from .asked.recipe import Recipe
from .asked.settings import TextSettings
from .asked.shorthand import HELD_OUT, named_held
from .checks import least_effort
from .describe import Description, describe
from .problem import build_space, check_search

GOALS: Mapping[str, str] = {
    "quality": "the best plan of that size, by dropped and narrower sublayers; a smaller checkpoint",
    "llama.cpp": "the best file of that size that llama.cpp runs: sublayers dropped, narrower, and in fewer bits",
    "sparsity": "zeros, another share in each sublayer, for llm-compressor, torchao, torch.nn.utils.prune",
    "speed": "the best plan of that latency on the device, which is measured",
    "front": "a front: the best of every size, to choose from",
}
LENGTHS = (512, 256, 128, 64, 32)
WINDOWS = (1, 4, 16, 64)
"""Sequences that a document may give, the first that gives enough."""
MOST, FEWEST = 64, 6
"""Sequences of calibration and of held-out text together that are enough, and with which it makes no sense."""
TIMED = 512, 32
"""Tokens in and out of the request that is timed, where the model has as many positions."""
TYPES: tuple[tuple[list[str], dict[str, str]], ...] = (
    (["Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q3_K"], {}),
    (["Q8_0 or other", "Q6_K or other", "Q5_K or other", "Q4_K or other", "Q3_K or other"], {}),
    (["Q8_0", "Q5_1", "Q4_1", "Q4_0"], {}),
    (["Q8_0", "Q5_1", "Q4_1", "Q4_0"], {"quantizer": "nearest"}),
)
"""Types of weights, the finest first, and how they are made: rows may not fit, or ggml not be installed."""
ZEROS = 0.1
"""Between two levels of sparsity."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants to begin with.

    Attributes:
        texts: files or names of datasets, as recipes name them; several are mixed, as much of each.
        smaller: the share that is to go, of parameters, bytes, weights or time, by the goal; None: as much as is
            usual there.
        goal: one of `GOALS`.
    """

    model: str
    texts: tuple[str, ...]
    smaller: float | None = None
    goal: str = "quality"
    device: str = "cpu"
    minutes: float = 20.0
    seed: int = 0

    @property
    def share(self) -> float:
        """That is to go."""
        return self.smaller if self.smaller is not None else usual_share(self.goal)


def usual_share(goal: str) -> float:
    """That goes where nobody says it: more of a file that may be stored in fewer bits."""
    return 0.7 if goal == "llama.cpp" else 0.3


def share_of(text: str) -> float:
    """Reads "30%", "0.3" or "30"; raises SecateurError where it is no share."""
    match = re.fullmatch(r"\s*([0-9]{1,3}(?:\.[0-9]{1,6})?)\s*(%?)\s*", text[:40])
    share = float(match[1]) / (100 if match[2] or float(match[1]) >= 1 else 1) if match else 0.0
    if not 0 < share < 1:
        raise SecateurError(f"--smaller {text[:40]}: write the share that is to go, such as 30%")
    return share


def first_recipe(wish: Wish, folder: Path) -> tuple[str, Description]:
    """The recipe as text, and what it would search; files are named as from the `folder` that it will be in.

    Raises:
        SecateurError: model, text and wish do not fit together.
    """
    if wish.goal not in GOALS:
        raise SecateurError(f"--for {wish.goal[:40]}; {suggest(wish.goal[:40], GOALS)}")
    asked = written_recipe({"model": wish.model, "calibration": _parts(wish.texts)}, folder)
    config = load_config(asked.model.path)
    shape = anatomy(config)
    calibration, held_out = _texts(asked.calibration, wish.texts, asked.model.path, shape, config, wish.seed)
    refused: SecateurError | None = None
    tried: dict[str, Any] | None = None
    problems = _problems(wish, FAMILIES[shape.family].positions(config), shape)
    for problem, (genes, making) in itertools.product(problems, _genes(shape, wish)):
        values: dict[str, Any] = {
            "model": {"path": wish.model, "device": wish.device},
            "calibration": calibration,
            "held_out": held_out,
            "genes": genes,
            **problem,
            **making,
            **({"score": always_scored(shape)[0]} if shape.headless and wish.goal != "front" else {}),
            "strategy": "surrogate",
            "effort": {"minutes": wish.minutes},
            "seed": wish.seed,
        }
        try:
            recipe = written_recipe(values, folder)
            space = build_space(recipe, config)
            check_types(space, recipe.quantizer)
            # Searched ones may take as long as the search, each.
            values["baselines"] = [name for name in recipe.wanted_baselines() if name in RULES]
            recipe = written_recipe(values, folder)
            check_search(recipe, space)
        except SecateurError as error:
            # What is said is of the last problem, which asks least of the model, with the finest genes.
            if refused is None or tried is not problem:
                refused, tried = error, problem
            continue
        try:
            return _commented(values, wish, shape), describe(recipe)
        except SecateurError as error:
            raise SecateurError(_too_few(recipe, space) or f"init: {error}") from error
    assert refused is not None
    raise SecateurError(f"init: {refused}") from refused


def _too_few(recipe: Recipe, space: Space) -> str | None:
    """How many minutes a search takes at least, where the recipe gives fewer; None where it does not."""
    here, least = speed_here(recipe.model.device, recipe.model.dtype), least_effort(recipe, space)
    if here is None or here.operations is None or least is None or recipe.effort.minutes is None:
        return None
    needed = math.ceil(least * 2 * space.dense_costs.macs / here.operations / 6) / 10
    if needed <= recipe.effort.minutes:
        return None
    return (
        f"--minutes {recipe.effort.minutes:g}: too few: the search needs {least:,} tokens at least, which take about "
        f"{needed:g} minutes on {here.device} of this machine"
    )


def _texts(
    asked: TextSettings, names: Sequence[str], model: str, shape: Anatomy, config: Mapping[str, Any], seed: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The sections for calibration and for held-out text, as much as there is; three quarters are for calibration.

    Of several texts as much of each is mixed, and each is held out by itself.
    """
    tokenizer = load_tokenizer(model)
    longest = FAMILIES[shape.family].positions(config) or max(LENGTHS)
    sources = [part.source for part in asked.mixture] or [asked.source]
    most = max(1, MOST // len(sources))

    def taken(source: str, count: int, length: int, windows: int, without: frozenset[str]) -> Sequences:
        request = TextRequest("text", source, asked.field, asked.split, count, length, windows, at_most=True)
        return read(request, tokenizer, shape, seed, without)

    def counts(source: str, length: int, windows: int, used: set[str]) -> tuple[int, int]:
        """Sequences for calibration and to hold out, of documents that are not `used` yet; none where the text is too
        short for them."""
        try:
            found = len(taken(source, most + HELD_OUT, length, windows, frozenset(used)))
            if found < FEWEST or (found < most // 2 and windows < WINDOWS[-1]):
                return 0, 0
            first = taken(source, min(most, found * 3 // 4), length, windows, frozenset(used))
            other = taken(source, HELD_OUT, length, windows, first.documents | used)
        except SecateurError as error:
            if "too short" not in str(error):
                raise
            return 0, 0
        used |= first.documents | other.documents
        return len(first), len(other)

    for length in (one for one in LENGTHS if one <= longest):
        for windows in WINDOWS:
            used: set[str] = set()
            found = [counts(source, length, windows, used) for source in sources]
            if min(count for _, count in found) < 2:
                continue
            size = {"length": length, "windows_per_document": windows}
            parts = _parts(names)
            text: dict[str, Any] = {"source": names[0]} if len(names) == 1 else {"mixture": parts}
            held_out = [
                {**_held_out(part, len(names) == 1), **size, "sequences": count}
                for part, (_, count) in zip(parts, found, strict=True)
            ]
            return {**text, **size, "sequences": len(sources) * min(first for first, _ in found)}, held_out
    raise SecateurError(
        f"init: text '{' or '.join(sources)}' is too short: {FEWEST} sequences of {LENGTHS[-1]} tokens are needed, "
        "from several documents (in a .txt they are separated by blank lines), so that some are kept for confirmation"
    )


def _problems(wish: Wish, positions: int | None, shape: Anatomy) -> list[dict[str, Any]]:
    """What is limited, or wanted, of a model of so many positions; an encoder decodes nothing. What is best comes
    first, which may ask more of the model than the next."""
    limit = f"<= {1 - wish.share:.4g}x"
    if wish.goal == "front":
        return [{"objectives": [always_scored(shape)[0], "parameters"]}]
    if wish.goal == "speed":
        request = TIMED if positions is None or sum(TIMED) <= positions else (positions * 3 // 4, positions // 8)
        prefill, decode = request if shape.causal else (request[0], 0)
        return [{"budgets": {"latency": limit}, "latency": {"quick": True, "prefill": prefill, "decode": decode}}]
    if wish.goal == "sparsity":
        return [{"budgets": {"linear_weights": limit}, "pruner": "wanda"}]
    if wish.goal == "llama.cpp":
        # The size of the file is known where what its vocabulary takes is.
        return [{"budgets": {cost: limit}, "target": "llama.cpp"} for cost in ("file_bytes", "weight_bytes")]
    return [{"budgets": {"parameters": limit}}]


def _genes(shape: Anatomy, wish: Wish) -> Iterator[tuple[list[dict[str, Any]], dict[str, Any]]]:
    """Genes for the wish, and what their making takes, the finest first; a model or a tool may not have them all."""
    if wish.goal == "sparsity":
        # Evenly around what is wanted, so that every sublayer can have more and less.
        count = round(min(0.9, wish.share + 0.3) / ZEROS)
        first = max(1, round((wish.share - 0.3) / ZEROS))
        levels = [round(ZEROS * step, 2) for step in range(first, count + 1)]
        yield [{"kind": "sparsity", "per": "sublayer", "levels": levels}], {}
        return
    if wish.goal == "llama.cpp":
        outside = ["embedding"] if shape.tied else ["embedding", "head"]
        for structure, (levels, making) in itertools.product(_structure(shape), TYPES):
            stored: list[dict[str, Any]] = [{"per": "sublayer"}, *({"of": one} for one in outside)]
            yield [*structure, *({"kind": "bits", **part, "levels": list(levels)} for part in stored)], making
    yield from ((structure, {}) for structure in _structure(shape))


def _structure(shape: Anatomy) -> Iterator[list[dict[str, Any]]]:
    """Sublayers that are dropped or become narrower, or blocks that are dropped."""
    groups = shape.blocks[0].dimensions.get("groups", 1)
    mlp = {"kind": "mlp", "levels": "8 levels"}
    if groups > 1:
        yield [{"kind": "attention", "levels": f"{min(groups, 4)} levels"}, mlp]
    yield [{"kind": "attention"}, mlp]
    yield [{"kind": "attention"}, {"kind": "mlp"}]
    yield [{"kind": "block"}]


def _parts(names: Sequence[str]) -> list[str | dict[str, str]]:
    """Texts as a mixture has them: with a name of their own where two files have the same."""
    stems = [Path(name.split(":")[-1]).stem for name in names]
    return [
        name if stems.count(stem) == 1 else {"source": name, "name": f"{stem}-{stems[:place].count(stem) + 1}"}
        for place, (name, stem) in enumerate(zip(names, stems, strict=True))
    ]


def _held_out(part: str | dict[str, str], alone: bool) -> dict[str, str]:
    """A text to confirm on, by a name that it may have there."""
    section = {"source": part} if isinstance(part, str) else part
    return {**section, **({"name": "held-out"} if alone else named_held(section))}


WORDS: Mapping[str, str] = {
    "model": "a folder, a .gguf file, a hub name, or package:NAME",
    "calibration": "what candidates are scored on",
    "held_out": "other documents: what is found is confirmed on them, beside the baselines",
    "genes": "what may be done to which layers; add layers: 2-28 to leave some alone",
    "budgets": "the most that a plan may cost: shares of dense (0.7x, 70%) or numbers (100M, 300MB, 40ms)",
    "objectives": "what the front is of",
    "score": "how far embeddings of texts are from the dense model's: it has no head, so that there is no perplexity",
    "latency": "of a request of so many tokens in and out; quick measures for 20 seconds, its default is 180",
    "quantizer": "to the nearest; for more types, and an importance matrix, install llama-cpp-python",
    "pruner": "magnitude, wanda, ria, sparsegpt or admm",
    "target": "nothing is searched that could not go there",
    "strategy": "or evopress, greedy, knapsack, random; for fronts also nsga2, sms-emoa, tpe",
    "effort": "or a number of tokens or evaluations, which gives the same result on every machine",
    "seed": "of everything random",
    "baselines": "what is found stands beside these; add random, greedy, knapsack: each may take as long as the search",
}


def _commented(values: Mapping[str, Any], wish: Wish, shape: Anatomy) -> str:
    """The recipe as YAML, with a word on every section."""
    lines = [
        f"# {GOALS[wish.goal][0].upper()}{GOALS[wish.goal][1:]}.",
        f"# For a {shape.family} of {len(shape.blocks)} layers. secateur space shows it, secateur search does it.",
    ]
    for key, value in values.items():
        plain = not isinstance(value, dict | list)
        shown = yaml.safe_dump(
            {key: value}, sort_keys=False, default_flow_style=False if plain else None, allow_unicode=True, width=100
        )
        lines += ["", f"# {WORDS[key]}", shown.rstrip()]
    return "\n".join(lines) + "\n"


def told(description: Description) -> Sequence[str]:
    """Of what a recipe would search: what it takes."""
    return [line for line in description.lines if line.startswith(("Search:", "Estimated", "Model:"))]

"""What a recipe may write shorter, and what it may leave out: from what its author writes to what it says in full.

A run keeps its recipe in full, so that nothing here can change what it means later.
"""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from ...search.strategies.table import STRATEGIES, load
from ...space.budget import WHOLE
from ...space.costs import COSTS, LATENCIES
from ...space.errors import SecateurError
from ...space.limits import is_score
from .problems import shown
from .settings import TextSettings, ValidationSettings

DEFAULT_STRATEGY = "surrogate"
MINUTES = 20
"""Of a search whose recipe limits it by nothing."""
LONGEST = 60
"""Characters of a phrase."""
TAKEN = ("calibration", "training")
"""Names of texts that are none of held-out ones."""
OF_ALL = ("length", "positions", "prefix")
"""What texts that are mixed have to agree on."""
SEQUENCES = 32
"""Of a text that does not say how many."""
HELD_OUT = 16
"""Sequences at most that are kept from the search where a recipe names no text to confirm on."""
VALIDATED = 32
"""Sequences of calibration from which a share is kept to choose the answer on, unless the recipe says otherwise."""
AFFORDED = 6
"""How many times what validating takes the effort has to be for that."""
ONLY_ZEROS = frozenset({"linear_weights", "nonzero_parameters"})
"""Costs that unstructured zeros lower."""
DEFAULT_GENES: Mapping[str, list[dict[str, Any]]] = {
    "zeros": [{"kind": "sparsity", "per": "sublayer", "levels": [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]}],
    "drops": [{"kind": "attention"}, {"kind": "mlp"}],
    "widths": [{"kind": "attention"}, {"kind": "mlp", "levels": "8 levels"}],
}
QUICK: Mapping[str, float] = {"seconds": 20, "spread": 0.02, "repeats": 3}
"""What `latency: quick` measures: less, and less exactly."""
EFFORT = rf"\s*({WHOLE}(?:\.[0-9]+)?)\s*([kKmM]?)\s*(tokens?|evaluations?|min|minutes?|h|hours?)\s*"
EFFORT_SCHEMA: Mapping[str, Any] = {
    "type": "string",
    "pattern": f"^{EFFORT}$",
    "examples": ["20 minutes", "200k tokens"],
}
WORDS: Mapping[str, str] = {
    "model": "a folder, a .gguf file, a hub name or package:NAME",
    "calibration": "a .txt, .jsonl or .parquet file, or a dataset's name",
    "prepare": "a .txt, .jsonl or .parquet file, or a dataset's name",
    "strategy": f"the name of a strategy, such as {DEFAULT_STRATEGY}",
    "effort": "'20 minutes', '200k tokens' or '500 evaluations'",
    "latency": "a device, or quick",
    "training": "lora or full",
}
"""What a section may be written as in a word."""
FACTORS = {"": 1, "k": 10**3, "m": 10**6}


def spelled_out(values: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe with sections and lists where its author has written one word, or one section, for them.

    Raises:
        SecateurError: a word that cannot be read.
    """
    found = dict(values)
    for name, read in _READERS.items():
        if name in found:
            lists = (list, tuple) if name in ("calibration", "prepare") else ()
            if name in WORDS and not isinstance(found[name], (str, Mapping, *lists)) and found[name] is not None:
                raise SecateurError(
                    f"{name}: write {WORDS[name]}, or its settings (key: value), not {shown(found[name])}"
                )
            found[name] = read(found[name])
    return found


def completed(values: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe, spelled out, with genes, a strategy, an effort, validation and a held-out text where it names none."""
    found = dict(values)
    wanted, limited = found.get("objectives"), found.get("budgets")
    if isinstance(wanted, list | tuple) and len(wanted) == 1 and wanted[0] in COSTS and isinstance(limited, Mapping):
        # Of one cost there is no front: it is the smallest plan that keeps the scores that budgets name.
        if any(isinstance(name, str) and is_score(name) for name in limited) and "score" not in found:
            found["score"] = wanted[0]
            del found["objectives"]
    if "genes" not in found:
        found["genes"] = DEFAULT_GENES[_treatment(found)]
    if "effort" not in found and not _ends(found.get("strategy")):
        found["effort"] = {"minutes": MINUTES}
    found.setdefault("strategy", {"name": DEFAULT_STRATEGY})
    found |= _latency(found)
    text = found.get("calibration")
    if "validation" not in found and _can_validate(found):
        found["validation"] = ValidationSettings().model_dump()
    if "held_out" not in found and isinstance(text, Mapping):
        count = text.get("sequences", HELD_OUT)
        count = max(2, min(HELD_OUT, count)) if isinstance(count, int) else HELD_OUT
        kept = {key: value for key, value in text.items() if key not in ("positions", "name", "mixture")}
        found["held_out"] = [{**kept, "sequences": count, "name": "held-out"}]
        if parts := [part for part in text.get("mixture") or () if isinstance(part, Mapping)]:
            # Each by itself: what holds for one need not hold for another.
            found["held_out"] = [
                {
                    **kept,
                    "sequences": count,
                    **{key: value for key, value in part.items() if key != "weight" and value is not None},
                    **named_held(part),
                }
                for part in parts
            ]
    return found


def _can_validate(found: Mapping[str, Any]) -> bool:
    """Whether one plan is searched by its loss, on text of which a share can be spared, with effort enough."""
    text, effort, settings = found.get("calibration"), found.get("effort"), ValidationSettings()
    strategy = found.get("strategy")
    if found.get("objectives") or found.get("training") is not None or found.get("score") in COSTS:
        return False
    # What is said of stages may want all of the text.
    if not isinstance(text, Mapping) or (isinstance(strategy, Mapping) and "schedule" in strategy):
        return False
    sequences, length = (text.get(name, TextSettings.model_fields[name].default) for name in ("sequences", "length"))
    if not (isinstance(sequences, int) and isinstance(length, int) and sequences >= VALIDATED):
        return False
    taken = settings.finalists * round(settings.share * sequences) * length
    limits = effort if isinstance(effort, Mapping) else {}
    enough = {"tokens": taken, "evaluations": settings.finalists}
    try:
        return all(limits.get(name) is None or float(limits[name]) >= AFFORDED * one for name, one in enough.items())
    except (TypeError, ValueError, OverflowError):  # which is told of where it is read
        return False


def _section(key: str) -> Callable[[Any], Any]:
    """A word is its value of `key`."""
    return lambda value: {key: value} if isinstance(value, str) else value


def _text(value: Any) -> Any:
    """A word is a source; a list of texts is a mixture of them."""
    found = _section("source")(value)
    if isinstance(found, Mapping) and isinstance(found.get("mixture"), list | tuple):
        return {**found, "mixture": [_section("source")(part) for part in found["mixture"]]}
    if not isinstance(found, list | tuple):
        return found
    parts = [_section("source")(part) for part in found]
    if len(parts) == 1 or not all(isinstance(part, Mapping) for part in parts):
        return parts[0] if len(parts) == 1 else found
    return _mixed([dict(part) for part in parts])


def named_held(part: Mapping[str, Any]) -> dict[str, Any]:
    """A name for a part as held-out text, where its own means something else there."""
    own = part.get("name") or Path(str(part.get("source", "")).split(":")[-1]).stem
    return {"name": f"held-out {own}"} if own in TAKEN else {}


def _mixed(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """A list of texts as one: as many sequences as they have together, by weight, or else as many of each as it says.

    Raises:
        SecateurError: they differ in what they have to agree on.
    """
    whole: dict[str, Any] = {}
    for key in OF_ALL:
        said = [part.pop(key) for part in parts if key in part]
        if any(value != said[0] for value in said):
            raise SecateurError(f"mixture: texts that are mixed have one '{key}', not {shown(said)}")
        whole |= {key: said[0]} if said else {}
    counts = [part.pop("sequences", SEQUENCES) for part in parts]
    if not all(isinstance(count, int) and count > 0 for count in counts):
        raise SecateurError(f"mixture: 'sequences' are numbers, not {shown(counts)}")
    if not any("weight" in part for part in parts):
        parts = [{**part, "weight": count} for part, count in zip(parts, counts, strict=True)]
    return {"mixture": parts, "sequences": sum(counts), **whole}


def _list_of(one: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A word or a section alone is a list of itself."""

    def read(value: Any) -> Any:
        if isinstance(value, str | Mapping):
            return [one(value)]
        return [one(part) for part in value] if isinstance(value, list | tuple) else value

    return read


def _strategy(value: Any) -> Any:
    found = _section("name")(value)
    if isinstance(found, Mapping) and "name" not in found:
        found = {"name": DEFAULT_STRATEGY, **found}
    if isinstance(found, Mapping) and "warm" in found:
        found = {**found, "warm": _section("name")(found["warm"])}
    if isinstance(found, Mapping) and isinstance(found.get("initial"), str):
        found = {**found, "initial": [found["initial"]]}
    return found


def _training(value: Any) -> Any:
    found = _section("what")(value)
    return (
        {**found, "text": _section("source")(found["text"])}
        if isinstance(found, Mapping) and "text" in found
        else found
    )


def _baselines(value: Any) -> Any:
    return ([] if value == "none" else [value]) if isinstance(value, str) and value != "all" else value


def _budgets(value: Any) -> Any:
    """Lines such as "parameters <= 0.7x"; a section passes as it is."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple) or not all(isinstance(line, str) for line in value):
        return value
    found: dict[str, str] = {}
    for line in value:
        name, sign, limit = line.partition("<=")
        if not sign or not name.strip():
            raise SecateurError(f"budgets: cannot read '{line[:60]}'; write a cost and its limit: parameters <= 0.7x")
        if name.strip() in found:
            raise SecateurError(f"budgets: {name.strip()[:40]} is limited twice")
        found[name.strip()] = f"<= {limit.strip()}"
    return found


def _effort(value: Any) -> Any:
    """Text such as "20 minutes" or "200k tokens"; a section passes as it is."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(EFFORT, value) if len(value) <= LONGEST else None
    if match is None:
        raise SecateurError(
            f"effort: cannot read '{value[:60]}'; write '20 minutes', '200k tokens' or '500 evaluations'"
        )
    number = Decimal(match[1].replace("_", "").replace(",", "")) * FACTORS[match[2].lower()]
    unit = match[3]
    if unit.startswith(("h", "min")):
        return {"minutes": float(number * (60 if unit.startswith("h") else 1))}
    return {"tokens" if unit.startswith("t") else "evaluations": int(number)}


def _device(value: Any) -> Any:
    """A word is a device, or `quick`."""
    if isinstance(value, str):
        return {"quick": True} if value == "quick" else {"device": value}
    return value


def _latency(values: Mapping[str, Any]) -> dict[str, Any]:
    """Where latency is wanted: on the model's device, unless another is named."""
    given, model = values.get("latency"), values.get("model")
    if given is None and any(name in LATENCIES for name in _named(values)):
        given = {}
    if not isinstance(given, Mapping):
        return {}
    device = model.get("device", "cpu") if isinstance(model, Mapping) else "cpu"
    own = {key: value for key, value in given.items() if key != "quick"}
    return {"latency": {"device": str(device).split(":")[0], **(QUICK if given.get("quick") else {}), **own}}


def _treatment(values: Mapping[str, Any]) -> str:
    """What lowers the costs that a recipe limits, or wants to see: zeros, drops, or widths."""
    costs = {name for name in _named(values) if name in COSTS}
    if costs and costs <= ONLY_ZEROS:
        return "zeros"
    return "drops" if costs == {"sublayers"} else "widths"


def _named(values: Mapping[str, Any]) -> list[str]:
    """Costs and scores that are limited, or wanted."""
    parts = (values.get(key) for key in ("budgets", "objectives"))
    names = [name for part in parts if isinstance(part, Mapping | list | tuple) for name in part]
    return [name for name in [*names, values.get("score")] if isinstance(name, str)]


def _ends(strategy: Any) -> bool:
    """Whether a strategy that is named comes to an end of its own."""
    name = strategy.get("name") if isinstance(strategy, Mapping) else None
    return isinstance(name, str) and name in STRATEGIES and load(name).ends


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "model": _section("path"),
    "calibration": _text,
    "prepare": _text,
    "validation": lambda value: {"share": value} if isinstance(value, float) else value,
    "held_out": _list_of(_section("source")),
    "genes": _list_of(_section("kind")),
    "budgets": _budgets,
    "objectives": _list_of(lambda name: name),
    "training": _training,
    "strategy": _strategy,
    "effort": _effort,
    "latency": _device,
    "workers": lambda value: {"count": value} if isinstance(value, int) and not isinstance(value, bool) else value,
    "log": _list_of(_section("to")),
    "baselines": _baselines,
}

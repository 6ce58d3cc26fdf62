"""What is wrong with a recipe, in words of its own: pydantic's errors, of which nothing is left but where and what."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...space.errors import suggest
from ...space.settings import UNKNOWN, Settings
from .training import EACH, ONE

MEMBERS = ("literal[", "function-", "tuple[", "constrained-", "list[", "dict[")
"""How pydantic's names for members of a union begin, besides those of classes and of plain types."""
PLAIN = ("str", "int", "float", "bool")
MOST, LONGEST = 8, 200
"""Problems that are told of a recipe, and characters of each."""
WANTED = {
    "model": "its settings (key: value)",
    "dict": "settings (key: value)",
    "mapping": "settings (key: value)",
    "tuple": "a list",
    "list": "a list",
    "string": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "none": "null",
}
"""What pydantic would have taken, by the beginning of the name of its error."""
LIMITS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}


def problems(found: Sequence[Mapping[str, Any]], within: tuple[str, ...] = ()) -> str:
    """Pydantic's errors as text: the first of them, each once and not too long.

    `within`: the keys that lead to what was validated.
    """
    # A list whose items are wrong is also reported as too short; the items say it better.
    deeper = {tuple(one["loc"][:length]) for one in found for length in range(len(one["loc"]))}
    kept = [one for one in found if one["type"] != "too_short" or tuple(one["loc"]) not in deeper]
    # Where a word or a section may stand and there is a section, only what is wrong with that is of use.
    kept = [one for one in kept if not (_is_word(one["loc"]) and isinstance(one["input"], Mapping))]
    # What may be one of several things is refused by each of them.
    places: dict[str, list[Mapping[str, Any]]] = {}
    for one in kept:
        places.setdefault(".".join((*within, *_keys(one))) or "recipe", []).append(one)
    told = [
        (said if where == "recipe" else f"{where}: {said}")[:LONGEST]
        for where, some in places.items()
        for said in _said(some)
    ]
    more = f"; and {len(told) - MOST:,} more" if len(told) > MOST else ""
    return "; ".join(told[:MOST]) + more


def _said(errors: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is wrong in one place."""
    wanted, words, others = [], [], []
    for one in errors:
        kind, context = str(one["type"]), one.get("ctx") or {}
        part = kind.split("_")[0]
        if kind == "missing":
            others.append("missing")
        elif kind == "literal_error":
            words += re.findall(r"'([^']*)'|(\d+)", str(context["expected"]))
        elif kind in LIMITS:
            word, name = LIMITS[kind]
            others.append(f"must be {word} {context[name]}, not {shown(one['input'])}")
        elif kind in ("too_short", "string_too_short"):
            others.append("must not be empty" if context["min_length"] == 1 else f"too short: {context['min_length']}")
        elif kind in ("too_long", "string_too_long"):
            others.append(f"too long: at most {context['max_length']}")
        elif kind == "finite_number":
            others.append("must be finite")
        elif part in WANTED and kind != UNKNOWN:
            wanted.append(WANTED[part])
        else:
            others.append(str(one["msg"]).removeprefix("Value error, "))
    given = shown(errors[0]["input"])
    if words and isinstance(errors[0]["input"], str):
        others.append(f"unknown {given}; {suggest(errors[0]['input'][:40], [''.join(word) for word in words])}")
    elif words and not others:
        wanted.append(f"one of {', '.join(''.join(word) for word in words)}")
    if wanted and not others:
        if "a number" in wanted:
            wanted = [word for word in wanted if word != "a whole number"]
        others.append(f"write {' or '.join(dict.fromkeys(wanted))}, not {given}")
    return list(dict.fromkeys(others))


def shown(value: object) -> str:
    """A value as messages name it."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "settings"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value.bit_length() > LONGEST:
        return "a number that long"
    text = str(value)
    return f"'{text[:40]}{'…' if len(text) > 40 else ''}'" if isinstance(value, str) else text[:40]


def _keys(error: Mapping[str, Any]) -> list[str]:
    """The path to an error.

    Classes, validators and tags, by which pydantic tells the members of a union apart, stand in its path like keys.
    """
    path, last = error["loc"], len(error["loc"]) - 1
    # A key that is not known is shown whatever it looks like.
    return [
        str(part) for n, part in enumerate(path) if not _is_member(part, n, path) or (n == last and _unknown(error))
    ]


def _unknown(error: Mapping[str, Any]) -> bool:
    return bool(error["type"] == UNKNOWN)


def _is_word(location: Sequence[Any]) -> bool:
    """Whether an error is about the one of several kinds of value that is a word of a few."""
    return bool(location) and str(location[-1]).startswith("literal[")


def _is_member(part: object, place: int, path: Sequence[Any]) -> bool:
    """Whether a part of a path is no key, but says which member of a union was tried."""
    if not isinstance(part, str):
        return False
    plain = part in PLAIN and place == len(path) - 1 and place > 0
    return plain or part in (ONE, EACH) or part in _sections(Settings) or part.startswith(MEMBERS)


def _sections(settings: type[Settings]) -> set[str]:
    """The names of all classes of settings."""
    return {settings.__name__}.union(*(_sections(one) for one in settings.__subclasses__()))

"""The plain values of a recipe, as a file holds them and `--set` changes them."""

from pathlib import Path
from typing import Any

from ...files import DEPTH, LARGEST_YAML, parsed, read_text
from ...space.errors import SecateurError


def read_values(path: Path, where: str) -> dict[str, Any]:
    """The settings in a file; raises SecateurError where it cannot be read or holds something else."""
    values = parsed(read_text(path, where, LARGEST_YAML), where)
    if not isinstance(values, dict):
        kind = type(values).__name__
        raise SecateurError(f"{where}: expected settings such as 'model:' and 'genes:', got {kind}")
    return values


def apply(values: dict[str, Any], setting: str) -> None:
    """Changes values by `key=value`, such as `effort.tokens=50000`; raises SecateurError where that is impossible."""
    shown = setting[:80]
    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise SecateurError(f"--set {shown}: write key=value, such as effort.tokens=50000")
    *parents, last = key.split(".")
    if len(parents) > DEPTH:
        raise SecateurError(f"--set {shown}: there is no setting that deep")
    at: Any = values
    for part in parents:
        if isinstance(at, dict) and at.get(part) is None:
            at[part] = {}
        at = at[part] if isinstance(at, dict) else at[_index(at, part, shown)]
    value = parsed(text, f"--set {shown}")
    if isinstance(at, dict):
        at[last] = value
    else:
        at[_index(at, last, shown)] = value


def _index(values: Any, part: str, setting: str) -> int:
    if isinstance(values, list) and part.isascii() and part.isdecimal() and len(part) < 9 and int(part) < len(values):
        return int(part)
    raise SecateurError(f"--set {setting}: there is no '{part}' to set")

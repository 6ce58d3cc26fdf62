"""YAML as plain values: bounded in size, depth and what aliases make of it, each key once, and changed by `--set`."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from ..files import read_text
from ..space.errors import SecateurError, said

LARGEST, NODES, DEPTH = 2**20, 20_000, 50
"""Bytes, values (aliases written out), and lists within lists: a recipe has a few hundred of two or three."""


_SURROGATE = re.compile("[\ud800-\udfff]")


class _Loader(yaml.SafeLoader):
    """YAML without the silent second meaning, a key that stands twice, and told early where it is too much."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._nodes += 1
        if self._nodes > NODES:
            raise yaml.YAMLError(f"more than {NODES:,} values")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        counts = Counter(key.value for key, _ in node.value if isinstance(key.value, str))
        twice = next((key for key, count in counts.items() if count > 1), None)
        if twice is not None:
            raise yaml.YAMLError(f"'{twice[:80]}' stands there twice, line {node.start_mark.line + 1}; keep one")
        return super().construct_mapping(node, deep)


def read_values(path: Path, where: str) -> dict[str, Any]:
    """The settings in a file; raises SecateurError where it cannot be read or holds something else."""
    values = parsed(read_text(path, where, LARGEST), where)
    if not isinstance(values, dict):
        kind = type(values).__name__
        raise SecateurError(f"{where}: expected settings such as 'model:' and 'genes:', got {kind}")
    return values


def parsed(text: str, where: str) -> Any:
    """Plain values; raises SecateurError where the text is no YAML, or too much of it."""
    if len(text) > LARGEST:
        raise SecateurError(f"{where}: is longer than {LARGEST:,} characters")
    if max(_depths(text), default=0) > DEPTH:
        raise SecateurError(f"{where}: not YAML: lists within lists, {DEPTH} deep")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, {}, where)
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, OverflowError, RecursionError) as error:
        raise SecateurError(f"{where}: not YAML: {said(error)}") from error


def _depths(text: str) -> list[int]:
    """How many brackets are open at each that opens: deep ones are told before a parser follows them down."""
    depth, found = 0, []
    for character in text:
        if character in "[{":
            depth += 1
            found.append(depth)
        elif character in "]}":
            depth -= 1
    return found


def _count(node: yaml.Node, known: dict[int, int], where: str) -> int:
    """Values below a node with aliases written out; raises SecateurError where they are too many, or without end."""
    if id(node) in known:
        if not known[id(node)]:
            raise SecateurError(f"{where}: not YAML: a value that holds itself, line {node.start_mark.line + 1}")
        return known[id(node)]
    known[id(node)] = 0
    total = 1
    if isinstance(node, yaml.ScalarNode) and _SURROGATE.search(str(node.value)):
        raise SecateurError(
            f"{where}: not YAML: half of a character (a lone surrogate), line {node.start_mark.line + 1}"
        )
    if isinstance(node, yaml.MappingNode):
        total += sum(_count(part, known, where) for pair in node.value for part in pair)
    elif isinstance(node, yaml.SequenceNode):
        total += sum(_count(part, known, where) for part in node.value)
    if total > NODES:
        raise SecateurError(f"{where}: holds more than {NODES:,} values")
    known[id(node)] = total
    return total


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

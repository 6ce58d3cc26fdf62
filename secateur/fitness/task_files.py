"""Definitions of lm-eval tasks before lm-eval reads them: whether they are whole, and whether they would run code."""

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from ..space.errors import SecateurError
from .border import border

PLAIN = "tag:yaml.org,2002:"
"""How the tags of YAML's own kinds of values begin."""
LARGEST = 2**24
"""Bytes of a definition."""
_TEMPLATE = re.compile(r"\{[{%].*?(__|\|\s*attr\b)", re.DOTALL)
"""A template that reaches for the insides of Python's objects, from which any code can be run."""


def check_code(include: str | None, allowed: bool, where: str, allow: str) -> None:
    """Refuses definitions in a folder that run Python, unless that is `allowed`; `allow` says how it would be.

    Raises:
        SecateurError: one cannot be read, or would run code.
    """
    folder = Path(include) if include is not None else None
    if folder is None or allowed:
        return
    seen: set[Path] = set()
    todo = [path for path in sorted(folder.rglob("*")) if path.suffix in (".yaml", ".yml") and path.is_file()]
    while todo:
        path = todo.pop()
        if path.resolve() in seen:
            continue
        seen.add(path.resolve())
        with border(f"{where}: {path} is no task definition that can be read"):
            root = yaml.compose(_content(path), Loader=yaml.SafeLoader)
        for node in _nodes(root):
            runs = not node.tag.startswith(PLAIN) or node.tag.startswith(f"{PLAIN}python")
            template = isinstance(node, yaml.ScalarNode) and _TEMPLATE.search(str(node.value)) is not None
            if runs or template:
                raise SecateurError(
                    f"{where}: {path}, line {node.start_mark.line + 1}: {str(node.value)[:80]!r} would run Python; "
                    f"{allow} lets it, if you trust the file"
                )
        todo += _included(root, path)


def _content(path: Path) -> str:
    if path.stat().st_size > LARGEST:
        raise ValueError(f"it is larger than {LARGEST:,} bytes")
    return path.read_text(encoding="utf8")


def _nodes(root: yaml.Node | None) -> Iterator[yaml.Node]:
    """Every node of a document once; aliases make cycles."""
    seen: set[int] = set()
    todo = [root] if root is not None else []
    while todo:
        node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, yaml.MappingNode):
            todo += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            todo += node.value


def _included(root: yaml.Node | None, path: Path) -> list[Path]:
    """The files that a definition takes over."""
    if not isinstance(root, yaml.MappingNode):
        return []
    found = []
    for key, value in root.value:
        if key.value == "include":
            names = value.value if isinstance(value, yaml.SequenceNode) else [value]
            found += [path.parent / str(name.value) for name in names]
    return [one for one in found if one.is_file()]

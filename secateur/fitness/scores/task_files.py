"""Definitions of lm-eval tasks before lm-eval reads them: whether they are whole, and whether they would run code."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from ...files import read_text
from ...space.errors import SecateurError, border

PLAIN = "tag:yaml.org,2002:"
"""How the tags of YAML's own kinds of values begin."""
LARGEST = 2**24
"""Bytes of a definition."""
_TEMPLATE = re.compile(r"\{[{%].*?(__|\|\s*attr\b)", re.DOTALL)
"""A template that reaches for the insides of Python's objects, from which any code can be run."""


_ENVIRONMENTS: dict[str, Any] = {}
"""lm-eval's own, once another has stood in its place."""


def check_code(include: str | None, allowed: bool, where: str, allow: str) -> None:
    """Refuses definitions in a folder that run Python, unless that is `allowed`; `allow` says how it would be.

    Raises:
        SecateurError: one cannot be read, or would run code.
    """
    folder = Path(include) if include is not None else None
    if folder is None or allowed:
        return
    seen: set[Path] = set()
    todo = [path for path in sorted(folder.rglob("*")) if path.suffix in (".yaml", ".yml")]
    while todo:
        path = todo.pop()
        if path.resolve() in seen:
            continue
        seen.add(path.resolve())
        unreadable = f"{where}: {path} is no task definition that can be read"
        text = read_text(path, unreadable, LARGEST)
        with border(unreadable):
            root = yaml.compose(text, Loader=yaml.SafeLoader)
            for node in _nodes(root):
                if isinstance(node, yaml.MappingNode):  # what is merged into it stands in it
                    yaml.SafeLoader("").flatten_mapping(node)
            nodes = list(_nodes(root))
        for node in nodes:
            if _runs_python(node):
                raise SecateurError(
                    f"{where}: {path}, line {node.start_mark.line + 1}: {str(node.value)[:80]!r} would run Python; "
                    f"{allow} lets it, if you trust the file"
                )
            _check_metric(node, f"{where}: {path}", allow)
        todo += [path.parent / name for node in nodes for name in _included(node)]


def _runs_python(node: yaml.Node) -> bool:
    """Whether a value names a function, or is a template that goes for the insides of Python's objects."""
    if isinstance(node, yaml.ScalarNode) and _TEMPLATE.search(str(node.value)) is not None:
        return True
    return not node.tag.startswith(PLAIN) or node.tag.startswith(f"{PLAIN}python")


def _check_metric(node: yaml.Node, where: str, allow: str) -> None:
    """Raises SecateurError for a metric that is not lm-eval's own: it would be looked for as a file, and run."""
    from lm_eval.api import metrics  # noqa: F401 - enters them into the registry
    from lm_eval.api.registry import METRIC_REGISTRY

    entries = _entries(node)
    name, fetched = entries.get("metric"), entries.get("hf_evaluate")
    foreign = isinstance(name, yaml.ScalarNode) and str(name.value) not in METRIC_REGISTRY
    if foreign or (fetched is not None and str(fetched.value).lower() not in ("false", "no", "off")):
        shown = str(name.value)[:80] if name is not None else "hf_evaluate"
        raise SecateurError(
            f"{where}, line {node.start_mark.line + 1}: the metric {shown!r} is none of lm-eval's own, and would be "
            f"fetched and run as Python; {allow} lets it, if you trust the file"
        )


def _entries(node: yaml.Node) -> dict[str, yaml.Node]:
    """The values of a mapping by those of its keys that are words; nothing for other nodes."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return {str(key.value): value for key, value in pairs if isinstance(key, yaml.ScalarNode)}


def sandbox_templates(sandboxed: bool) -> None:
    """Has lm-eval fill in the templates of tasks in Jinja's sandbox, or as it would by itself."""
    from jinja2 import BaseLoader, StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from lm_eval import utils

    _ENVIRONMENTS.setdefault("own", utils.env)
    if sandboxed:
        environment = ImmutableSandboxedEnvironment(
            loader=BaseLoader(), undefined=StrictUndefined, keep_trailing_newline=True
        )
        environment.filters.update(_ENVIRONMENTS["own"].filters)
        utils.env = environment
    else:
        utils.env = _ENVIRONMENTS["own"]


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


def _included(node: yaml.Node) -> list[str]:
    """The names of the files that a definition takes over."""
    value = _entries(node).get("include")
    names = value.value if isinstance(value, yaml.SequenceNode) else [value] if value is not None else []
    return [str(name.value) for name in names]

"""Every public name says what it is; what fulfils a protocol, or overrides, may leave that to what it fulfils."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "secateur"
COPIED = "fitness/model/surgery.py"
"""Whose modules stand in exported checkpoints, and say in their classes what they are."""


def public(body: list[ast.stmt], owner: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    """(name of the class around it, definition) of all that is public."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield owner, node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, node.name)


def test_public_names_have_docstrings() -> None:
    files = [path for path in PACKAGE.rglob("*.py") if "snippets" not in path.parts]
    found = [(path, *one) for path in files for one in public(ast.parse(path.read_text()).body)]
    said = {node.name for _, owner, node in found if owner and ast.get_docstring(node)}
    silent = [
        f"{path.relative_to(PACKAGE)}: {owner}.{node.name}"
        for path, owner, node in found
        if not ast.get_docstring(node)
        and not (owner and node.name in said)
        and not (owner and (path.as_posix().endswith(COPIED) or ("property" in ast.dump(node) and _is_ellipsis(node))))
        and node.name != "render_str"  # rich's
    ]
    assert not silent, silent
    assert len(found) > 1100


def _is_ellipsis(node: ast.FunctionDef | ast.ClassDef) -> bool:
    """Whether it is an attribute of a protocol, which the protocol's docstring describes."""
    [first, *rest] = node.body
    return (
        not rest and isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and first.value.value is ...
    )

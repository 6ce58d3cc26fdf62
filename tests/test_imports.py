"""Imports point one way."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "secateur"
MAY_IMPORT = {
    "space": set(),
    "operators": {"space"},
    "search": {"space", "operators"},
    "fitness": {"space", "files"},
    "runs": {"space", "files"},
    "runs/export": {"space", "fitness", "files"},
}
HEAVY = {"torch", "transformers", "datasets", "lm_eval"}


def test_imports_point_one_way() -> None:
    for path in PACKAGE.glob("*/**/*.py"):
        parts = path.relative_to(PACKAGE).parts
        room = "runs/export" if parts[:2] == ("runs", "export") else parts[0]
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = list(parts[: len(parts) - node.level]) + (node.module or "").split(".")
                assert base[0] == parts[0] or base[0] in MAY_IMPORT[room], f"{path} imports {base}"
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            heavy = {name.split(".")[0] for name in names} & HEAVY
            assert not heavy or room in ("fitness", "runs/export"), f"{path} imports {heavy}"

"""Imports point one way, in every file of the package, and in no circle."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "secateur"
FACES = {"api", "terminal", "files", "__init__", "__main__"}
"""What stands at the package's top level beside the rooms; the command line (`cli`) is one."""
BELOW = {"space", "files"}
WORK = {
    *BELOW,
    "operators",
    "search",
    "fitness",
    "plans",
    "plans/checkpoint",
    "runs/asked",
    "runs/record",
    "runs/report",
    "runs/watcher",
}
MAY_IMPORT: Mapping[str, set[str]] = {
    "space": set(),
    "files": {"space"},
    "operators": {"space"},
    "search": {"space", "operators"},
    "fitness": BELOW,
    "plans": BELOW,
    "plans/checkpoint": {*BELOW, "plans", "fitness"},
    "runs/asked": {*BELOW, "operators", "search"},
    "runs/record": {*BELOW, "runs/asked"},
    "runs/report": {*BELOW, "plans", "runs/asked", "runs/record"},
    "runs/watcher": set(),
    "runs": WORK,
    "terminal": {*BELOW, "runs/watcher"},
    "cli": {*WORK, "runs", "terminal", "api", "__init__"},
    "api": {*WORK, "runs"},
    "__init__": {*WORK, "api"},
    "__main__": {*BELOW, "terminal", "cli"},
}
"""For each room the others that it may import from; what is in no room of its own belongs to the one above."""
HEAVY = {"torch", "transformers", "datasets", "lm_eval", "safetensors"}
"""Libraries that are for rooms with models alone."""


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name inside it; snippets are copied out and import nothing of ours."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if "snippets" not in parts:
            found[".".join(parts)] = path
    return found


def room(module: str) -> str:
    parts = module.split(".")
    names = ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]
    return next(name for name in names if name in MAY_IMPORT)


def imported(module: str, path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """The modules of the package that one imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = module.split(".")[: -node.level]
            base += node.module.split(".") if node.module else []
            for alias in node.names:
                names = (".".join([*base, alias.name]), ".".join(base), ".".join([*base, "__init__"]))
                yield next(name for name in names if name in known)


def test_imports_point_one_way() -> None:
    known, count = modules(), 0
    for module, path in known.items():
        for other in imported(module, path, known):
            count += 1
            own, theirs = room(module), room(other)
            assert own == theirs or theirs in MAY_IMPORT[own], f"{module} ({own}) imports {other} ({theirs})"
    assert len(known) > 150
    assert count > 800, "imports are not found any more"


def test_imports_go_in_no_circle() -> None:
    known = modules()
    left = {module: set(imported(module, path, known)) - {module} for module, path in known.items()}
    while free := {module for module, others in left.items() if not others & left.keys()}:
        left = {module: others for module, others in left.items() if module not in free}
    assert not left, f"in a circle, or above one: {sorted(left)}"


def test_absolute_imports_are_of_libraries_and_models_stay_in_their_rooms() -> None:
    for module, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            roots = {name.split(".")[0] for name in names}
            assert "secateur" not in roots, f"{module} imports {names}"
            assert not roots & HEAVY or room(module) in ("fitness", "plans/checkpoint"), f"{module} imports {names}"


def test_no_module_lies_loose() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == FACES

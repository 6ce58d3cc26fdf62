"""The recipes that ship with the package, and may be named wherever a recipe's file may."""

from pathlib import Path

FOLDER = Path(__file__).parents[2] / "recipes"


def shipped() -> dict[str, Path]:
    """Their files, by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def recipe_file(path: Path) -> Path:
    """The file that is meant: one of that path, or else the recipe of that name that ships with us."""
    named = not path.suffix and path.name == str(path) and not path.exists()
    return shipped().get(path.name, path) if named else path

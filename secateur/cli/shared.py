"""What commands have in common: where they print, and the arguments that several take."""

import dataclasses
import json
import math
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from ..terminal import Terminal

console, errors = Terminal(), Terminal(stderr=True)

RecipeFile = Annotated[
    Path, typer.Argument(help="The recipe, a YAML file; or the name of one that ships with us.", metavar="RECIPE")
]
RunPath = Annotated[Path, typer.Argument(help="The folder of a run.", metavar="RUN")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Override a setting: key=value, such as effort.tokens=50000 or baselines=[shortgpt]; may be repeated.",
    ),
]
Workers = Annotated[list[str] | None, typer.Option("--set", help="Other workers than the recipe's: workers=4.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
PICK = "Which plan: 'found' or a baseline's name; of a front 'knee', a rank, or a limit such as 'latency<=0.6x'."
MOST_TOKENS = 10**13
LARGEST = 10**300
"""Of numbers in JSON; what is more is text, since no reader takes it."""


def print_json(value: Any) -> None:
    """Prints values, dataclasses among them, as JSON that every reader takes: what is no finite number is null."""
    print_raw(json.dumps(_plain(value), indent=1, ensure_ascii=False, allow_nan=False))


def print_raw(text: str) -> None:
    """Prints what was asked for and nothing else, whether or not everything else is silent."""
    silent, console.silent = console.silent, False
    try:
        console.out(text, highlight=False)
    finally:
        console.silent = silent


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int) and abs(value) > LARGEST:
        return f"{Decimal(value):.6e}"
    return value if isinstance(value, str | int | bool) or value is None else str(value)

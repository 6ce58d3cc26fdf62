"""What a format is: how one tool's files are written, and read back."""

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...files import parsed, read_bytes, read_json, read_text
from ...space.anatomy import Anatomy
from ...space.errors import SecateurError, said
from ..changes import Changes
from ..features import Subject

Files = dict[str, str | bytes]
"""What an export consists of: contents by file name."""
LARGEST = 2**26
"""Bytes of a plan of another tool's."""


@dataclass(frozen=True)
class Content:
    """A file that somebody's tool has written, in whichever of these ways it can be read.

    Attributes:
        where: for messages.
        values: plain values of JSON or YAML; None for other text.
        rows: of CSV.
        array: of .npy.
        text: as it is; empty for .npy.
    """

    path: Path
    where: str
    values: Any = None
    rows: tuple[dict[str, str], ...] | None = None
    array: NDArray[Any] | None = None
    text: str = ""

    @property
    def names(self) -> frozenset[str]:
        """Keys, where the values are a mapping."""
        return frozenset(map(str, self.values)) if isinstance(self.values, dict) else frozenset()

    @cached_property
    def lines(self) -> list[str]:
        """Of text that is nothing else, without empty ones."""
        plain = self.values is None and self.rows is None
        return [line.strip() for line in self.text.splitlines() if line.strip()] if plain else []

    @property
    def leveled(self) -> bool:
        """Whether its lines are all `name: level`."""
        return bool(self.lines) and all(":" in line for line in self.lines)

    @cached_property
    def numbers(self) -> Mapping[str, Any]:
        """What stands in the metadata.json beside it.

        Raises:
            SecateurError: there is none, or it cannot be read.
        """
        meta = self.path.with_name("metadata.json")
        if not meta.exists():
            raise SecateurError(
                f"{self.where}: levels say nothing without the numbers they count in; put a metadata.json beside it "
                'with "sparsity" and "weights_diff", or for bits "group_size" (EvoPress), or "cols_removed_attn" and '
                '"cols_removed_mlp" (DarwinLM)'
            )
        values = read_json(meta, f"plan {meta}", LARGEST)
        return values if isinstance(values, dict) else {}


def content_of(path: Path) -> Content:
    """Reads a file by its ending, and text that begins as a JSON list as that.

    Raises:
        SecateurError: it cannot be read.
    """
    where = f"plan {path}"
    try:
        if path.suffix == ".npy":
            stored = io.BytesIO(read_bytes(path, where, LARGEST))
            return Content(path, where, array=np.lib.format.read_array(stored, allow_pickle=False))
        # utf-8-sig: files edited on Windows may begin with a mark.
        text = read_text(path, where, LARGEST, "utf-8-sig")
        if path.suffix == ".csv":
            return Content(path, where, rows=tuple(csv.DictReader(io.StringIO(text))), text=text)
        if path.suffix in (".yaml", ".yml"):
            return Content(path, where, parsed(text, where), text=text)
        json_list = text.lstrip().startswith("[")
        return Content(path, where, json.loads(text) if path.suffix == ".json" or json_list else None, text=text)
    except (OSError, ValueError, EOFError, RecursionError, MemoryError, csv.Error) as error:
        raise SecateurError(f"{where}: cannot be read: {said(error)}") from error


def nothing(_: Subject) -> None:
    """No further reason not to carry a subnet."""


@dataclass(frozen=True, slots=True)
class Format:
    """One format. One file in `formats/` has it, and one line in `table.py` makes exports and imports know it.

    Attributes:
        about: what it is and who reads it.
        carries: what it can express.
        write: makes its files; None where that takes the model's weights.
        weights: what does that: "module:function", a `checkpoint.Begin`.
        refuses: why it cannot carry a subnet although it could express all of it.
        reads: whether a file is one of these; None: it is never read.
        read: what a file says; any error that bad content makes it raise is told as that.
        options: names of what else can be said of its writing.
        first: it reads sizes off the first layer, which has to keep some attention.
        biases: why added biases have no place in a model of a family; None where they have.
        sublayers: those that it knows; None: any.
        head: its tool knows models alone that predict tokens.
    """

    name: str
    about: str
    carries: frozenset[str]
    write: Callable[[Subject], Files] | None = None
    weights: str = ""
    refuses: Callable[[Subject], str | None] = nothing
    reads: Callable[[Content], bool] | None = None
    read: Callable[[Content, Anatomy], Changes] | None = None
    options: tuple[str, ...] = ()
    first: bool = False
    biases: Callable[[Anatomy], str | None] = lambda _: None
    sublayers: tuple[str, ...] | None = None
    head: bool = False


def of(*carried: str) -> frozenset[str]:
    """What a format carries, as its features are written."""
    return frozenset(carried)


ZEROS = of("shares", "patterns")
DROPS = of("layers", "sublayers")
UNITS = DROPS | of("groups", "channels")
TRANSFORMER = ("attention", "mlp")
"""The sublayers that most tools know."""

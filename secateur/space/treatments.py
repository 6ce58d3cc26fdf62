"""What is done to the weights of a linear, and what that leaves of them."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from .errors import SecateurError
from .tables import load

STEPS = 200
"""Unstructured sparsity is counted in steps of 1/200, so that one byte says at which step a weight dies."""


class Treatment(Protocol):
    """What is done to the matrix of a linear: a frozen value, equal where the same is done.

    One line in `TREATMENTS` makes plans know it and says what carries it out. Every treatment says what it leaves of a
    matrix (outputs, inputs), so that costs need no weights.

    Attributes:
        name: in `TREATMENTS`; `str` is the name, a colon and what only this treatment understands (those of zeros are
            shares and patterns, without a name).
        share: that it removes, in [0, 1): levels go from little to much of it.
        multiple: the inputs of a linear have to be a multiple of it.
    """

    @property
    def name(self) -> str: ...
    @property
    def share(self) -> float: ...
    @property
    def multiple(self) -> int: ...

    def parameters(self, outputs: int, inputs: int) -> int:
        """Numbers that are left, zeros among them: stored, and multiplied for each token."""

    def at(self, inputs: int) -> "Treatment":
        """What becomes of it where rows have so many inputs, if that makes it another one."""

    def zeros(self, outputs: int, inputs: int) -> int:
        """Exact number of zeros among them."""

    def bytes(self, outputs: int, inputs: int, width: int) -> int:
        """What they take, where a number of the model's takes `width` bytes."""

    def to_json(self) -> float | str:
        """What `treatment` reads."""

    def __bool__(self) -> bool:
        """Whether anything is done."""

    def __hash__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Sparsity:
    """A share of zero weights in a linear: `steps` of half a per cent, or `keep` non-zeros of every `of` inputs."""

    steps: int = 0
    keep: int = 0
    of: int = 0

    @property
    def name(self) -> str:
        """In `TREATMENTS`."""
        return "zeros"

    @classmethod
    def parse(cls, value: "float | int | str") -> "Sparsity":
        """Reads 0.5, "50%" or "2:4".

        Raises:
            SecateurError: not a share in [0, 1) in steps of 0.005, nor an N:M pattern with 0 < N < M <= 16.
        """
        text = str(value).strip()
        pattern = re.fullmatch(r"([0-9]{1,4}):([0-9]{1,4})", text)
        if pattern:
            keep, of = int(pattern[1]), int(pattern[2])
            if not 0 < keep < of <= 16:
                raise SecateurError(f"sparsity pattern '{text}': N:M needs 0 < N < M <= 16, such as 2:4")
            return cls(keep=keep, of=of)
        try:
            share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
        except ValueError:
            share = math.nan
        if not math.isfinite(share):
            raise SecateurError(
                f"sparsity level '{text[:40]}': expected a share such as 0.5 or a pattern such as 2:4"
            ) from None
        steps = round(share * STEPS)
        if not 0 <= steps < STEPS or abs(share * STEPS - steps) > 1e-6:
            raise SecateurError(f"sparsity level '{text}': shares go from 0 to 0.995 in steps of {1 / STEPS}")
        return cls(steps=steps)

    @property
    def share(self) -> float:
        """Of zero weights, in [0, 1)."""
        return 1 - self.keep / self.of if self.of else self.steps / STEPS

    @property
    def multiple(self) -> int:
        """Of what a linear's inputs have to be: whole patterns."""
        return self.of or 1

    def at(self, inputs: int) -> "Sparsity":
        """The same of any row."""
        return self

    def parameters(self, outputs: int, inputs: int) -> int:
        """All: zeros are stored."""
        return outputs * inputs

    def bytes(self, outputs: int, inputs: int, width: int) -> int:
        """Those of all of them: zeros are stored."""
        return outputs * inputs * width

    def zeros(self, outputs: int, inputs: int) -> int:
        """Exact number of zero weights in a linear: the same number in every output row."""
        if self.of:
            return outputs * inputs // self.of * (self.of - self.keep)
        return outputs * zeros_per_row(self.steps, inputs)

    def __bool__(self) -> bool:
        return bool(self.steps or self.of)

    def __str__(self) -> str:
        return f"{self.keep}:{self.of}" if self.of else f"{self.steps / STEPS:.3f}"

    def to_json(self) -> float | str:
        return str(self) if self.of else self.steps / STEPS


def zeros_per_row(steps: int, inputs: int) -> int:
    """Zeros in a row of `inputs` weights at an unstructured sparsity of `steps`/200, rounded to the nearest."""
    return (2 * steps * inputs + STEPS) // (2 * STEPS)


DENSE = Sparsity()
"""Nothing is done."""


class Entry(NamedTuple):
    """Where a treatment is, as "module:object".

    Attributes:
        read: of its text after the name and the colon; a ValueError says what is wrong with it.
        carried_out: makes a `fitness.treatments.Compressor` of a `Ground`.
        feature: what it does to a model (`gene.Feature`).
    """

    read: str
    carried_out: str
    feature: Literal["zeros", "bits", "treatments"] = "treatments"


TREATMENTS: dict[str, Entry] = {
    "zeros": Entry("secateur.space.treatments:Sparsity.parse", "secateur.fitness.zeros.treatment:Zeros", "zeros"),
    "grid": Entry("secateur.space.grids:Grid.read", "secateur.fitness.bits.treatment:Quantised", "bits"),
    "both": Entry("secateur.space.both:Both.read", "secateur.fitness.bits.treatment:Quantised", "bits"),
    "bits": Entry("secateur.space.bits:Bits.read", "secateur.fitness.bits.treatment:Quantised", "bits"),
}


def words(level: Treatment) -> str:
    """A level without the name of its treatment."""
    return str(level).removeprefix(f"{level.name}:")


def treatment(value: float | int | str) -> Treatment:
    """Reads what `to_json` writes: a share or pattern of zeros, or "name:..." of another treatment.

    Raises:
        SecateurError: it is none of them.
    """
    name, _, rest = str(value).partition(":")
    if name not in TREATMENTS:
        return Sparsity.parse(value)
    return read_with(load(TREATMENTS[name].read, None), rest, name)


def read_with(read: Callable[[str], Treatment], text: float | int | str, what: str) -> Treatment:
    """Reads a level; raises SecateurError, whatever sort of ValueError that makes."""
    try:
        return read(text)  # type: ignore[arg-type]
    except ValueError as error:
        raise SecateurError(f"{what} level '{str(text)[:40]}': {error}") from error

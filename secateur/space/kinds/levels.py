"""Reading the levels of widths: counts, shares, steps."""

import re
from collections.abc import Sequence

from ..errors import SecateurError

WidthLevels = str | Sequence[float | int | str | Sequence[float | int | str]]


def per_layer(kind: str, levels: WidthLevels, layers: Sequence[int]) -> list[WidthLevels]:
    """One list of levels for each layer."""
    if isinstance(levels, str) or not any(isinstance(level, list | tuple) for level in levels):
        return [levels] * len(layers)
    if len(levels) != len(layers) or not all(isinstance(level, list | tuple) for level in levels):
        raise SecateurError(
            f"{kind}: {len(levels)} entries in 'levels' for {len(layers)} layers; write one list for all layers, or "
            "one list for each of them"
        )
    return [tuple(level) for level in levels if not isinstance(level, float | int | str)]


LIKED, STEPS_LEFT = 64, 16
"""Kernels like widths in whole multiples of this; of a smaller one where fewer widths than this would be left."""


def liked_multiple(dense: int) -> int:
    """The largest power of two up to `LIKED` that divides a dimension and leaves something to choose from."""
    multiple = LIKED
    while multiple > 1 and (dense % multiple or dense // multiple < STEPS_LEFT):
        multiple //= 2
    return multiple


def width_levels(
    where: str, unit: str, dense: int, levels: WidthLevels, multiple_of: int | None = 1
) -> tuple[int, ...]:
    """Numbers kept, from `dense` down.

    `levels`: counts (1024), shares (0.75, "75%", 1.0), or one text, "step 128" or "5 levels", evenly down to nothing,
    or as in "step 128 to 0.25" down to a count or share. 0 is dropped. Shares are rounded to `multiple_of`; counts must
    be multiples, unless `multiple_of` is None: then shares are rounded to what hardware likes (`liked_multiple`).

    Raises:
        SecateurError: a level that cannot be read, is too large, or is no multiple; `multiple_of` leaves none.
    """
    strict = multiple_of is not None
    multiple_of = liked_multiple(dense) if multiple_of is None else multiple_of
    if multiple_of > 1 and multiple_of >= dense:
        raise SecateurError(
            f"{where}: multiple_of {multiple_of} leaves no width between {dense} {unit} and none; make it smaller"
        )

    def rounded(count: float) -> int:
        return min(dense, max(multiple_of, round(count / multiple_of) * multiple_of)) if count > 0 else 0

    def is_share(level: float | int | str) -> bool:
        return isinstance(level, float) or re.fullmatch(r"[0-9]+", str(level).strip()) is None

    def one(level: float | int | str) -> int:
        text = str(level).strip()
        percent = re.fullmatch(r"([0-9.]+)%", text)
        try:
            value = float(percent[1]) / 100 if percent else float(text)
        except ValueError:
            raise SecateurError(f"{where}: cannot read level '{level}'; write a count, a share or 0") from None
        if percent or is_share(level):
            if not 0 <= value <= 1:
                raise SecateurError(f"{where}: a share goes from 0 to 1, got {level}; counts are whole numbers")
            return dense if value == 1 else rounded(value * dense)
        if not 0 <= value <= dense:
            raise SecateurError(f"{where}: level {level}, but there are {dense} {unit}")
        if strict and int(value) % multiple_of and int(value) != dense:
            raise SecateurError(f"{where}: level {level} is no multiple of multiple_of {multiple_of}")
        return int(value)

    if isinstance(levels, str):
        match = re.fullmatch(r"(?:step ([0-9]{1,9})|([0-9]+) levels)(?: to ([0-9.]{1,20}%?))?", levels.strip())
        if match is not None and match[2] and (len(match[2]) > 9 or int(match[2]) > dense + 1):
            raise SecateurError(f"{where}: levels '{levels[:40]}': there are {dense} {unit}, and not so many levels")
        if match is None or int(match[1] or match[2]) < (1 if match[1] else 2):
            raise SecateurError(f"{where}: cannot read levels '{levels}'; write 'step 128', '5 levels' or a list")
        last = one(match[3]) if match[3] else 0
        if match[1]:
            kept = [rounded(count) for count in range(dense - int(match[1]), last, -int(match[1]))]
        else:
            kept = [rounded(dense - (dense - last) * i / (int(match[2]) - 1)) for i in range(1, int(match[2]) - 1)]
        kept.append(last)
    else:
        flat = [level for level in levels if isinstance(level, float | int | str)]
        if "1" in [str(level) for level in flat if not is_share(level)] and any(map(is_share, flat)):
            raise SecateurError(f"{where}: level 1 is a count of one among shares; write 1.0 for all of them")
        kept = [one(level) for level in flat]
    if not set(kept) - {dense}:
        raise SecateurError(f"{where}: levels {levels!r} leave nothing to decide; add one below {dense} {unit}")
    return tuple(sorted({dense, *kept}, reverse=True))

"""Budgets: hard upper limits on costs, absolute or relative to the dense model."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from .costs import COSTS, LATENCIES, Costs
from .errors import SecateurError, suggest
from .scores import EXPONENTIALS, SCORES

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9, "kb": 10**3, "mb": 10**6, "gb": 10**9}
UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30}
WHOLE = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+(?:_[0-9]+)*)"
"""Digits, with commas between groups of three or with underscores."""
SECONDS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}


@dataclass(frozen=True, slots=True)
class Budget:
    """`cost` must not exceed `limit` (an absolute integer, nanoseconds for latency); `text` is what the user wrote."""

    cost: str
    limit: int
    text: str

    def allows(self, costs: Costs) -> bool:
        """Whether costs keep it."""
        return self.of(costs) <= self.limit

    def of(self, costs: Costs) -> int:
        value: int = getattr(costs, self.cost)
        return value

    def excess(self, costs: Costs) -> float:
        """How far it is exceeded, in shares of the limit; at most 0 where it is kept."""
        return self.of(costs) / max(1, self.limit) - 1

    def __str__(self) -> str:
        return f"{self.cost} <= {shown(self.cost, self.limit)} ({self.text})"


def shown(cost: str, value: int) -> str:
    """A cost as text: whole numbers, latency in milliseconds."""
    return f"{value / 1e6:,.2f} ms" if cost in LATENCIES else f"{value:,}"


def labelled(cost: str, estimate: bool) -> str:
    """The name of a cost, with a word of warning where it is an estimate."""
    return f"{cost} (estimate)" if estimate and cost in LATENCIES else cost


def parse_budgets(
    texts: Mapping[str, str | int | float], dense: Costs, rounded: Callable[[float], int | None] = lambda share: None
) -> tuple[Budget, ...]:
    """Reads budgets such as {"parameters": "<= 0.75x", "weight_bytes": "300MB", "latency": "<= 40ms"}.

    A value is a number with an optional unit (k, M, G, B, kB, MB, GB, KiB, MiB, GiB; for latency ns, us, ms, s), or
    relative to the dense model with `x` or `%`. `rounded` gives the weights that are left where every row has a share
    of zeros, rounded to the nearest weight (None: no such level): a relative limit on `linear_weights` admits just
    that, so that 70 % of zeros keep 0.3x whatever the rows' lengths. Budgets on latency are checked, and left out as
    long as `dense` has none.

    Raises:
        SecateurError: an unknown cost or a value that cannot be read.
    """
    budgets = []
    for cost, raw in texts.items():
        if cost not in COSTS:
            known = (*COSTS, *SCORES, *EXPONENTIALS)
            raise SecateurError(f"budgets: unknown cost '{cost[:40]}'; {suggest(cost[:40], known)}")
        limit = parse_limit(cost, raw, dense, f"budgets.{cost}")
        if limit is not None and cost == "linear_weights" and _text(raw).strip().lower().endswith(("x", "%")):
            limit = max(limit, rounded(1 - limit / max(1, dense.linear_weights)) or 0)
        if limit is not None:
            budgets.append(Budget(cost, limit, _text(raw).strip()))
    return tuple(budgets)


def parse_bytes(raw: str | int | float, where: str) -> int:
    """Reads a number of bytes such as "12GB" or "800 MiB"; raises SecateurError when it cannot be read."""
    number, unit = _number(raw)
    if number is None or unit not in UNITS or not (size := int(number * UNITS[unit])):
        raise SecateurError(f"{where}: cannot read '{_text(raw).strip()[:60]}'; write '12GB' or '800MiB'")
    return size


def _text(raw: str | int | float) -> str:
    """What was written; of a number of more digits than anything has, that it is one."""
    return "a number that long" if isinstance(raw, int) and raw.bit_length() > 1000 else str(raw)


def _number(raw: str | int | float) -> tuple[Decimal | None, str]:
    """A number, or None, and its unit in small letters."""
    match = re.fullmatch(rf"(?:<=\s*)?({WHOLE}(?:\.[0-9]+)?|\.[0-9]+)\s*([A-Za-z%]*)", _text(raw).strip()[:60])
    return (Decimal(match[1].replace("_", "").replace(",", "")), match[2].lower()) if match else (None, "")


def parse_limit(cost: str, raw: str | int | float, dense: Costs, where: str) -> int | None:
    """Reads one limit; None for a latency when `dense` has none. Raises SecateurError when it cannot be read."""
    number, unit = _number(raw)
    units = SECONDS if cost in LATENCIES else UNITS
    if number is None or unit not in (*units, "x", "%"):
        units_of = "'<= 0.6x', '60%', '40ms' or '1.5s'" if cost in LATENCIES else "'<= 0.75x', '75%', '100M' or '300MB'"
        raise SecateurError(f"{where}: cannot read '{_text(raw).strip()[:60]}'; write {units_of}")
    whole = getattr(dense, cost)
    if whole is None:
        return None
    return int(number * (int(whole) if unit == "x" else Decimal(int(whole)) / 100 if unit == "%" else units[unit]))

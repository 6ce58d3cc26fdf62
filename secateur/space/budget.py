"""Budgets: hard upper limits on costs, absolute or relative to the dense model."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from .costs import COSTS, Costs
from .errors import SecateurError, suggest

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9, "kb": 10**3, "mb": 10**6, "gb": 10**9}
UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30}


@dataclass(frozen=True, slots=True)
class Budget:
    """`cost` must not exceed `limit` (an absolute integer); `text` is what the user wrote."""

    cost: str
    limit: int
    text: str

    def allows(self, costs: Costs) -> bool:
        return self.of(costs) <= self.limit

    def of(self, costs: Costs) -> int:
        value: int = getattr(costs, self.cost)
        return value

    def __str__(self) -> str:
        return f"{self.cost} <= {self.limit:,} ({self.text})"


def parse_budgets(texts: Mapping[str, str | int | float], dense: Costs) -> tuple[Budget, ...]:
    """Reads budgets such as {"parameters": "<= 0.75x", "weight_bytes": "300MB", "block_parameters": "75%"}.

    A value is a number with an optional unit (k, M, G, B, kB, MB, GB, KiB, MiB, GiB), or relative to the dense model
    with `x` or `%`.

    Raises:
        SecateurError: an unknown cost or a value that cannot be read.
    """
    budgets = []
    for cost, raw in texts.items():
        if cost not in COSTS:
            raise SecateurError(f"budgets: unknown cost '{cost}'; {suggest(cost, COSTS)}")
        text = str(raw).strip()
        match = re.fullmatch(r"(?:<=\s*)?([0-9][0-9_,]*(?:\.[0-9]+)?|\.[0-9]+)\s*([A-Za-z%]*)", text)
        unit = match[2].lower() if match else ""
        if match is None or unit not in (*UNITS, "x", "%"):
            raise SecateurError(f"budgets.{cost}: cannot read '{text}'; write '<= 0.75x', '75%', '100M' or '300MB'")
        number = Decimal(match[1].replace("_", "").replace(",", ""))
        if unit in ("x", "%"):
            limit = number * int(getattr(dense, cost)) / (100 if unit == "%" else 1)
        else:
            limit = number * UNITS[unit]
        budgets.append(Budget(cost, int(limit), text))
    return tuple(budgets)

"""All kinds of genes by the names that recipes have for them."""

from collections.abc import Mapping
from typing import Annotated, Protocol

from pydantic import BeforeValidator, SerializeAsAny

from ..anatomy import Anatomy
from ..errors import suggest
from ..gene import Gene, Kind
from .attention import ATTENTION
from .block import BLOCK
from .hidden import HIDDEN
from .mlp import MLP
from .queries import QUERIES
from .settings import GeneSettings, Wishes
from .sparsity import SPARSITY


class Entry(Kind, Protocol):
    """A kind that recipes can ask for."""

    @property
    def settings(self) -> type[GeneSettings]: ...

    def genes(self, anatomy: Anatomy, asked: GeneSettings, wishes: Wishes) -> tuple[Gene, ...]:
        """The genes that a recipe's settings ask for; raises SecateurError where they do not fit the model."""


KINDS: dict[str, Entry] = {
    "attention": ATTENTION,
    "queries": QUERIES,
    "mlp": MLP,
    "block": BLOCK,
    "hidden": HIDDEN,
    "sparsity": SPARSITY,
}


def read(values: object) -> object:
    """The settings that a section describes, as its kind has them.

    Raises:
        ValueError: there is no such kind, or (pydantic's) what does not fit its settings.
    """
    if not isinstance(values, Mapping):
        return values
    if "kind" not in values:
        raise ValueError(f"write which kind: one of {', '.join(KINDS)}")
    name = values["kind"]
    if not isinstance(name, str) or name not in KINDS:
        raise ValueError(f"unknown kind '{str(name)[:40]}'; {suggest(str(name)[:40], KINDS)}")
    return KINDS[name].settings.model_validate(values)


AnyGenes = Annotated[SerializeAsAny[GeneSettings], BeforeValidator(read)]
"""A section that says by its `kind` which settings the rest is."""

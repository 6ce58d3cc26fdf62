"""All kinds of genes by the names that recipes have for them."""

from typing import Annotated, Protocol

from pydantic import BeforeValidator, SerializeAsAny

from ..anatomy import Anatomy
from ..gene import Gene, Kind
from ..tables import section
from .attention import ATTENTION
from .bits import BITS
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
    "bits": BITS,
}


def _settings(name: str) -> type[GeneSettings]:
    return KINDS[name].settings


AnyGenes = Annotated[SerializeAsAny[GeneSettings], BeforeValidator(section("kind", KINDS, _settings))]
"""A section that says by its `kind` which settings the rest is."""

"""llama.cpp's own mixes of types, such as Q4_K_M: which linear gets which type by its place."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ...space.anatomy import Anatomy, Linear
from ...space.bits import Bits
from ...space.errors import SecateurError
from ...space.gene import Gene
from ...space.genome import Genome
from ...space.kinds.linears import making
from ...space.space import Space
from .rule import Rule, Statistics

MANY_QUERIES = 4
"""Query heads of a KV head from which values get a finer type."""


@dataclass(frozen=True, slots=True)
class Place:
    """Of a linear: its layer, of how many, and query heads of each KV head."""

    layer: int
    layers: int
    queries: int

    @property
    def more(self) -> bool:
        """Whether it is one of the layers that get more bits (`use_more_bits`)."""
        eighth = self.layers // 8
        inner = (self.layer - eighth) % 3 == 2
        return self.layer < eighth or self.layer >= 7 * self.layers // 8 or inner


Choice = Callable[[Place], str]


def _always(kind: str) -> Choice:
    return lambda _: kind


def _where(condition: Callable[[Place], bool], kind: str, otherwise: str) -> Choice:
    return lambda place: kind if condition(place) else otherwise


def _more(kind: str, otherwise: str) -> Choice:
    return _where(lambda place: place.more, kind, otherwise)


MIXES: Mapping[str, tuple[str, Mapping[str, Choice]]] = {
    "Q8_0": ("Q8_0", {}),
    "Q6_K": ("Q6_K", {}),
    "Q5_K_M": ("Q5_K", {"value": _more("Q6_K", "Q5_K"), "down": _more("Q6_K", "Q5_K")}),
    "Q5_K_S": ("Q5_K", {}),
    "Q4_K_M": ("Q4_K", {"value": _more("Q6_K", "Q4_K"), "down": _more("Q6_K", "Q4_K")}),
    "Q4_K_S": (
        "Q4_K",
        {
            "value": _where(lambda place: place.layer < 4, "Q5_K", "Q4_K"),
            "down": _where(lambda place: place.layer < place.layers // 8, "Q5_K", "Q4_K"),
        },
    ),
    "Q3_K_L": ("Q3_K", {"value": _always("Q5_K"), "down": _always("Q5_K"), "output": _always("Q5_K")}),
    "Q3_K_M": (
        "Q3_K",
        {
            "value": _where(lambda place: place.layer < 2, "Q5_K", "Q4_K"),
            "down": _where(lambda place: place.layer < place.layers // 16, "Q5_K", "Q4_K"),
            "output": _always("Q4_K"),
        },
    ),
    "Q3_K_S": ("Q3_K", {}),
    "Q2_K": (
        "Q2_K",
        {
            "value": _where(lambda place: place.queries >= MANY_QUERIES, "Q4_K", "Q3_K"),
            "down": _always("Q3_K"),
            "output": _always("Q3_K"),
        },
    ),
}
"""By its name, the type of a mix, and what else some linears have; from large to small. As `llama_tensor_get_type_impl`
of llama.cpp 0.5.0 has it (MIT), without an importance matrix, for models of up to 69 billion parameters."""
ROLES = {"v_proj": "value", "o_proj": "output", "down_proj": "down"}
"""What linears are to it, by the end of their names."""


def mix_of(name: str, anatomy: Anatomy, block: int, linear: Linear) -> Bits:
    """The type of a linear in a mix, or what it falls to."""
    kind, others = MIXES[name]
    if f"{linear.name}.weight" == anatomy.head:
        # An embedding that is the head as well is taken for the head; one by itself has the mix's own type.
        return Bits("Q8_0" if kind == "Q8_0" else "Q6_K", falling=True).at(linear.inputs)
    queries = anatomy.blocks[block].dimensions.get("queries", 1)
    choice = others.get(ROLES.get(linear.name.rpartition(".")[2], ""))
    wanted = choice(Place(block, len(anatomy.blocks), queries)) if choice is not None else kind
    return Bits(wanted, falling=True).at(linear.inputs)


def llama_mix(space: Space) -> Genome:
    """The largest mix that keeps the budgets, of those whose types the genes have for every linear.

    Raises:
        SecateurError: there is none.
    """
    lacking = ""
    for name in MIXES:
        try:
            levels = [_level(space.anatomy, gene, name) if "bits" in gene.features else 0 for gene in space.genes]
        except LookupError as error:
            lacking = lacking or f"; {name} would need {error.args[0]}"
            continue
        genome = space.canonical(Genome(tuple(levels)))
        if space.feasible(genome):
            return genome
    raise SecateurError(f"none of llama.cpp's mixes has types of these genes and keeps the budgets{lacking}")


def _level(anatomy: Anatomy, gene: Gene, name: str) -> int:
    """The level that makes of a gene's linears what a mix does; raises LookupError where there is none."""
    linears = [(block, anatomy.blocks[block].matrices[place]) for block, place in gene.members]
    wanted = [mix_of(name, anatomy, block, linear) for block, linear in linears]
    level = making(gene, [linear.inputs for _, linear in linears], wanted)
    if level is None:
        raise LookupError(f"{wanted[0].kind} at {gene.key}")
    return level


def _genome(space: Space, _statistics: Statistics, _rng: np.random.Generator) -> Genome:
    return llama_mix(space)


RULE = Rule(_genome, "bits", good=True)

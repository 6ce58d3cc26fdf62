"""The space: its genes, and every question about genomes that needs no weights."""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .activity import Activity
from .anatomy import Anatomy, Block
from .base import Base, begun, features_of_states, gone
from .budget import Budget, shown
from .checks import check_genes, check_patterns, check_projection
from .costs import FILE, NONE_ADDED, Additions, BlockCosts, Costs, Layout, Zeros, block_costs, total
from .errors import SecateurError, suggest
from .gene import Feature, Gene, features_of
from .genome import Genome
from .latency import LatencyTable, Shape, Times, every_state, shapes
from .names import name_of
from .pricing import WIDTH, Pricing, levels_of, of_budget
from .state import BlockState, outside_of, settled

REMEMBERED = 2048
"""States of one block, and their names."""


@dataclass(frozen=True)
class Space:
    """All genomes over `genes`, with the budgets they must keep.

    `context` is the context length in tokens at which MACs are counted, and the KV cache where `cached` is None;
    `additions` are the parameters that repairs and rotations add to narrower models; `latency`, where there is one,
    adds latency to the costs; `layout`, where there is one, the bytes of its file. `zeros` are those that the model has
    by itself; `counted` are costs that were noted with them, for those who have no model at hand. `base`: what a plan
    below has made of the blocks, which level 0 of every gene leaves as it is; None: nothing.
    """

    anatomy: Anatomy
    genes: tuple[Gene, ...]
    budgets: tuple[Budget, ...] = ()
    context: int = 2048
    additions: Additions = NONE_ADDED
    latency: LatencyTable | None = None
    cached: int | None = None
    zeros: Zeros | None = None
    counted: Mapping[Genome, Costs] = field(default_factory=dict)
    layout: Layout | None = None
    base: Base | None = None

    def __post_init__(self) -> None:
        check_genes(self.anatomy, self.genes)
        check_patterns(self.anatomy, self.genes, self.begun)
        if self.everywhere is not None and self.additions.projection:
            first = self.costs(self.dense.with_level(self.everywhere, 1))
            check_projection(self.anatomy, self.genes[self.everywhere], self.dense_costs, first)

    # -- genomes -------------------------------------------------------------------------------------------------

    @cached_property
    def begun(self) -> Base:
        """The states of all blocks where every gene is at level 0."""
        return begun(self.anatomy, self.base)

    @cached_property
    def features(self) -> frozenset[Feature]:
        """What genomes can do to the model, and what the plan below them has done."""
        below = features_of_states(self.anatomy, self.base) if self.base is not None else frozenset[Feature]()
        return features_of(self.genes) | below

    @property
    def dense(self) -> Genome:
        """Every gene at level 0: the dense model, or the plan below all genomes."""
        return Genome((0,) * len(self.genes))

    @cached_property
    def smallest(self) -> Genome:
        """Every gene at its last level: the minimum of every cost at once, since no level raises any cost."""
        return self.canonical(Genome(tuple(len(gene.levels) - 1 for gene in self.genes)))

    @property
    def origin(self) -> str:
        """What every genome begins with, for messages."""
        return "the dense model" if self.base is None else "the plan below"

    @property
    def size(self) -> int:
        """Number of level combinations, before canonicalisation."""
        return math.prod(len(gene.levels) for gene in self.genes)

    def contains(self, genome: Genome) -> bool:
        """Whether a genome has a level of every gene, and none that is not there."""
        return len(genome.levels) == len(self.genes) and all(
            0 <= level < len(gene.levels) for gene, level in zip(self.genes, genome.levels, strict=True)
        )

    def check(self, genome: Genome) -> None:
        """Raises SecateurError unless the genome belongs to this space."""
        if len(genome.levels) != len(self.genes):
            raise SecateurError(f"genome has {len(genome.levels)} levels, the space has {len(self.genes)} genes")
        for gene, level in zip(self.genes, genome.levels, strict=True):
            if not 0 <= level < len(gene.levels):
                raise SecateurError(f"gene {gene.key}: level {level} is outside 0..{len(gene.levels) - 1}")

    def all(self) -> Iterator[Genome]:
        """Every canonical genome once, in lexicographic order of its first appearance."""
        seen = set()
        levels = [0] * len(self.genes)
        while True:
            genome = self.canonical(Genome(tuple(levels)))
            if genome not in seen:
                seen.add(genome)
                yield genome
            for position in reversed(range(len(levels))):
                levels[position] += 1
                if levels[position] < len(self.genes[position].levels):
                    break
                levels[position] = 0
            else:
                return

    # -- canonical form --------------------------------------------------------------------------------------------

    @cached_property
    def everywhere(self) -> int | None:
        """The gene on whose level the cost of everything else depends; None where there is none."""
        return next((index for index, gene in enumerate(self.genes) if gene.kind.everywhere), None)

    @cached_property
    def activity(self) -> Activity:
        """Which genes matter, given the others."""
        return Activity(self.anatomy, self.genes, gone(self.anatomy, self.base))

    def active(self, genome: Genome) -> tuple[bool, ...]:
        """Which genes matter, given the others; in canonical form one that does not is at level 0."""
        return self.activity.active(genome)

    def canonical(self, genome: Genome) -> Genome:
        """The one genome that stands for all genomes of the same subnet."""
        return self.activity.canonical(genome)

    # -- what a genome means ---------------------------------------------------------------------------------------

    @cached_property
    def _touching(self) -> tuple[tuple[int, ...], ...]:
        """For each block, the genes that have a say in it."""
        touching: list[list[int]] = [[] for _ in self.anatomy.blocks]
        for index, gene in enumerate(self.genes):
            for block in gene.blocks:
                touching[block].append(index)
        return tuple(tuple(indices) for indices in touching)

    @cached_property
    def _known_blocks(self) -> tuple[tuple[Callable[[Sequence[int]], object], dict[object, BlockState]], ...]:
        """For each block, which levels of a genome it depends on, and its states by these."""
        return tuple((levels_of(genes), {}) for genes in self._touching)

    def _block(self, genome: Genome, index: int) -> BlockState:
        """State of one block, remembered by the levels of the genes that touch it."""
        levels, known = self._known_blocks[index]
        memo = levels(genome.levels)
        if memo not in known:
            if len(known) >= REMEMBERED:
                known.clear()
            known[memo] = self._state(genome, index)
        return known[memo]

    def _state(self, genome: Genome, index: int) -> BlockState:
        block = self.anatomy.blocks[index]
        state = self.begun[index]
        for number in self._touching[index]:
            gene = self.genes[number]
            state = gene.kind.apply(gene, genome.levels[number], block, state)
        return settled(block, state)

    def states(self, genome: Genome) -> tuple[BlockState, ...]:
        """What becomes of each block."""
        return tuple(self._block(genome, block.index) for block in self.anatomy.blocks)

    def costs(self, genome: Genome) -> Costs:
        """What a genome costs; exact integers, latencies in nanoseconds where there is a table."""
        noted = self.counted.get(self.canonical(genome)) if self.counted else None
        if noted is not None:
            return noted
        priced, outside, zeros = self.pricing.total(genome.levels), 0, None
        if self.zeros is not None:
            zeros = sum(self._zeros(genome, index, self.zeros) for index in range(len(self.anatomy.blocks)))
            outside = self.zeros.outside(outside_of(self.anatomy.blocks, self.states(genome)))
        return self._total(priced, self._hidden(genome), lambda: self.states(genome), zeros, outside)

    def _total(
        self,
        priced: NDArray[np.int64],
        hidden: int,
        states: Callable[[], Base],
        zeros: int | None = None,
        outside: int = 0,
    ) -> Costs:
        """Costs from what all blocks cost, (WIDTH,); `zeros` and `outside`: of a model that has some by itself."""
        *values, prefill, decode = priced.tolist()
        costs = BlockCosts(*values)
        if zeros is not None:
            costs = costs._replace(zeros=zeros)
        found = total(self.anatomy, [costs], hidden, self.additions, outside)
        if self.layout is not None:
            found = replace(found, file_bytes=costs.file + self.layout.around(states()))
        if self.latency is None:
            return found
        times = self.latency.outside(hidden) + Times(prefill, decode)
        request = times.request(self.latency.workload)
        return replace(found, prefill=times.prefill, decode=times.decode, latency=request)

    def _zeros(self, genome: Genome, index: int, own: Zeros) -> int:
        """Of one block, where the model has some by itself; remembered like states."""
        memo, known = self._known_blocks[index][0](genome.levels), self._known_zeros[index]
        if memo not in known:
            if len(known) >= REMEMBERED:
                known.clear()
            known[memo] = own.in_block(index, self._block(genome, index))
        return known[memo]

    @cached_property
    def _known_zeros(self) -> tuple[dict[object, int], ...]:
        """For each block, its zeros by the levels of the genes that touch it."""
        return tuple({} for _ in self.anatomy.blocks)

    def _hidden(self, genome: Genome) -> int:
        """The residual width."""
        if self.everywhere is None:
            return self.begun[0].hidden
        return self._state(genome, 0).hidden

    @cached_property
    def pricing(self) -> Pricing:
        """Costs of all blocks; the model's own zeros are not in them."""

        def priced(block: Block, state: BlockState) -> BlockCosts:
            return block_costs(
                block, state, self.context, self.additions, self.cached, self.anatomy.bytes_per_parameter
            )

        def timed(block: Block, state: BlockState) -> tuple[int, int]:
            times = self.latency.block(block, state) if self.latency is not None else Times()
            return times.prefill, times.decode

        return Pricing(self.anatomy, self.genes, priced, timed, self.layout, self.begun)

    def shapes(self) -> list[Shape]:
        """Everything whose latency a table for this space must have, dense shapes included."""
        levels = []
        for block in self.anatomy.blocks:
            kept = {one: {size, self.begun[block.index].kept[one]} for one, size in block.dimensions.items()}
            for number in self._touching[block.index]:
                gene = self.genes[number]
                if gene.kind.dimension:
                    kept[gene.kind.dimension] |= {level for level in gene.levels if isinstance(level, int)}
            levels.append({dimension: sorted(sizes) for dimension, sizes in kept.items()})
        return shapes(every_state(levels), self.anatomy)

    @cached_property
    def dense_costs(self) -> Costs:
        """What relative budgets and all ratios are of: the dense model, with zeros of its own taken for weights."""
        dense = begun(self.anatomy, None)
        return self._total(self.pricing.of(dense), self.anatomy.hidden_size, lambda: dense)

    def feasible(self, genome: Genome) -> bool:
        """Whether the genome keeps every budget."""
        if not self.budgets:
            return True
        genome_costs = self.costs(genome)
        return all(budget.allows(genome_costs) for budget in self.budgets)

    def check_budgets(self) -> None:
        """Raises SecateurError when no genome keeps every budget; says what would be feasible."""
        least = self.costs(self.smallest)
        for budget in self.budgets:
            if not budget.allows(least):
                reachable, dense = budget.of(least), budget.of(self.dense_costs)
                raise SecateurError(
                    f"budget {budget.cost} {budget.text}: the limit {shown(budget.cost, budget.limit)} is below "
                    f"{shown(budget.cost, reachable)} "
                    f"({reachable / max(dense, 1):.4f}x of dense), the least this space can reach; raise the budget "
                    "or add genes or deeper levels"
                )

    def with_budgets(self, budgets: tuple[Budget, ...]) -> "Space":
        """The same space under other budgets."""
        space = replace(self, budgets=budgets)
        # What was computed does not depend on budgets.
        shared = ("_known_blocks", "_known_rows", "_touching", "activity", "pricing")
        space.__dict__.update({name: getattr(self, name) for name in shared})
        return space

    def with_latency(self, table: LatencyTable) -> "Space":
        """The same space with latency among its costs."""
        return replace(self, latency=table)

    def neighbours(self, genome: Genome) -> Iterator[Genome]:
        """Canonical genomes one level away in one active gene; none equal to `genome`, none twice."""
        seen = {self.canonical(genome)}
        for index, (gene, on) in enumerate(zip(self.genes, self.active(genome), strict=True)):
            for level in (genome.levels[index] - 1, genome.levels[index] + 1):
                if on and 0 <= level < len(gene.levels):
                    neighbour = self.canonical(genome.with_level(index, level))
                    if neighbour not in seen:
                        seen.add(neighbour)
                        yield neighbour

    # -- budgets ---------------------------------------------------------------------------------------------------

    @property
    def adds_up(self) -> bool:
        """Whether what levels add (`steps`) is exact: not where the model has zeros by itself, which levels meet."""
        return self.zeros is None and not self.counted

    @cached_property
    def rounds(self) -> bool:
        """Whether the cost of a budget is not quite the sum over blocks: a file's begins anew on whole multiples."""
        return any(budget.cost == FILE for budget in self.budgets)

    @cached_property
    def in_budgets(self) -> NDArray[np.int64]:
        """(WIDTH, budgets), by which vectors of costs (`Pricing`) become the costs of budgets."""
        decoded = self.latency.workload.decode if self.latency is not None else 0
        weights = [of_budget(budget.cost, self.anatomy, decoded) for budget in self.budgets]
        return np.stack(weights, axis=1) if weights else np.zeros((WIDTH, 0), dtype=np.int64)

    # -- names -----------------------------------------------------------------------------------------------------

    def to_json(self, genome: Genome) -> dict[str, float | int | str]:
        """The genes that are not dense, by key, with the value of their level."""
        pairs = zip(self.genes, self.canonical(genome).levels, strict=True)
        return {gene.key: gene.label(level) for gene, level in pairs if level}

    def from_json(self, values: Mapping[str, float | int | str]) -> Genome:
        """The inverse of `to_json`; raises SecateurError for a gene or level that this space does not have."""
        index = {gene.key: i for i, gene in enumerate(self.genes)}
        genome = self.dense
        for key, value in values.items():
            if key not in index:
                raise SecateurError(f"unknown gene '{key}'; {suggest(key, index)}")
            gene = self.genes[index[key]]
            labels = [gene.label(level) for level in range(len(gene.levels))]
            if value not in labels:
                raise SecateurError(f"gene {key}: no level {value!r}; its levels are {labels}")
            genome = genome.with_level(index[key], labels.index(value))
        return genome

    def key(self, genome: Genome) -> str:
        """Sixteen hexadecimal digits that name the subnet; equal for equal subnets, in every space and process."""
        rows = []
        for block, (levels, _), known in zip(self.anatomy.blocks, self._known_blocks, self._known_rows, strict=True):
            memo = levels(genome.levels)
            if memo not in known:
                if len(known) >= REMEMBERED:
                    known.clear()
                known[memo] = name_of(block, self._block(genome, block.index))
            rows.append(known[memo])
        return hashlib.sha256(f"[{','.join(rows)}]".encode()).hexdigest()[:16]

    @cached_property
    def _known_rows(self) -> tuple[dict[object, str], ...]:
        """For each block, what names its states, by the levels of the genes that touch it."""
        return tuple({} for _ in self.anatomy.blocks)

"""What genomes cost, from a table: what each block costs in each structure, and what each level takes off that.

A structure is all that genes decide but for the treatments of linears. In one, treatments add up: each linear's is by
itself, so that one row of a table for each gene and block it touches says what every level of it changes. Costs of
thousands of genomes then take additions of numbers, and no state of a block is made for them.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .anatomy import Anatomy, Block
from .base import Base, begun
from .costs import BlockCosts, Layout
from .gene import Gene
from .state import BlockState, settled
from .treatments import Treatment

Numbers = NDArray[np.int64]
WIDTH = len(BlockCosts._fields) + 2
"""Of a vector of costs: those of blocks, and nanoseconds of prefill and of decoding a token."""
STRUCTURES = 128
"""Of one block, that are remembered."""
Timed = Callable[[Block, BlockState], tuple[int, int]]


class Pricing:
    """Costs of genomes over `genes`, as vectors of `WIDTH` numbers: the sums over all blocks.

    Attributes:
        free: for each gene, whether it only treats linears that no other gene does: its levels add up with all others.
    """

    def __init__(
        self,
        anatomy: Anatomy,
        genes: Sequence[Gene],
        priced: Callable[[Block, BlockState], BlockCosts],
        timed: Timed = lambda block, state: (0, 0),
        layout: Layout | None = None,
        base: Base | None = None,
    ) -> None:
        """`priced` is what a block costs, `timed` its nanoseconds, whatever its treatments; `layout`: that its bytes in
        a file are counted by; `base`: the states that genes begin with, by default dense."""
        self._anatomy, self._genes, self._priced, self._timed = anatomy, genes, priced, timed
        self._layout, self._begun = layout, begun(anatomy, base)
        self.free = _free(genes)
        touching: list[list[int]] = [[] for _ in anatomy.blocks]
        rows = []
        for index, gene in enumerate(genes):
            for block in gene.blocks:
                touching[block].append(index)
                if self.free[index]:
                    rows.append((index, block))
        self._structural = [[index for index in some if not self.free[index]] for some in touching]
        self._structure = [levels_of(some) for some in self._structural]
        structural = [index for index in range(len(genes)) if not self.free[index]]
        self._everything: Callable[[Sequence[int]], Any] = levels_of(structural)
        self._touched = [tuple(genes[index].blocks) for index in structural]
        self._gene_of_row = np.array([index for index, _ in rows], dtype=np.intp)
        self._rows_of = [[n for n, (_, block) in enumerate(rows) if block == index] for index in range(len(touching))]
        bounds = np.searchsorted(self._gene_of_row, range(len(genes) + 1)).tolist()
        self._rows_of_gene = [slice(start, stop) for start, stop in pairwise(bounds)]
        self._first_row = np.searchsorted(self._gene_of_row, np.flatnonzero(self.free))
        most = max((len(gene.levels) for gene in genes), default=1)
        self._numbers = np.arange(len(rows))
        self._taken: Numbers = np.zeros((len(rows), most, WIDTH), dtype=np.int64)
        self._base: Numbers = np.zeros((len(touching), WIDTH), dtype=np.int64)
        self._known: list[dict[object, tuple[Numbers, Numbers]]] = [{} for _ in touching]
        self._now: list[object] = [None] * len(touching)
        self._entered: Any = None
        self._most = np.array([len(gene.levels) - 1 for gene in genes], dtype=np.intp)

    def total(self, levels: Sequence[int]) -> Numbers:
        """(WIDTH,), of a genome's levels."""
        self._enter(levels)
        own = np.array(levels, dtype=np.intp)[self._gene_of_row]
        found: Numbers = self._base.sum(axis=0) + self._taken[self._numbers, own].sum(axis=0)
        return found

    def moved(self, levels: Sequence[int], by: int) -> Numbers:
        """(genes, WIDTH), what each free gene's next level in a direction adds to all; 0 where there is none."""
        self._enter(levels)
        own = np.array(levels, dtype=np.intp)
        there = np.clip(own + by, 0, self._most)
        rows = self._taken[self._numbers, there[self._gene_of_row]] - self._taken[self._numbers, own[self._gene_of_row]]
        found: Numbers = np.zeros((len(self._genes), WIDTH), dtype=np.int64)
        if len(rows):
            found[np.flatnonzero(self.free)] = np.add.reduceat(rows, self._first_row, axis=0)
        return found

    def by_level(self, levels: Sequence[int], gene: int) -> Numbers:
        """(levels, WIDTH), what each level of a free gene adds to all, to which its own adds nothing."""
        self._enter(levels)
        rows = self._rows_of_gene[gene]
        taken: Numbers = self._taken[rows, : len(self._genes[gene].levels)].sum(axis=0)
        found: Numbers = np.subtract(taken, taken[levels[gene]])
        return found

    def changed(self, levels: Sequence[int], gene: int, level: int) -> Numbers:
        """(WIDTH,), what another level of any gene adds to all, those of the others being as they are."""
        other = (*levels[:gene], level, *levels[gene + 1 :])
        found: Numbers = np.zeros(WIDTH, dtype=np.int64)
        for block in self._genes[gene].blocks:
            found += self._of_block(block, other) - self._of_block(block, levels)
        return found

    def _of_block(self, index: int, levels: Sequence[int]) -> Numbers:
        base, taken = self._known_in(index, levels)
        if not self._rows_of[index]:
            return base
        genes = self._gene_of_row[self._rows_of[index]]
        found: Numbers = base + taken[np.arange(len(genes)), [levels[gene] for gene in genes]].sum(axis=0)
        return found

    def _enter(self, levels: Sequence[int]) -> None:
        """Has the tables be those of a genome's structure."""
        entered = self._everything(levels)
        if entered == self._entered:
            return
        before, self._entered = self._entered, None  # as long as some tables are those of before
        for index in self._differing(before, entered):
            wanted: Any = self._structure[index](levels)
            if wanted != self._now[index]:
                self._base[index], taken = self._known_in(index, levels)
                if self._rows_of[index]:
                    self._taken[self._rows_of[index]] = taken
                self._now[index] = wanted
        self._entered = entered

    def _differing(self, before: Sequence[int] | None, now: Sequence[int]) -> Iterable[int]:
        """The blocks whose structure is another one; all where nothing is known of before."""
        if before is None or len(self._touched) == 1:  # of a single gene there is no sequence
            return range(len(self._structure))
        return {
            block
            for own, other, blocks in zip(before, now, self._touched, strict=True)
            if own != other
            for block in blocks
        }

    def _known_in(self, index: int, levels: Sequence[int]) -> tuple[Numbers, Numbers]:
        """A block's tables in a genome's structure: (WIDTH,), and (rows, levels, WIDTH) of its free genes."""
        known, wanted = self._known[index], self._structure[index](levels)
        if wanted not in known:
            if len(known) >= STRUCTURES:
                known.clear()
            known[wanted] = self._in_structure(index, levels)
        return known[wanted]

    def _in_structure(self, index: int, levels: Sequence[int]) -> tuple[Numbers, Numbers]:
        block = self._anatomy.blocks[index]
        state = self._begun[index]
        for number in self._structural[index]:
            state = self._genes[number].kind.apply(self._genes[number], levels[number], block, state)
        base = settled(block, state)
        price = self._cost(block, base)
        taken = np.zeros((len(self._rows_of[index]), self._taken.shape[1], WIDTH), dtype=np.int64)
        sizes = base.sizes(block)
        here = {linear.name: linear.shape(sizes) for one in block.sublayers if base.has(one) for linear in one.linears}
        here |= {matrix.name: matrix.shape(sizes) for matrix in block.outside}
        for place, row in enumerate(self._rows_of[index]):
            gene = self._genes[int(self._gene_of_row[row])]
            for level in range(1, len(gene.levels)):
                state = settled(block, gene.kind.apply(gene, level, block, base))
                for name, treatment in state.treated.items():
                    if name not in base.treated:
                        taken[place, level, :-2] += _saved(treatment, *here[name], self._anatomy.bytes_per_parameter)
                taken[place, level, -3] += self._filed(block, state) - int(price[-3])
        return price, taken

    def of(self, states: Sequence[BlockState]) -> Numbers:
        """(WIDTH,), of blocks in any states."""
        pairs = zip(self._anatomy.blocks, states, strict=True)
        found: Numbers = np.sum([self._cost(block, state) for block, state in pairs], axis=0)
        return found

    def _cost(self, block: Block, state: BlockState) -> Numbers:
        price = self._priced(block, state)._replace(file=self._filed(block, state))
        return np.array([*price, *self._timed(block, state)], dtype=np.int64)

    def _filed(self, block: Block, state: BlockState) -> int:
        return self._layout.block(block, state) if self._layout is not None else 0


def of_budget(cost: str, anatomy: Anatomy, decoded: int) -> Numbers:
    """(WIDTH,), with which a vector of costs has to be multiplied for what it changes of one cost.

    `decoded`: tokens of the request that is timed.
    """
    width, cached = anatomy.bytes_per_parameter, anatomy.bytes_per_parameter * anatomy.causal
    #        parameters, zeros, weights, macs, kv, sublayers, saved, file, prefill, decode
    weights = {
        "parameters": (1, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        "block_parameters": (1, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        "nonzero_parameters": (1, -1, 0, 0, 0, 0, 0, 0, 0, 0),
        "linear_weights": (0, -1, 1, 0, 0, 0, 0, 0, 0, 0),
        "macs": (0, 0, 0, 1, 0, 0, 0, 0, 0, 0),
        "weight_bytes": (width, 0, 0, 0, 0, 0, -1, 0, 0, 0),
        "kv_bytes": (0, 0, 0, 0, cached, 0, 0, 0, 0, 0),
        "sublayers": (0, 0, 0, 0, 0, 1, 0, 0, 0, 0),
        "file_bytes": (0, 0, 0, 0, 0, 0, 0, 1, 0, 0),
        "prefill": (0, 0, 0, 0, 0, 0, 0, 0, 1, 0),
        "decode": (0, 0, 0, 0, 0, 0, 0, 0, 0, 1),
        "latency": (0, 0, 0, 0, 0, 0, 0, 0, 1, decoded),
    }
    return np.array(weights[cost], dtype=np.int64)


def _saved(treatment: Treatment, outputs: int, inputs: int, width: int) -> tuple[int, ...]:
    """What a treatment of a linear changes of its block's costs."""
    left = treatment.parameters(outputs, inputs)
    less = left - outputs * inputs
    saved = left * width - treatment.bytes(outputs, inputs, width)
    return less, treatment.zeros(outputs, inputs), less, less, 0, 0, saved, 0


def _free(genes: Sequence[Gene]) -> NDArray[np.bool_]:
    """Which genes only treat linears that no other gene does."""
    treats = [all(not isinstance(level, int) for level in gene.levels) for gene in genes]
    who = Counter(member for gene, one in zip(genes, treats, strict=True) if one for member in gene.members)
    alone = [one and all(who[member] == 1 for member in gene.members) for gene, one in zip(genes, treats, strict=True)]
    return np.array(alone, dtype=bool)


def levels_of(genes: Sequence[int]) -> Callable[[Sequence[int]], object]:
    """Picks the levels of some genes out of a genome's."""
    return itemgetter(*genes) if genes else lambda _: ()

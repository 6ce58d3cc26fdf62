"""Slopes of what drops or narrows a sublayer: what becomes of its contribution, token by token.

A cut changes what a sublayer hands on by a known D for every token: minus all of it where it is dropped, and where it
is narrowed what its last linear makes of fewer inputs, as repaired, less what it makes of all. With the gradient g
there, the first order is g D and the second its square, both summed over tokens: Fisher along the very direction of the
cut. All weights of a branch go at once, so that the squares of single ones (`slopes`), which take them to be
independent, would be far too little. On SmolLM2 at 50 % zeros, drops and widths in eighths: rank correlation with 178
scored changes 0.86 on 2 sequences of 256 tokens and 0.88 on 8, the median of estimate over truth 0.75 and 1.2; of
attention by itself 0.65, of MLPs 0.94. Without the second order it is 0.1.

What brings something back is not told of: what has been cut is not there to be looked at. Nor are narrower sublayers
whose contribution is normalised before it is added, since that undoes most of such a change; dropping them is. A level
that changes several sublayers, as one of whole blocks, is the sum of what each does, without what they do together.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from ..space.anatomy import Block, Sublayer
from ..space.genome import Genome
from ..space.space import Space
from ..space.state import BlockState
from ..space.treatments import Sparsity
from .subnets.subnet import Subnet
from .widths.axes import kept_positions
from .zeros.level_store import as_matrix

Note = Callable[[tuple[int, int], torch.Tensor], None]
"""Takes the first and the second order of a (gene, level), summed over tokens."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A level of a gene, and what it makes of a block."""

    gene: int
    level: int
    state: BlockState


Cuts = dict[tuple[int, int], list[Cut]]
"""By block and number of the sublayer in it."""


def cuts_of(space: Space, genome: Genome) -> Cuts:
    """All further cuts of sublayers that single genes can make; those of the residual stream are not told of."""
    active, states = space.active(genome), space.states(genome)
    found: Cuts = {}
    for index, gene in enumerate(space.genes):
        if gene.treatments or not active[index] or index == space.everywhere:
            continue
        for level in range(genome.levels[index] + 1, len(gene.levels)):
            changed = space.states(space.canonical(genome.with_level(index, level)))
            for place in gene.blocks:
                own, other = states[place], changed[place]
                for number, sublayer in enumerate(space.anatomy.blocks[place].sublayers):
                    if own.has(sublayer) and _cuts(sublayer, own, other):
                        found.setdefault((place, number), []).append(Cut(index, level, other))
    return found


def _cuts(sublayer: Sublayer, own: BlockState, other: BlockState) -> bool:
    return not other.has(sublayer) or other.widths(sublayer) != own.widths(sublayer)


@dataclass
class Watch:
    """Notes what cuts add while one batch passes forwards and backwards.

    Attributes:
        scale: positions that each sequence of the batch is scored at, (sequences, 1, 1).
        ends: of each sublayer, what the module that ran last in it has handed on, and what its stand-in would hand on;
            None: nothing.
        lasts: of each that may be narrower, what its last linear has read and handed on, and the linear.
    """

    space: Space
    subnet: Subnet
    states: tuple[BlockState, ...]
    cuts: Cuts
    scale: torch.Tensor
    note: Note
    ends: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor | None]] = field(default_factory=dict)
    lasts: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor, nn.Module]] = field(default_factory=dict)

    def hooks(self, modules: list[nn.Module]) -> Iterator[Any]:
        """Puts hooks on the blocks' modules; yields their handles."""
        for (place, number), cuts in self.cuts.items():
            block = self.space.anatomy.blocks[place]
            sublayer = block.sublayers[number]
            for path, role in sublayer.stand_ins:
                module = modules[place].get_submodule(path)
                yield module.register_forward_hook(self._end((place, number), role))
            if any(cut.state.has(sublayer) for cut in cuts):
                module = modules[place].get_submodule(sublayer.linears[-1].name)
                yield module.register_forward_hook(self._last((place, number)))

    def passed(self) -> None:
        """To be called between the passes."""
        for (place, number), (output, instead) in self.ends.items():
            block, cuts = self.space.anatomy.blocks[place], self.cuts[place, number]
            sublayer = block.sublayers[number]
            if dropping := [cut for cut in cuts if not cut.state.has(sublayer)]:
                output.register_hook(self._dropping(dropping, output.detach(), instead))  # type: ignore[no-untyped-call]
            last = self.lasts.get((place, number))
            narrower = [cut for cut in cuts if cut.state.has(sublayer)]
            # What the last linear hands on is the contribution itself, in another shape at most.
            if last is not None and last[1].data_ptr() == output.data_ptr():
                last[1].register_hook(self._narrowing(block, sublayer, narrower, *last))  # type: ignore[no-untyped-call]
        self.ends.clear()
        self.lasts.clear()

    def _dropping(
        self, cuts: list[Cut], output: torch.Tensor, instead: torch.Tensor | None
    ) -> Callable[[torch.Tensor], None]:
        def backward(gradient: torch.Tensor) -> None:
            self._note(cuts, gradient, -output if instead is None else instead - output)

        return backward

    def _end(self, where: tuple[int, int], role: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        """Of the modules of a branch the last one to run hands on what the branch contributes."""

        def forward(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            own: torch.Tensor = output[0] if isinstance(output, tuple) else output
            stays = {"second": 1, "keep": 0}.get(role)
            self.ends[where] = own, None if stays is None else inputs[stays].detach()

        return forward

    def _last(self, where: tuple[int, int]) -> Callable[[nn.Module, tuple[torch.Tensor, ...], torch.Tensor], None]:
        def forward(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            self.lasts[where] = inputs[0].detach(), output, module

        return forward

    def _narrowing(
        self, block: Block, sublayer: Sublayer, cuts: list[Cut], x: torch.Tensor, output: torch.Tensor, module: Any
    ) -> Callable[[torch.Tensor], None]:
        linear, weights, y = sublayer.linears[-1], self.subnet.weights, output.detach()
        position = block.linears.index(linear)

        def columns(state: BlockState) -> torch.Tensor:
            return kept_positions(linear.columns, linear.inputs, block, state.kept, x.device)

        def narrower(state: BlockState, places: torch.Tensor) -> torch.Tensor:
            """The matrix there. Zeros stay where they are: to choose them anew for every width takes longer than all
            the rest."""
            untreated = weights.untreated(block.index, position, state)
            level = state.level(linear.name)
            if untreated is None or (level and not isinstance(level, Sparsity)):
                return as_matrix(linear, weights.linear(block.index, position, state))
            whole = as_matrix(linear, module.weight.detach())[:, places]
            if not level:
                return untreated
            return untreated * (whole != 0) if weights.repairs else whole

        def backward(gradient: torch.Tensor) -> None:
            here = columns(self.states[block.index])
            for cut in cuts:
                places = torch.searchsorted(here, columns(cut.state))
                bias = weights.bias(block.index, position, cut.state)
                change = nn.functional.linear(x[..., places], narrower(cut.state, places), bias) - y
                self._note([cut], gradient, change)

        return backward

    def _note(self, cuts: list[Cut], gradient: torch.Tensor, change: torch.Tensor) -> None:
        # Some families hand their linears (sequences * time, features).
        products = (gradient.float() * change.float()).sum(-1).reshape(len(self.scale), -1)
        pair = torch.stack([products.sum(), (products.square() * self.scale[:, :, 0]).sum()]).double()
        for cut in cuts:
            self.note((cut.gene, cut.level), pair)

"""Slopes of what drops or narrows a sublayer: what becomes of its contribution, token by token.

A cut changes what a sublayer hands on by a known D for every token: minus all of it where it is dropped, and where it
is narrowed what its last linear makes of fewer inputs, as repaired, less what it makes of all. With the gradient g
there, the first order is g D and the second its square, both summed over tokens: Fisher along the very direction of the
cut. All weights of a branch go at once, so that the squares of single ones (`slopes`), which take them to be
independent, would be far too little. On SmolLM2 at 50 % zeros, drops and widths in eighths: rank correlation with 178
scored changes 0.86 on 2 sequences of 256 tokens and 0.88 on 8, the median of estimate over truth 0.75 and 1.2; of
attention by itself 0.65, of MLPs 0.94. Without the second order it is 0.1.

What brings something back is not told of: what has been cut is not there to be looked at.
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
        ends: of each sublayer that may be dropped, what the module that ran last in it has handed on, and what its
            stand-in would hand on; None: nothing.
    """

    space: Space
    subnet: Subnet
    states: tuple[BlockState, ...]
    cuts: Cuts
    scale: torch.Tensor
    note: Note
    ends: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor | None]] = field(default_factory=dict)

    def hooks(self, modules: list[nn.Module]) -> Iterator[Any]:
        """Puts hooks on the blocks' modules; yields their handles."""
        for (place, number), cuts in self.cuts.items():
            block = self.space.anatomy.blocks[place]
            sublayer = block.sublayers[number]
            if any(not cut.state.has(sublayer) for cut in cuts):
                for path, role in sublayer.stand_ins:
                    module = modules[place].get_submodule(path)
                    yield module.register_forward_hook(self._end((place, number), role))
            narrower = [cut for cut in cuts if cut.state.has(sublayer)]
            if narrower:
                module = modules[place].get_submodule(sublayer.linears[-1].name)
                yield module.register_forward_hook(self._narrowing(block, sublayer, narrower))

    def passed(self) -> None:
        """To be called between the passes."""
        for (place, number), (output, instead) in self.ends.items():
            sublayer = self.space.anatomy.blocks[place].sublayers[number]
            dropping = [cut for cut in self.cuts[place, number] if not cut.state.has(sublayer)]
            output.register_hook(self._dropping(dropping, output.detach(), instead))  # type: ignore[no-untyped-call]
        self.ends.clear()

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

    def _narrowing(
        self, block: Block, sublayer: Sublayer, cuts: list[Cut]
    ) -> Callable[[nn.Module, tuple[torch.Tensor, ...], torch.Tensor], None]:
        linear, weights = sublayer.linears[-1], self.subnet.weights
        position = block.linears.index(linear)

        def columns(state: BlockState, device: torch.device) -> torch.Tensor:
            return kept_positions(linear.columns, linear.inputs, block, state.kept, device)

        def forward(module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            x, y = inputs[0].detach(), output.detach()

            def backward(gradient: torch.Tensor) -> None:
                here, whole = columns(self.states[block.index], x.device), as_matrix(linear, module.weight.detach())
                for cut in cuts:
                    places = torch.searchsorted(here, columns(cut.state, x.device))
                    matrix = weights.untreated(block.index, position, cut.state)
                    if matrix is None:
                        matrix = as_matrix(linear, weights.linear(block.index, position, cut.state))
                    elif cut.state.level(linear.name):
                        # Zeros where they are: to choose them anew for every width takes longer than all the rest.
                        matrix = matrix * (whole[:, places] != 0)
                    bias = weights.bias(block.index, position, cut.state)
                    self._note([cut], gradient, nn.functional.linear(x[..., places], matrix, bias) - y)

            output.register_hook(backward)  # type: ignore[no-untyped-call]

        return forward

    def _note(self, cuts: list[Cut], gradient: torch.Tensor, change: torch.Tensor) -> None:
        # Some families hand their linears (sequences * time, features).
        products = (gradient.float() * change.float()).sum(-1).reshape(len(self.scale), -1)
        pair = torch.stack([products.sum(), (products.square() * self.scale[:, :, 0]).sum()]).double()
        for cut in cuts:
            self.note((cut.gene, cut.level), pair)

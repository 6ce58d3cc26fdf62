"""The trie of a population, breadth first: each block comes to the device once, in each of its states once."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..space.state import BlockState, Outside, outside_of
from .faults import said_of
from .scores.teacher import Teacher
from .subnets.subnet import Subnet


@dataclass(slots=True)
class _Node:
    """Candidates that agree so far, by their number, and the hidden states of each batch."""

    members: list[int]
    hidden: list[torch.Tensor]


class Walk:
    """Candidates' way through the blocks, side by side.

    Attributes:
        passes: of sequences through layers, that each candidate is the first to need.
        failed: why candidates could not be carried out.
    """

    def __init__(
        self,
        subnet: Subnet,
        teacher: Teacher,
        states: Sequence[tuple[BlockState, ...]],
        batches: Sequence[range],
        errors: tuple[type[Exception], ...],
        spilled: bool,
    ) -> None:
        """
        Args:
            states: of all blocks, for each candidate; sorted, so that those next to each other agree longest.
            batches: of the teacher's sequences.
            errors: what is a candidate's own failure.
            spilled: hidden states wait on the host.
        """
        self._subnet, self._teacher, self._states, self._batches = subnet, teacher, states, batches
        self._errors, self._spilled = errors, spilled
        self.passes = [0] * len(states)
        self.failed: dict[int, str] = {}
        self._nodes: list[_Node] = []

    def through_blocks(self) -> None:
        """From the embedding to the last block."""
        self._nodes = self._embedded()
        for depth in range(len(self._states[0])):
            self._nodes = self._through(depth)

    def hidden(self, candidate: int) -> list[torch.Tensor]:
        """What the last block returns to a candidate that has not failed, for each batch."""
        node = next(node for node in self._nodes if candidate in node.members)
        return [self._here(states) for states in node.hidden]

    def _embedded(self) -> list[_Node]:
        blocks, text = self._teacher.blocks, self._teacher.text
        found: dict[Outside, list[int]] = {}
        for number, states in enumerate(self._states):
            found.setdefault(outside_of(blocks.anatomy.blocks[:1], states[:1]), []).append(number)
        nodes = []
        for outside, members in found.items():
            ids = [text.ids[batch.start : batch.stop] for batch in self._batches]
            try:
                self._subnet.set_outside(outside)
                nodes.append(_Node(members, [self._kept(blocks.embed(rows)) for rows in ids]))
            except self._errors as error:
                self.failed |= dict.fromkeys(members, said_of(error))
        return nodes

    def _through(self, depth: int) -> list[_Node]:
        wanted: dict[BlockState, list[tuple[_Node, list[int]]]] = {}
        for node in self._nodes:
            parts: dict[BlockState, list[int]] = {}
            for member in node.members:
                parts.setdefault(self._states[member][depth], []).append(member)
            for state, members in parts.items():
                wanted.setdefault(state, []).append((node, members))
        nodes: list[_Node] = []
        sequences = sum(map(len, self._batches))
        dense = self._subnet.states[depth]
        for state, branches in wanted.items():
            if state.removed:
                nodes += [_Node(members, node.hidden) for node, members in branches]
                continue
            for node, members in branches:
                try:
                    self._subnet.set_block(depth, state)
                    hidden = [self._kept(self._subnet.run(depth, self._here(batch))) for batch in node.hidden]
                except self._errors as error:
                    self.failed |= dict.fromkeys(members, said_of(error))
                    continue
                self.passes[members[0]] += sequences
                nodes.append(_Node(members, hidden))
        self._subnet.set_block(depth, dense)
        return nodes

    def _kept(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden.cpu() if self._spilled else hidden

    def _here(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden.to(self._teacher.blocks.device)

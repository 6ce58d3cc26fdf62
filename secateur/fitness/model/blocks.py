"""Running a language model block by block, whatever its family.

What lies around the blocks (embeddings, masks, positions, scaling, final norm, head, soft-capping) is the model's own
forward: its list of blocks is exchanged for probes that note what the model passes to each block and hand back what we
put in. So no family's forward is written a second time here.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ...space.anatomy import Anatomy, Block
from ..text import NOT_MASKED
from .shelf import Change, Shelf


class _CaughtError(Exception):
    """Leaves the model's forward once the last block has been reached."""


class _Note(nn.Module):
    """In a block's place: notes the hidden states and arguments, and passes the hidden states on."""

    def __init__(self, notes: list[tuple[torch.Tensor, tuple[Any, ...], dict[str, Any]]], last: bool) -> None:
        super().__init__()
        self.notes, self.last = notes, last

    def forward(self, hidden: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        self.notes.append((hidden, args, kwargs))
        if self.last:
            raise _CaughtError
        return hidden


class _HandOver(nn.Module):
    """In the blocks' place: returns the hidden states it was given."""

    def __init__(self, hidden: torch.Tensor) -> None:
        super().__init__()
        self.hidden = hidden

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return self.hidden


@contextlib.contextmanager
def unpacked() -> Iterator[None]:
    """For forward passes of sequences that are one document each.

    Transformers looks at positions for several documents packed into one sequence, for which it has to wait for the
    device at every pass; here there is always one.
    """
    from transformers import masking_utils  # which takes a second, and every model has imported already

    look = getattr(masking_utils, "find_packed_sequence_indices", None)
    if look is None:
        yield
        return
    masking_utils.find_packed_sequence_indices = lambda *_, **__: None
    try:
        yield
    finally:
        masking_utils.find_packed_sequence_indices = look


class Blocks:
    """A model as embedding, blocks and head; hidden states are (sequences, time, hidden).

    `shelf`: brings blocks to the device as they are needed, where they are not all there.
    """

    def __init__(self, model: nn.Module, anatomy: Anatomy, shelf: Shelf | None = None) -> None:
        parent, _, self._name = anatomy.blocks_path.rpartition(".")
        self.model = model
        self.anatomy = anatomy
        self.shelf = shelf
        self._parent = model.get_submodule(parent)
        self.modules: list[nn.Module] = list(self._parent.get_submodule(self._name).children())
        self._list = self._parent.get_submodule(self._name)
        self._dense: dict[int, Mapping[str, torch.Tensor]] = {}
        self._arguments: dict[tuple[int, int], list[tuple[tuple[Any, ...], dict[str, Any]]]] = {}

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @property
    def size(self) -> int:
        """Bytes of all dense blocks."""
        return sum(block.parameters for block in self.anatomy.blocks) * next(self.model.parameters()).element_size()

    def dense(self, index: int) -> Mapping[str, torch.Tensor]:
        """The parameters of a block, by their names in it, as they were when first asked for: the model has to be dense
        then. Those of a shelf are not to be kept."""
        if self.shelf is not None:
            return self.shelf.tensors(index)
        if index not in self._dense:
            module, sublayers = self.modules[index], self.anatomy.blocks[index].sublayers
            tensors = [tensor for sublayer in sublayers for tensor in sublayer.parameters()]
            with torch.inference_mode(False):  # whoever asks first, trainings may ask later
                self._dense[index] = {tensor.name: module.get_parameter(tensor.name).data for tensor in tensors}
        return self._dense[index]

    def change(self, change: Change) -> None:
        """Changes every parameter of the dense blocks for good."""
        if self.shelf is not None:
            self.shelf.change(change)
            return
        self._dense.clear()
        for block, module in zip(self.anatomy.blocks, self.modules, strict=True):
            for sublayer in block.sublayers:
                for tensor in sublayer.parameters():
                    parameter = module.get_parameter(tensor.name)
                    parameter.data = change(block.index, tensor, parameter.data)

    @contextlib.contextmanager
    def exchanged(self, modules: list[nn.Module]) -> Iterator[None]:
        """The model with other modules in its blocks' place, as long as this is open."""
        setattr(self._parent, self._name, nn.ModuleList(modules))
        try:
            yield
        finally:
            setattr(self._parent, self._name, self._list)

    def _forward(self, ids: torch.Tensor, probes: list[nn.Module]) -> Any:
        with self.exchanged(probes), unpacked():
            return self.model(input_ids=ids, use_cache=False)

    @torch.inference_mode()
    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """What the first block receives for token ids (sequences, time)."""
        notes: list[tuple[torch.Tensor, tuple[Any, ...], dict[str, Any]]] = []
        count = len(self.modules)
        with contextlib.suppress(_CaughtError):
            self._forward(ids.to(self.device), [_Note(notes, index == count - 1) for index in range(count)])
        # Masks and positions depend on the shape alone.
        self._arguments[ids.shape[0], ids.shape[1]] = [(args, kwargs) for _, args, kwargs in notes]
        return notes[0][0]

    @torch.inference_mode()
    def run(self, index: int, hidden: torch.Tensor) -> torch.Tensor:
        """Block `index` on hidden states; ids of their shape must have been embedded before."""
        args, kwargs = self._arguments[hidden.shape[0], hidden.shape[1]][index]
        result: torch.Tensor = self.modules[index](hidden, *args, **kwargs)
        return result

    def groups(self, rows: torch.Tensor) -> Iterator[Sequence[torch.Tensor]]:
        """Rows as they are to go through the model side by side: all, where its blocks come in turns; else each alone,
        which holds least."""
        if self.shelf is not None:
            yield list(rows)
        else:
            yield from ([row] for row in rows)

    def inputs(
        self, rows: Iterable[torch.Tensor], stop: int | None = None
    ) -> Iterator[tuple[Block, list[torch.Tensor]]]:
        """Walks through the model: each block before `stop`, with what it receives for each row (time,) of ids."""
        hidden = [self.embed(row[None]) for row in rows]
        for block in self.anatomy.blocks[:stop]:
            if block.index:
                hidden = [self.run(block.index - 1, states) for states in hidden]
            yield block, hidden

    def loss(self, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of the whole model for ids and targets (1, time), as in `scores.predicted`; differentiable."""
        known = targets[0] != NOT_MASKED
        with unpacked():
            logits = self.model(input_ids=ids.to(self.device), use_cache=False).logits[0].float()
        return torch.nn.functional.cross_entropy(logits[known], targets[0][known].to(self.device))

    @torch.inference_mode()
    def normed(self, hidden: torch.Tensor) -> torch.Tensor:
        """Final norm alone: (1, time, hidden), what the head would be given."""
        ids = torch.zeros(hidden.shape[:2], dtype=torch.int64, device=hidden.device)
        model: Any = self.model
        with self.exchanged([_HandOver(hidden)]), unpacked():
            result: torch.Tensor = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        return result

    def outcome(self, hidden: torch.Tensor) -> torch.Tensor:
        """What the model says in the end of (1, time, hidden): logits, or without a head the normed stream."""
        return self.normed(hidden)[0] if self.anatomy.headless else self.logits(hidden)

    @torch.inference_mode()
    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Final norm and head: (1, time, hidden) to logits (time, vocabulary) in the model's own precision."""
        ids = torch.zeros(hidden.shape[:2], dtype=torch.int64, device=hidden.device)
        result: torch.Tensor = self._forward(ids, [_HandOver(hidden)]).logits[0]
        return result

"""A workplace: all that opens a bench, as plain values that a worker can be given; and the opening of it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..space.anatomy import Anatomy
from ..space.errors import SecateurError
from ..space.families.table import FAMILIES, anatomy, saved_dtype
from ..space.names import PREPARE
from ..space.space import Space
from .bench import Bench
from .bits.imatrix import Importances, read_importances
from .free import give_back
from .memory import WHOLE, Placement
from .model.blocks import Blocks
from .model.border import library
from .model.checkpoint import anatomy_of, load_model, load_tokenizer, local_folder, open_model
from .model.configuration import load_config
from .model.device import find_device
from .model.dtypes import DTYPES
from .model.examined import NOWHERE, Source, examine
from .model.pooling import pooling_of
from .model.shelf import Shelf, held
from .room import ROOM, Room
from .scores.tasks import NO_TASKS, TaskRequest
from .text import Sequences, TextRequest, framed, masked, read, thinned
from .widths.axes import Order
from .widths.preparation import (
    WidthSettings,
    find_orders,
    measure_orders,
    narrower_sublayers,
    permute_model,
    same_order,
    width_folder,
)
from .widths.rotation import Basis, find_basis

MEASURING = "measuring the importance of heads and channels"
Watch = Callable[[str, int, int], None]
"""Told what is being prepared, and how many blocks of how many are done."""


def unwatched(_what: str, _done: int, _total: int) -> None:
    """For whoever does not look."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """Which model, which texts, and how levels are made.

    Attributes:
        path: of the model, as recipes name it.
        texts: disjoint by document; the first is the calibration text.
        dtype: that the model computes in.
        saved: that its bytes are counted and written in, "auto" being its own; None: the one that it computes in.
        device: of torch, or `auto`.
        trust_remote_code: whether code of the model's authors may run.
        seed: of the choice of texts.
        pruner: makes sparsity levels; None where there are none.
        widths: how narrower sublayers are made; None where there are none.
        tasks: of lm-eval, and functions of the user's own.
        placement: where the model's blocks are.
        quantizer: makes levels of fewer bits; None where there are none.
        importance: a file that says how much inputs are worth to it; None: the text does.
    """

    path: str
    texts: tuple[TextRequest, ...]
    dtype: str = "float32"
    saved: str | None = None
    device: str = "cpu"
    trust_remote_code: bool = False
    seed: int = 0
    pruner: str | None = None
    widths: WidthSettings | None = None
    tasks: TaskRequest = NO_TASKS
    placement: Placement = WHOLE
    quantizer: str | None = None
    importance: str | None = None

    def open(self, space: Space, watch: Watch = unwatched) -> Bench:
        """Loads and prepares; see `load` and `Loaded.prepared` for what they raise."""
        return self.load().prepared(space, watch)

    def load(self) -> "Loaded":
        """Reads the texts, then loads the model.

        Raises:
            SecateurError: a text is missing or too short, the model cannot be loaded, or it gives no finite numbers.
        """
        path, dtype, device = self.path, self.dtype, find_device(self.device)
        tokenizer, texts, saved = self.read_texts()
        source = NOWHERE
        if self.placement.blocks is None:
            model = load_model(path, dtype, device, self.trust_remote_code)
        else:
            give_back()
            model, source = open_model(path, dtype, device, self.trust_remote_code)
        shape = anatomy_of(model, saved)
        examined = examine(model, shape, path, source)
        loaded = Loaded(
            model,
            tokenizer,
            shape,
            examined.digest,
            texts,
            self.pruner,
            self.widths,
            self.tasks,
            self._shelf(model, shape, source, device),
            examined.zeros,
            self.placement.room,
            self.quantizer,
            read_importances(Path(self.importance), shape) if self.importance is not None else None,
            pooling_of(Path(local_folder(path))),
        )
        _check_pass(loaded.blocks, loaded.calibration, path, dtype)
        return loaded

    def read_texts(self) -> tuple[Any, dict[str, Sequences], str]:
        """The model's tokenizer, the texts by title as they will be scored, and the dtype that is saved; no weights.

        Raises:
            SecateurError: a text is missing, too short, or longer than the model's positions.
        """
        config = load_config(self.path, self.trust_remote_code)
        saved = saved_dtype(self.saved or self.dtype, config)
        shape = anatomy(config, saved)
        tokenizer = load_tokenizer(self.path, self.trust_remote_code)
        used: frozenset[str] = frozenset()
        texts: dict[str, Sequences] = {}
        # Those with a seed of their own are the same whatever the others are.
        for request in sorted(self.texts, key=lambda one: one.seed is None):
            seed = self.seed if request.seed is None else request.seed
            text = read(request, tokenizer, shape, seed, used)
            used |= text.documents
            if not shape.causal:
                text = framed(text, tokenizer) if shape.headless else masked(text, tokenizer, seed)
            if request.positions is not None:
                if shape.headless:
                    raise SecateurError(
                        f"text '{request.title}': a model without a head is scored on whole sequences; leave "
                        "'positions' out"
                    )
                text = thinned(text, request.positions, seed)
            texts[request.title] = text
        texts = {request.title: texts[request.title] for request in self.texts}
        positions = FAMILIES[shape.family].positions(config)
        for title, text in texts.items():
            if positions is not None and text.length > positions:
                raise SecateurError(
                    f"text '{title}': length {text.length} is more than the model's {positions} positions"
                )
        return tokenizer, texts, saved

    def _shelf(self, model: torch.nn.Module, shape: Anatomy, source: Source, device: torch.device) -> Shelf | None:
        if self.placement.blocks is None:
            return None
        if self.placement.offload == "cpu":
            source = held(shape, source, device)
        return Shelf(shape, Blocks(model, shape).modules, source, device, self.placement.blocks)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model and its texts as they were read; `prepared` puts the model in order and makes a bench of it.

    `digest` names the model's weights, of which `zeros` in the linears are zero (None: not counted); `shelf` and `room`
    are those of its placement. The rest is as `Bench` and `Workplace` have it.
    """

    model: torch.nn.Module
    tokenizer: Any
    anatomy: Anatomy
    digest: str
    texts: Mapping[str, Sequences]
    pruner: str | None = None
    widths: WidthSettings | None = None
    tasks: TaskRequest = NO_TASKS
    shelf: Shelf | None = None
    zeros: int | None = None
    room: Room = ROOM
    quantizer: str | None = None
    importances: Importances | None = None
    pooling: str = "mean"

    @property
    def blocks(self) -> Blocks:
        """The model in its parts."""
        return Blocks(self.model, self.anatomy, self.shelf)

    @property
    def calibration(self) -> Sequences:
        """The text that candidates are scored on."""
        return next(iter(self.texts.values()))

    @property
    def preparing(self) -> Sequences:
        """The text that levels, orders and repairs are made from: the one for that, or calibration's."""
        return self.texts.get(PREPARE) or self.calibration

    def prepared(self, space: Space, watch: Watch = unwatched) -> Bench:
        """Makes ready what every level of the space needs; once, since it changes the model in place.

        Measures importance and puts heads, channels and residual features in that order, repairs every width, and fills
        the level store.

        Raises:
            SecateurError: a file in the cache is damaged, or cannot be written.
        """
        bench = self.arranged(space, watch)
        bench.prepare(space, watch)
        return bench

    def arranged(self, space: Space, watch: Watch = unwatched) -> Bench:
        """The first half of `prepared`: a bench whose model is in order, and of which no level is ready."""
        orders, basis = self._ordered(self.blocks, space, partial(watch, MEASURING))
        return Bench(
            self.model,
            self.tokenizer,
            self.anatomy,
            self.digest,
            self.texts,
            self.pruner,
            self.widths,
            self.tasks,
            orders,
            basis,
            shelf=self.shelf,
            zeros=self.zeros,
            room=self.room,
            quantizer=self.quantizer,
            importances=self._importances(orders, basis),
            pooling=self.pooling,
        )

    def _importances(self, orders: Sequence[Order], basis: Basis | None) -> Importances | None:
        """Those that were given, in the model's order.

        Raises:
            SecateurError: the residual stream is a rotated one, of which they say nothing.
        """
        if self.importances is None or not orders:
            return self.importances
        if basis is not None and basis.rotation is not None:
            raise SecateurError(
                "importance: a file says nothing of a rotated residual stream; leave it out, or write widths: {hidden: "
                "magnitude}"
            )
        return self.importances.ordered(self.anatomy, orders, basis.order if basis is not None else None)

    def measure_basis(self) -> Basis | None:
        """The basis of the residual stream, where that is narrowed; in the cache afterwards."""
        if self.widths is None or self.widths.hidden is None:
            return None
        folder = width_folder(self.digest, self.widths, self.preparing)
        return find_basis(self.blocks, self.widths.hidden, self.preparing, folder)

    def measure_orders(self, layers: Collection[int]) -> None:
        """Has the order of heads and channels of some layers in the cache, of a model that is not yet in order."""
        assert self.widths is not None
        folder = width_folder(self.digest, self.widths, self.preparing)
        measure_orders(self.blocks, self.widths.order, self.preparing, folder, layers, lambda done, total: None)

    def _ordered(
        self, blocks: Blocks, space: Space, watch: Callable[[int, int], None]
    ) -> tuple[list[Order], Basis | None]:
        """Measures, then permutes the model in place; no orders where no widths are searched."""
        if self.widths is None:
            return [], None
        folder = width_folder(self.digest, self.widths, self.preparing)
        basis = self.measure_basis()
        if any(narrower_sublayers(space).values()):
            orders = find_orders(blocks, self.widths.order, self.preparing, folder, watch)
        else:
            orders = [same_order(block) for block in self.anatomy.blocks]
        permute_model(blocks, orders, basis.order if basis is not None else None)
        return orders, basis


def _check_pass(blocks: Blocks, text: Sequences, path: str, dtype: str) -> None:
    """Raises SecateurError where the dense model itself gives no finite numbers."""
    with library(path, "the dense model cannot be run"):
        where = _not_finite(blocks, text.ids[:1])
    if where is not None:
        others = [name for name in DTYPES if name != dtype]
        raise SecateurError(
            f"model '{path}': the dense model is not finite in {dtype} from {where} on; "
            + (f"set model.dtype to {' or '.join(others)}" if dtype == "float16" else "it cannot be searched")
        )


def _not_finite(blocks: Blocks, ids: torch.Tensor) -> str | None:
    """The first part of the model that gives no finite numbers on these ids (1, time); None where all of it does."""
    hidden, where = blocks.embed(ids), "its embedding"
    for index in range(len(blocks.modules)):
        if not bool(hidden.isfinite().all()):
            return where
        hidden, where = blocks.run(index, hidden), f"block {index}"
    if not bool(hidden.isfinite().all()):
        return where
    return None if bool(blocks.outcome(hidden).isfinite().all()) else "its head"

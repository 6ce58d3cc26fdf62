"""Everything that scoring needs, loaded once: the model, its texts, the level store and the dense model's answers."""

import platform
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import transformers

from ..space.anatomy import HIDDEN, Anatomy
from ..space.genome import Genome
from ..space.latency import LatencyTable, Measured, Workload
from ..space.names import PREPARE
from ..space.objective import is_own
from ..space.scores import keeps_hidden
from ..space.space import Space
from ..space.treatments import Treatment
from .bits.imatrix import Importances
from .cache import cache_folder, digest
from .evaluator import SubnetEvaluator
from .model.blocks import Blocks
from .model.configuration import CHANCE
from .model.device import device_name, synchronise
from .model.shelf import Shelf
from .room import ROOM, Room
from .scores.own import own_score, source_digest
from .scores.tasks import NO_TASKS, TaskRequest
from .scores.teacher import Teacher
from .subnets.subnet import Subnet
from .subnets.weights import Repairs, Weights
from .text import Sequences
from .timing.latency import machine, measure_table, time_model
from .training import Trainer, Training
from .treatments import Compressor, Ground, Position, compressor, wanted_of
from .widths.axes import Order
from .widths.importance import Importance, importance
from .widths.preparation import (
    WidthSettings,
    fluctuations,
    narrower_sublayers,
    prepare_repairs,
    width_folder,
)
from .widths.rotation import Basis
from .zeros.own import OwnZeros


def versions() -> str:
    """Of the libraries that decide what a model computes."""
    return f"torch {torch.__version__}, transformers {transformers.__version__}"


@dataclass
class Bench:
    """A model that is ready to be scored: loaded, with heads and channels in order and every level in the store.

    `workplace.Loaded.prepared` makes it. `texts` maps titles to sequences; the first is the calibration text. `pruner`
    has made sparsity levels, `quantizer` those of fewer bits (by `importances` that were given, in the model's order),
    `widths` says how narrower ones were made; None where the space has no such genes.
    `orders` and `basis` are what heads, channels and residual features were put in order by; `compressors` are what
    carries out the treatments that the space has, by name. `shelf` has the blocks where these come in turns, `zeros` is
    how many there are in the linears (None: not counted), `room` how much may be held, `pooling` how it makes one
    embedding of a text.
    """

    model: torch.nn.Module
    tokenizer: Any
    anatomy: Anatomy
    digest: str
    texts: Mapping[str, Sequences]
    pruner: str | None
    widths: WidthSettings | None = None
    tasks: TaskRequest = NO_TASKS
    orders: list[Order] = field(default_factory=list)
    basis: Basis | None = None
    compressors: dict[str, Compressor] = field(default_factory=dict)
    shelf: Shelf | None = None
    zeros: int | None = None
    room: Room = ROOM
    quantizer: str | None = None
    importances: Importances | None = None
    pooling: str = "mean"
    _importance: dict[tuple[int, bool], Importance] = field(default_factory=dict)

    @cached_property
    def blocks(self) -> Blocks:
        return Blocks(self.model, self.anatomy, self.shelf)

    @cached_property
    def subnet(self) -> Subnet:
        """The model, as a genome makes it."""
        return Subnet(self.blocks, self.weights)

    @cached_property
    def weights(self) -> Weights:
        """The weights of every state; the model must be dense."""
        repairs = None
        if self.widths is not None and self.widths.repair is not None:
            repairs = Repairs(self.width_folder, self.widths.repair)
        return Weights(self.blocks, self.compressors, repairs, self.basis, self.room)

    def prepare(
        self, space: Space, watch: Callable[[str, int, int], None], layers: Collection[int] | None = None
    ) -> None:
        """Makes ready every width and every treatment that the space has, in `layers` (None: in all of them).

        Raises:
            SecateurError: something in the cache is damaged, or cannot be written.
        """
        chosen = set(range(len(self.anatomy.blocks)) if layers is None else layers)
        if self.widths is not None and self.widths.repair is not None:
            narrower = {block: widths for block, widths in narrower_sublayers(space).items() if block in chosen}
            told = partial(watch, f"preparing repairs ({self.widths.repair})")
            prepare_repairs(self.blocks, (self.widths.repair,), narrower, self.preparing, self.width_folder, told)
        self._prepare_levels(space, watch, chosen)

    def _prepare_levels(self, space: Space, watch: Callable[[str, int, int], None], layers: set[int]) -> None:
        """Every treatment, and zeros where there is a pruner."""
        wanted: dict[str, dict[Position, set[Treatment]]] = {} if self.pruner is None else {"zeros": {}}
        for place, levels_there in wanted_of(space).items():
            for level in levels_there if place[0] in layers else ():
                wanted.setdefault(level.name, {}).setdefault(place, set()).add(level)
        if not wanted:
            return
        rotation = self.basis.rotation if self.basis is not None else None
        narrower, whole = self.widths is not None, self.prepared_digest
        ground = Ground(
            self.blocks,
            whole,
            self.preparing,
            self.pruner,
            self.has_zeros,
            narrower,
            rotation,
            self.room.assembled,
            self.quantizer,
            self.importances,
        )
        for name, levels in wanted.items():
            if name not in self.compressors:
                self.compressors[name] = compressor(name, ground)
            told = "preparing sparsity levels" if name == "zeros" else f"preparing levels of {name}"
            self.compressors[name].prepare(levels, partial(watch, told))

    @property
    def width_folder(self) -> Path:
        """Where importance orders and repaired widths are kept."""
        assert self.widths is not None
        return width_folder(self.digest, self.widths, self.preparing)

    @cached_property
    def has_zeros(self) -> bool:
        """Whether the linears have zeros by themselves, as those of a model that was pruned before."""
        if self.zeros is None:
            self.zeros = sum(
                int((self.blocks.dense(block.index)[f"{linear.name}.weight"] == 0).sum())
                for block in self.anatomy.blocks
                for linear in block.linears
            )
        return self.zeros > CHANCE * self.anatomy.linear_weights

    @property
    def prepared_digest(self) -> str:
        """Names the dense model as it is scored: its weights, and the order they were put in."""
        return self.digest if self.widths is None else digest(self.digest, self.width_folder.name)

    @property
    def calibration(self) -> Sequences:
        """The text that candidates are scored on."""
        return next(iter(self.texts.values()))

    @property
    def preparing(self) -> Sequences:
        """The text that levels, orders and repairs are made from: the one for that, or calibration's."""
        return self.texts.get(PREPARE) or self.calibration

    def own_zeros(self) -> OwnZeros | None:
        """The zeros that the model has by itself, once everything is prepared.

        None where it has hardly any, as files of few bits do, such as SmolLM2's.
        """
        return OwnZeros(self.weights) if self.has_zeros else None

    def kept_orders(self) -> dict[str, Any]:
        """The importance orders as plain lists, by their names in a plan; indices are those of the dense model."""
        hidden = self.basis.order if self.basis is not None else None
        dimensions = {dimension: None for block in self.anatomy.blocks for dimension in block.dimensions}
        return {
            **{
                dimension: [order[dimension].tolist() if dimension in order else None for order in self.orders]
                for dimension in dimensions
            },
            HIDDEN: hidden.tolist() if hidden is not None else None,
        }

    def fluctuations(self, sequences: int) -> dict[str, list[list[float]]]:
        """FLAP's standardised scores of each block's units by dimension; see `widths.fluctuations`."""
        found: dict[str, list[list[float]]] = {}
        for row in fluctuations(self.blocks, self.preparing, sequences):
            for dimension, scores in row.items():
                found.setdefault(dimension, []).append(scores.tolist())
        return found

    def evaluator(self, space: Space, title: str, scores: tuple[str, ...]) -> SubnetEvaluator:
        """Scores genomes of `space` on one of the texts."""
        hidden = keeps_hidden(self.anatomy, scores)
        teacher = Teacher(
            self.blocks, self.texts[title], self.prepared_digest, keep_hidden=hidden, pooling=self.pooling
        )
        own = {name: own_score(name, teacher, self.tokenizer, self.tasks) for name in scores if is_own(name)}
        return SubnetEvaluator(space, self.subnet, teacher, scores, own, self.room)

    def trainer(self, space: Space, settings: Training, title: str, folder: Path | None = None) -> Trainer:
        """Trains subnets on one of the texts; states are kept in `folder`, by default in the cache."""
        teacher = Teacher(self.blocks, self.texts[title], self.prepared_digest, keep_hidden=False)
        identity = digest(self.provenance(title, ()), self.dtype)
        return Trainer(space, self.subnet, teacher, settings, folder or cache_folder() / "training", identity)

    def provenance(self, title: str, scores: Iterable[str]) -> dict[str, Any]:
        """What makes evaluations on a text comparable."""
        others = {name: one.identity for name, one in self.compressors.items() if name != "zeros"}
        return {
            "model": self.digest,
            "text": self.texts[title].digest,
            "pruner": self.pruner or "",
            "levels": self.compressors["zeros"].identity if self.pruner else "",
            **({"treatments": others} if others else {}),
            **({"widths": f"{self.width_folder.name} {self.widths.repair or 'unrepaired'}"} if self.widths else {}),
            "scores": sorted(map(self._named, scores)),
            "device": device_name(self.blocks.device),
            "versions": versions(),
            "machine": platform.machine(),
        }

    def _named(self, score: str) -> str:
        """A score with what decides what it says."""
        if is_own(score):
            return f"{score} {source_digest(score, self.tasks)}"
        return f"{score} {self.pooling}" if score == "embedding" else score

    def importance(self, sequences: int, outliers: bool) -> Importance:
        """Statistics of the dense model on the text that levels are made from, measured once."""
        if (sequences, outliers) not in self._importance:
            self._importance[sequences, outliers] = importance(self.blocks, self.preparing, sequences, outliers)
        return self._importance[sequences, outliers]

    def latency_table(
        self,
        space: Space,
        workload: Workload,
        count: int | None,
        spread: float,
        seconds: float,
        watch: Callable[[int, int], None] = lambda done, total: None,
    ) -> LatencyTable:
        """What every shape of the space takes on the model's device with `count` threads; see `measure_table`.

        Shapes stand in blocks that need not have such a level, for which nothing is repaired: without repairs.
        """
        weights = Weights(self.blocks, self.compressors, None, self.basis, self.room)
        return measure_table(self.blocks, weights, space.shapes(), workload, self.dtype, count, spread, seconds, watch)

    @property
    def dtype(self) -> str:
        """What the model computes in, as torch names it."""
        return str(next(self.model.parameters()).dtype).removeprefix("torch.")

    def machine(self, count: int | None) -> dict[str, Any]:
        """What identifies the machine that models are timed on with `count` threads."""
        return machine(self.blocks.device, self.dtype, count)

    def time_whole(self, space: Space, genome: Genome, workload: Workload, count: int | None, repeats: int) -> Measured:
        """A genome as a model of its own, timed end to end in turns with the dense one."""
        return time_model(self.model, self.anatomy, self.weights, space.states(genome), workload, count, repeats)

    def tokens_per_second(self, sequences: int = 3) -> float:
        """Speed of one dense evaluation on this machine, measured on a few calibration sequences."""
        times = []
        for row in self.calibration.ids[:sequences]:
            synchronise(self.blocks.device)
            started = perf_counter()
            hidden = self.blocks.embed(row[None])
            for index in range(len(self.blocks.modules)):
                hidden = self.blocks.run(index, hidden)
            self.blocks.outcome(hidden)
            synchronise(self.blocks.device)
            times.append(perf_counter() - started)
        return self.calibration.length / sorted(times)[len(times) // 2]

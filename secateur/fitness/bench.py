"""Everything that scoring needs, loaded once: the model, its texts, the level store and the dense model's answers."""

import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import transformers

from ..space.anatomy import Anatomy
from ..space.errors import SecateurError
from ..space.families.table import FAMILIES, anatomy, saved_dtype
from ..space.genome import Genome
from ..space.latency import LatencyTable, Measured, Workload
from ..space.space import Space
from .cache import digest
from .evaluator import SubnetEvaluator
from .model.blocks import Blocks
from .model.border import library
from .model.checkpoint import DTYPES, anatomy_of, check_finite, load_model, load_tokenizer, model_digest
from .model.configuration import CHANCE, load_config
from .scores.own import is_own, own_score, source_digest
from .scores.tasks import NO_TASKS, TaskRequest
from .scores.teacher import Teacher
from .subnets.subnet import Subnet
from .subnets.weights import Repairs, Weights
from .text import Sequences, TextRequest, masked, read, thinned
from .timing.latency import machine, measure_table, time_model
from .widths.axes import Order
from .widths.importance import Importance, importance
from .widths.preparation import (
    WidthSettings,
    find_orders,
    fluctuations,
    narrower_sublayers,
    permute_model,
    prepare_repairs,
    same_order,
    width_folder,
)
from .widths.rotation import Basis, find_basis
from .zeros.level_store import VERSION, LevelStore
from .zeros.own import OwnZeros
from .zeros.preparation import prepare, store_folder


@dataclass
class Bench:
    """A loaded model with its texts. `texts` maps titles to sequences; the first is the calibration text.

    `pruner` makes sparsity levels, `widths` says how narrower sublayers are made; None where the space has no such
    genes.
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
    _importance: dict[tuple[int, bool], Importance] = field(default_factory=dict)

    @cached_property
    def blocks(self) -> Blocks:
        return Blocks(self.model, self.anatomy)

    @cached_property
    def subnet(self) -> Subnet:
        return Subnet(self.blocks, self.weights)

    @cached_property
    def weights(self) -> Weights:
        """The weights of every state; the model must be dense, and permuted by `prepare` where widths are searched."""
        repairs = None
        if self.widths is not None and self.widths.repair is not None:
            repairs = Repairs(self.width_folder, self.widths.repair)
        return Weights(self.blocks, self.store, repairs, self.basis)

    @cached_property
    def store(self) -> LevelStore | None:
        """The level store; None when the space has no sparsity genes."""
        if self.pruner is None:
            return None
        return LevelStore(self.store_folder, self.pruner, self.anatomy, self.blocks.modules)

    @property
    def width_folder(self) -> Path:
        assert self.widths is not None
        return width_folder(self.digest, self.widths, self.calibration)

    @property
    def store_folder(self) -> Path:
        assert self.pruner is not None
        return store_folder(self.prepared_digest, self.pruner, self.calibration, self.has_zeros)

    @cached_property
    def has_zeros(self) -> bool:
        """Whether the linears have zeros by themselves, as those of a model that was pruned before."""
        weights = [
            module.get_parameter(f"{linear.name}.weight")
            for block, module in zip(self.anatomy.blocks, self.blocks.modules, strict=True)
            for linear in block.linears
        ]
        return sum(int((weight == 0).sum()) for weight in weights) > CHANCE * self.anatomy.linear_weights

    @property
    def prepared_digest(self) -> str:
        """Names the dense model as it is scored: its weights, and the order they were put in."""
        return self.digest if self.widths is None else digest(self.digest, self.width_folder.name)

    @property
    def calibration(self) -> Sequences:
        return next(iter(self.texts.values()))

    def prepare(self, space: Space, watch: Callable[[str, int, int], None] = lambda what, done, total: None) -> None:
        """Makes ready what every level of the space needs; once, before anything is scored.

        Measures importance and puts heads, channels and residual features in that order, repairs every width, and fills
        the level store. `watch` is told what is being prepared, and how many blocks of how many are done.

        Raises:
            SecateurError: a file in the cache is damaged, or cannot be written.
        """
        if self.widths is not None:
            self._prepare_widths(self.widths, space, partial(watch, "measuring the importance of heads and channels"))
            if self.widths.repair is not None:
                wanted = narrower_sublayers(space)
                told = partial(watch, f"preparing repairs ({self.widths.repair})")
                prepare_repairs(self.blocks, (self.widths.repair,), wanted, self.calibration, self.width_folder, told)
        if self.pruner is not None:
            levels = {level for gene in space.genes for level in gene.treatments}
            layers = {block for gene in space.genes if gene.treatments for block in gene.blocks}
            rotation = self.basis.rotation if self.basis is not None else None
            told = partial(watch, "preparing sparsity levels")
            narrower = self.widths is not None
            prepare(
                self.blocks, self.pruner, levels, layers, self.calibration, self.store_folder, told, narrower, rotation
            )
            assert self.store is not None
            self.store.check(levels, layers, narrower)

    def own_zeros(self) -> OwnZeros | None:
        """The zeros that the model has by itself, once everything is prepared.

        None where it has hardly any, as files of few bits do, such as SmolLM2's.
        """
        return OwnZeros(self.weights) if self.has_zeros else None

    def _prepare_widths(self, settings: WidthSettings, space: Space, watch: Callable[[int, int], None]) -> None:
        """Measures, then permutes the model in place; does nothing the second time."""
        if self.orders:
            return
        if settings.hidden is not None:
            self.basis = find_basis(self.blocks, settings.hidden, self.calibration, self.width_folder)
        if any(narrower_sublayers(space).values()):
            self.orders = find_orders(self.blocks, settings.order, self.calibration, self.width_folder, watch)
        else:
            self.orders = [same_order(block) for block in self.anatomy.blocks]
        permute_model(self.blocks, self.orders, self.basis.order if self.basis is not None else None)

    def kept_orders(self) -> dict[str, Any]:
        """The importance orders as plain lists, by their names in a plan; indices are those of the dense model."""
        hidden = self.basis.order if self.basis is not None else None
        return {
            "groups": [order.groups.tolist() for order in self.orders],
            "queries": [order.queries.tolist() for order in self.orders],
            "channels": [order.channels.tolist() for order in self.orders],
            "hidden": hidden.tolist() if hidden is not None else None,
        }

    def fluctuations(self, sequences: int) -> dict[str, list[list[float]]]:
        """FLAP's standardised scores of each block's KV groups and channels; see `widths.fluctuations`."""
        pairs = fluctuations(self.blocks, self.calibration, sequences)
        return {"groups": [one.tolist() for one, _ in pairs], "channels": [one.tolist() for _, one in pairs]}

    def evaluator(self, space: Space, title: str, scores: tuple[str, ...]) -> SubnetEvaluator:
        """Scores genomes of `space` on one of the texts."""
        teacher = Teacher(self.blocks, self.texts[title], self.prepared_digest)
        own = {name: own_score(name, teacher, self.tokenizer, self.tasks) for name in scores if is_own(name)}
        return SubnetEvaluator(space, self.subnet, teacher, scores, own)

    def provenance(self, title: str, scores: Iterable[str]) -> dict[str, Any]:
        """What makes evaluations on a text comparable."""
        return {
            "model": self.digest,
            "text": self.texts[title].digest,
            "pruner": self.pruner or "",
            "levels": f"{VERSION} {self.store_folder.name}" if self.pruner else "",
            **({"widths": f"{self.width_folder.name} {self.widths.repair or 'unrepaired'}"} if self.widths else {}),
            "scores": sorted(f"{name} {source_digest(name, self.tasks)}" if is_own(name) else name for name in scores),
            "device": self.blocks.device.type,
            "versions": f"torch {torch.__version__}, transformers {transformers.__version__}",
            "machine": platform.machine(),
        }

    def importance(self, sequences: int, outliers: bool) -> Importance:
        """Statistics of the dense model on the calibration text, measured once."""
        if (sequences, outliers) not in self._importance:
            self._importance[sequences, outliers] = importance(self.blocks, self.calibration, sequences, outliers)
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
        """What every shape of the space takes on the model's device with `count` threads; see `measure_table`."""
        return measure_table(
            self.blocks, self.weights, space.shapes(), workload, self.dtype, count, spread, seconds, watch
        )

    @property
    def dtype(self) -> str:
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
            started = perf_counter()
            hidden = self.blocks.embed(row[None])
            for index in range(len(self.blocks.modules)):
                hidden = self.blocks.run(index, hidden)
            self.blocks.logits(hidden)
            times.append(perf_counter() - started)
        return self.calibration.length / sorted(times)[len(times) // 2]


def open_bench(
    path: str,
    dtype: str,
    device: str,
    trust_remote_code: bool,
    calibration: TextRequest,
    held_out: Iterable[TextRequest],
    seed: int,
    pruner: str | None,
    widths: WidthSettings | None = None,
    tasks: TaskRequest = NO_TASKS,
    saved: str | None = None,
) -> Bench:
    """Reads the texts, then loads the model; texts are disjoint by document.

    `dtype`: that the model computes in; `saved`: that its bytes are counted and written in, "auto" being its own and
    None the one that it computes in.

    Raises:
        SecateurError: a text is missing or too short, the model cannot be loaded, or it gives no finite numbers.
    """
    if device != "cpu" and not torch.cuda.is_available():
        raise SecateurError(f"model.device '{device}': torch sees no such device; use cpu")
    config = load_config(path, trust_remote_code)
    saved = saved_dtype(saved or dtype, config)
    shape = anatomy(config, saved)
    tokenizer = load_tokenizer(path, trust_remote_code)
    used: frozenset[str] = frozenset()
    texts: dict[str, Sequences] = {}
    requests = (calibration, *held_out)
    for request in requests:
        texts[request.title] = read(request, tokenizer, shape, seed, used)
        used |= texts[request.title].documents
    model = load_model(path, dtype, device, trust_remote_code)
    check_finite(model, path)
    shape = anatomy_of(model, saved)
    if not shape.causal:
        texts = {title: masked(text, tokenizer, seed) for title, text in texts.items()}
    for request in requests:
        if request.positions is not None:
            texts[request.title] = thinned(texts[request.title], request.positions, seed)
    positions = FAMILIES[shape.family].positions(config)
    for title, text in texts.items():
        if positions is not None and text.length > positions:
            raise SecateurError(f"text '{title}': length {text.length} is more than the model's {positions} positions")
    bench = Bench(model, tokenizer, shape, model_digest(model), texts, pruner, widths, tasks)
    _check_pass(bench, path, dtype)
    return bench


def _check_pass(bench: Bench, path: str, dtype: str) -> None:
    """Raises SecateurError where the dense model itself gives no finite numbers."""
    with library(path, "the dense model cannot be run"):
        where = _not_finite(bench.blocks, bench.calibration.ids[:1])
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
    return None if bool(blocks.logits(hidden).isfinite().all()) else "its head"

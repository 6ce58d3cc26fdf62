"""Everything that scoring needs, loaded once: the model, its texts, the level store and the dense model's answers."""

import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import transformers

from ..space.anatomy import Anatomy
from ..space.errors import SecateurError
from ..space.gene import Sparsity
from ..space.space import Space
from .blocks import Blocks
from .checkpoint import anatomy_of, load_model, load_tokenizer, model_digest
from .evaluator import SubnetEvaluator
from .importance import Importance, importance
from .level_store import VERSION, LevelStore
from .prepare import prepare, store_folder
from .subnet import Subnet
from .teacher import Teacher
from .text import Sequences, documents, from_token_file, pack


@dataclass(frozen=True, slots=True)
class TextRequest:
    """A text to be read and packed; the fields are those of a recipe's text settings."""

    title: str
    source: str
    field: str
    split: str
    sequences: int
    length: int
    windows_per_document: int


@dataclass
class Bench:
    """A loaded model with its texts. `texts` maps titles to sequences; the first is the calibration text."""

    model: torch.nn.Module
    tokenizer: Any
    anatomy: Anatomy
    digest: str
    texts: Mapping[str, Sequences]
    pruner: str | None
    store_folder: Path | None
    _store: LevelStore | None = field(default=None)
    _importance: dict[tuple[int, bool], Importance] = field(default_factory=dict)

    @cached_property
    def blocks(self) -> Blocks:
        return Blocks(self.model, self.anatomy)

    @cached_property
    def subnet(self) -> Subnet:
        return Subnet(self.blocks, self.store)

    @property
    def store(self) -> LevelStore | None:
        """The level store; None when the space has no sparsity genes."""
        if self._store is None and self.pruner is not None and self.store_folder is not None:
            self._store = LevelStore(self.store_folder, self.pruner, self.anatomy, self.blocks.modules)
        return self._store

    @property
    def calibration(self) -> Sequences:
        return next(iter(self.texts.values()))

    def prepare(self, space: Space, watch: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Fills the level store with every level of the space and checks it; raises SecateurError when damaged."""
        if self.pruner is None or self.store_folder is None:
            return
        levels = {level for gene in space.genes for level in gene.levels if isinstance(level, Sparsity)}
        layers = {block for gene in space.genes if gene.kind == "sparsity" for block, _ in gene.members}
        prepare(self.blocks, self.pruner, levels, layers, self.calibration, self.store_folder, watch)
        assert self.store is not None
        self.store.check(levels, layers)

    def evaluator(self, space: Space, title: str, scores: tuple[str, ...]) -> SubnetEvaluator:
        """Scores genomes of `space` on one of the texts."""
        return SubnetEvaluator(space, self.subnet, Teacher(self.blocks, self.texts[title], self.digest), scores)

    def provenance(self, title: str, scores: Iterable[str]) -> dict[str, Any]:
        """What makes evaluations on a text comparable."""
        return {
            "model": self.digest,
            "text": self.texts[title].digest,
            "pruner": self.pruner or "",
            "levels": f"{VERSION} {self.store_folder.name}" if self.store_folder else "",
            "scores": sorted(scores),
            "device": self.blocks.device.type,
            "versions": f"torch {torch.__version__}, transformers {transformers.__version__}",
            "machine": platform.machine(),
        }

    def importance(self, sequences: int, outliers: bool) -> Importance:
        """Statistics of the dense model on the calibration text, measured once."""
        if (sequences, outliers) not in self._importance:
            self._importance[sequences, outliers] = importance(self.blocks, self.calibration, sequences, outliers)
        return self._importance[sequences, outliers]

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
) -> Bench:
    """Reads the texts, then loads the model; texts are disjoint by document.

    Raises:
        SecateurError: a text is missing or too short, or the model cannot be loaded.
    """
    if device != "cpu" and not torch.cuda.is_available():
        raise SecateurError(f"model.device '{device}': torch sees no such device; use cpu")
    tokenizer = load_tokenizer(path, trust_remote_code)
    used: frozenset[str] = frozenset()
    texts: dict[str, Sequences] = {}
    for request in (calibration, *held_out):
        texts[request.title] = _read(request, tokenizer, seed, used)
        used |= texts[request.title].documents
    model = load_model(path, dtype, device, trust_remote_code)
    anatomy = anatomy_of(model, dtype)
    positions = getattr(model.config, "max_position_embeddings", None)
    for title, text in texts.items():
        if positions is not None and text.length > positions:
            raise SecateurError(f"text '{title}': length {text.length} is more than the model's {positions} positions")
    digest = model_digest(model)
    folder = store_folder(digest, pruner, texts[calibration.title]) if pruner else None
    return Bench(model, tokenizer, anatomy, digest, texts, pruner, folder)


def _read(request: TextRequest, tokenizer: Any, seed: int, without: frozenset[str]) -> Sequences:
    if request.source.endswith(".npy"):
        return from_token_file(Path(request.source), request.sequences, request.length, len(tokenizer), seed, without)
    return pack(
        request.source,
        documents(request.source, request.field, request.split),
        tokenizer,
        request.sequences,
        request.length,
        seed,
        without,
        request.windows_per_document,
    )

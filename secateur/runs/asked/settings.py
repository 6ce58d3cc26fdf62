"""The settings of a recipe, section by section: frozen values that refuse what does not fit them."""

import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from ...operators.rules.rule import Feature
from ...space.settings import Positive, Settings

ONE, EACH = "one", "each"


def _one_or_each(value: object) -> str:
    return EACH if isinstance(value, list | tuple) else ONE


Value = TypeVar("Value")
# A value for all stages, or a list of one for each; told apart first, so that what is wrong is said once.
OneOrEach = Annotated[
    Annotated[Value, Tag(ONE)] | Annotated[tuple[Value, ...], Field(min_length=1), Tag(EACH)],
    Discriminator(_one_or_each),
]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Optimiser = Literal["adamw", "sgd"]
ScoreName = Literal["kl", "kl_full", "cross_entropy", "hidden_error"]


class ModelSettings(Settings):
    """Which model: `package:NAME` (a GGUF in an installed package), a .gguf file, a folder, or a hub name.

    `dtype`: what a search computes in; `saved_dtype`: what weights are counted and written in, `auto` being the
    checkpoint's own.
    """

    path: str
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    saved_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "cpu"
    trust_remote_code: bool = False


class TextSettings(Settings):
    """Which text, and how much: `sequences` of `length` tokens, at most `windows_per_document` from one document.

    `config`: which one of a dataset that has several. `prefix`: every sequence begins with the tokens that the
    tokenizer begins a text with, if any. `positions`: at how many positions of each sequence it is scored, spread
    evenly at random (null: at all).
    """

    source: str
    field: str = "text"
    split: str = "train"
    config: str | None = None
    prefix: bool = True
    sequences: Positive = 32
    length: Annotated[int, Field(ge=8, le=2**31)] = 512
    windows_per_document: Positive = 1
    positions: Positive | None = None
    name: Annotated[str, Field(max_length=200)] = ""

    @model_validator(mode="after")
    def _positions_exist(self) -> "TextSettings":
        if self.positions is not None and self.positions >= self.length:
            raise ValueError(f"positions: {self.positions} are more than the {self.length - 1} with a next token")
        return self

    @property
    def title(self) -> str:
        """`name`, or the last part of the source."""
        return self.name or Path(self.source.split(":")[-1]).stem


Level = int | float | str


class GeneSettings(Settings):
    """Genes of one kind over `layers`.

    `levels`: for sparsity, shares of zeros and patterns; for `attention` (KV groups), `queries` (query heads per KV
    group), `mlp` (channels) and `hidden` (residual width, one gene for the model), what is kept: counts, shares, 0 for
    dropped, or a text such as "step 128" or "5 levels to 0.25"; one list for all layers or one for each. Attention and
    MLP without levels are kept or dropped. `multiple_of` rounds kept shares; null: channels and the residual width to
    64, or the next divisor of it that the dimension allows. `per` and `group` are for
    sparsity: a gene for each linear, sublayer, block or group of blocks; `per: model` is one width for all layers.
    """

    kind: Literal["attention", "queries", "mlp", "block", "hidden", "sparsity"]
    layers: str | tuple[int, ...] = "all"
    levels: str | tuple[Level | tuple[Level, ...], ...] = ()
    multiple_of: Positive | None = None
    per: Literal["linear", "sublayer", "block", "group", "model"] = "linear"
    group: Positive = 1

    @field_validator("levels", mode="before")
    @classmethod
    def _readable(cls, value: object) -> str | tuple[Level | tuple[Level, ...], ...]:
        """One message for what is no list of levels; a union of types would give one for each of its members."""

        def one(level: object) -> Level:
            if isinstance(level, bool) or not isinstance(level, int | float | str):
                shown = level if level is None or isinstance(level, bool) else f"that is a {type(level).__name__}"
                raise ValueError(f"cannot read level {shown}; write counts, shares, or one list of them per layer")
            if len(str(level)) > 40 or (isinstance(level, float) and not math.isfinite(level)):
                raise ValueError(f"cannot read level {str(level)[:40]}; write a count or a share")
            return level

        if isinstance(value, str):
            return value
        if not isinstance(value, list | tuple):
            raise ValueError("write a list of levels, or a text such as 'step 128'")
        return tuple(tuple(map(one, level)) if isinstance(level, list | tuple) else one(level) for level in value)

    @model_validator(mode="after")
    def _fits_kind(self) -> "GeneSettings":
        if self.kind == "sparsity" and (not self.levels or isinstance(self.levels, str)):
            raise ValueError("sparsity genes need a list of 'levels', such as [0.4, 0.5, 0.6] or ['2:4']")
        if self.kind == "sparsity" and any(isinstance(level, tuple) for level in self.levels):
            raise ValueError("sparsity genes take one list of 'levels'; give layers that differ genes of their own")
        if self.kind in ("queries", "hidden") and not self.levels:
            raise ValueError(f"{self.kind} genes need 'levels', such as [1.0, 0.75, 0.5]")
        if self.kind == "block" and self.levels:
            raise ValueError("a block is kept or dropped: genes of kind block take no 'levels'")
        if self.kind == "hidden" and self.layers != "all":
            raise ValueError("the residual width is one gene for the model: genes of kind hidden take no 'layers'")
        if self.multiple_of not in (None, 1) and (self.kind in ("sparsity", "block") or not self.levels):
            raise ValueError(f"'multiple_of' belongs to widths, not to {self.kind} without 'levels' of width")
        if not isinstance(self.levels, str) and any(isinstance(level, tuple) for level in self.levels):
            numbers = [int(n) for n in re.findall(r"\d+", str(self.layers))]
            if any(second <= first for first, second in pairwise(numbers)):
                raise ValueError("with one list of levels per layer, write 'layers' in ascending order, each once")
        if self.kind != "sparsity" and (self.per not in ("linear", "model") or self.group != 1):
            raise ValueError(f"'per' and 'group' belong to sparsity genes, not to {self.kind}")
        if self.kind == "sparsity" and self.per == "model":
            raise ValueError("per: model belongs to widths; sparsity has linear, sublayer, block and group")
        if self.per == "model" and (self.kind in ("block", "hidden") or not self.levels):
            raise ValueError("per: model is one width for all layers: give 'levels' to attention, queries or mlp")
        if (self.per == "group") != (self.group > 1):
            raise ValueError("write per: group together with group: K, K at least 2")
        return self

    @property
    def narrows(self) -> bool:
        """Whether it can ask for narrower sublayers or a narrower residual stream."""
        return self.kind != "sparsity" and bool(self.levels)

    @property
    def features(self) -> set[Feature]:
        """What its genes can do to a model, as far as the recipe says."""
        found: set[Feature] = {"widths"} if self.narrows else set()
        if self.kind in ("attention", "mlp", "block"):
            found.add("drops")
        return found | ({"zeros"} if self.kind == "sparsity" else set())


class WidthsSettings(Settings):
    """How narrower sublayers are made.

    `order`: by what heads and channels are kept; `repair`: what is done about those that are gone; `hidden`: how the
    residual stream is narrowed.
    """

    order: Literal["magnitude", "taylor", "wanda-sp", "flap", "output-error", "obs"] = "output-error"
    repair: Literal["bias", "mask", "least-squares", "admm"] | None = "least-squares"
    hidden: Literal["pca", "magnitude"] = "pca"


class LatencySettings(Settings):
    """The device whose latency counts, and the request that is timed.

    `device`: cpu or cuda, through torch, where the model is; `llama.cpp`: searched on the table of the CPU, the front
    timed there; `estimate`: a lower bound from stated peaks. A request is `prefill` tokens in each of `batch`
    sequences, then `decode` tokens one by one. `threads` for the CPU (as many as torch takes by default). The table is
    measured until the 95 % interval of every entry, over all layers, is within `spread` of the whole model's time, or
    `seconds` are over. Whole models are timed `repeats` times, in turns with the dense one.
    """

    device: Literal["cpu", "cuda", "llama.cpp", "estimate"]
    batch: Positive = 1
    prefill: Annotated[int, Field(ge=8, le=2**40)] = 512
    decode: Annotated[int, Field(ge=0, le=2**40)] = 32
    threads: Positive | None = None
    spread: Annotated[float, Field(gt=0, lt=1)] = 0.005
    seconds: Annotated[float, Field(gt=0, le=10**7)] = 180.0
    repeats: Annotated[int, Field(ge=3, le=10**6)] = 7
    name: Annotated[str, Field(max_length=100)] = ""
    gflops: Annotated[float, Field(gt=0, le=10**12)] | None = None
    bandwidth: Annotated[float, Field(gt=0, le=10**12)] | None = None

    @model_validator(mode="after")
    def _fits_device(self) -> "LatencySettings":
        if self.device == "llama.cpp" and self.batch > 1:
            raise ValueError("llama.cpp is timed with one sequence; leave batch at 1")
        peaks = self.gflops is not None and self.bandwidth is not None
        if self.device == "estimate" and not peaks:
            raise ValueError("an estimate needs the device's peaks: gflops, and bandwidth in GB/s")
        if self.device != "estimate" and (self.gflops is not None or self.bandwidth is not None):
            raise ValueError(f"gflops and bandwidth are for device: estimate, not {self.device}, which is measured")
        return self


class TasksSettings(Settings):
    """lm-eval tasks as objectives, `lm-eval:NAME`: their definitions are in the folder `include`.

    `documents` of a task are scored for each calibration sequence. Published benchmarks are refused unless `benchmarks`
    says otherwise: what a search has seen cannot be reported honestly after. `code`: definitions may run Python
    (`!function`). `timeout`: seconds for a function of your own (`module:function`) on one sequence, after which the
    candidate has failed; null: as long as it takes.
    """

    include: str | None = None
    documents: Positive = 8
    benchmarks: bool = False
    code: bool = False
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


class StageSettings(Settings):
    """One stage of selection: each is trained on `tokens`, or for `steps` of a batch each; then `survivors` go on."""

    tokens: Positive | None = None
    steps: Positive | None = None
    survivors: Positive

    @model_validator(mode="after")
    def _one_of_two(self) -> "StageSettings":
        if (self.tokens is None) == (self.steps is None):
            raise ValueError("a stage has 'tokens' or 'steps', one of the two")
        return self


class TrainingSettings(Settings):
    """Short training of candidates before the last choice among them.

    `what`: low-rank updates (`lora`, of `rank`), norms and biases alone, or every weight that is left. `loss`: KL from
    the dense model, cross-entropy, or the mean of both; `batch` sequences a step. `optimiser` and `learning_rate` are
    one for all stages, or a list with one for each. `text`: what is trained on, other documents than those of
    calibration; null: as much as the stages need of calibration's source. The best `candidates` of the search go
    through `stages` and are scored on `sequences` of calibration after each. `darwin` has stages of its own.
    """

    what: Literal["lora", "norms", "full"] = "lora"
    loss: Literal["distillation", "cross_entropy", "both"] = "distillation"
    optimiser: OneOrEach[Optimiser] = "adamw"
    learning_rate: OneOrEach[Rate] = 1e-3
    rank: Positive = 16
    batch: Positive = 4
    text: TextSettings | None = None
    candidates: Annotated[int, Field(ge=2, le=10**6)] = 8
    stages: Annotated[tuple[StageSettings, ...], Field(min_length=1)] = (
        StageSettings(tokens=8192, survivors=3),
        StageSettings(tokens=32768, survivors=1),
    )
    sequences: Positive = 8

    @property
    def selects(self) -> bool:
        """Whether it says who is selected by it at the end of a search."""
        plain = TrainingSettings()
        return (self.candidates, self.stages, self.sequences) != (plain.candidates, plain.stages, plain.sequences)

    @model_validator(mode="after")
    def _fits_stages(self) -> "TrainingSettings":
        survivors = [stage.survivors for stage in self.stages]
        if survivors[-1] != 1 or [self.candidates, *survivors] != sorted([self.candidates, *survivors], reverse=True):
            raise ValueError("training.stages: each stage keeps at most as many as came to it, the last one keeps 1")
        return self


class FrontSettings(Settings):
    """What becomes of a front: at most `members` of it are confirmed and timed, beside references of `points` sizes."""

    members: Annotated[int, Field(ge=2, le=1000)] = 16
    points: Annotated[int, Field(ge=2, le=1000)] = 8


class Effort(Settings):
    """What the search may spend; baselines and confirmation come on top.

    `minutes` is turned into tokens once, from the measured speed of this machine, when the run is created; a recipe
    with `tokens` or `evaluations` gives the same result everywhere.
    """

    tokens: Positive | None = None
    evaluations: Positive | None = None
    minutes: Annotated[float, Field(gt=0, le=10**7)] | None = None

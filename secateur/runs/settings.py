"""The settings of a recipe, section by section: frozen values that refuse what does not fit them."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ..space.errors import suggest

DEPTH_BASELINES = ("last-k", "shortgpt", "angular")
SPARSITY_BASELINES = ("uniform", "owl", "er")
WIDTH_BASELINES = ("uniform-width", "flap")
SEARCH_BASELINES = ("greedy", "multipruner", "knapsack", "random")
FRONT_BASELINES = ("shortgpt", "uniform-width", "uniform", "random")
BASELINES = (*DEPTH_BASELINES, *WIDTH_BASELINES, *SPARSITY_BASELINES, *SEARCH_BASELINES)

Positive = Annotated[int, Field(ge=1)]
Initial = Literal[
    "random", "uniform", "owl", "er", "last-k", "shortgpt", "angular", "uniform-width", "flap", "knapsack", "greedy"
]
ScoreName = Literal["kl", "kl_full", "cross_entropy", "hidden_error"]
Encoding = Literal["levels", "shares"]
FRONT_INITIAL = ("dense", "uniform", "knapsack", "greedy")
PLAN_FILES = (".json", ".txt")


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelSettings(Settings):
    """Which model: `package:NAME` (a GGUF in an installed package), a .gguf file, a folder, or a hub name."""

    path: str
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "cpu"
    trust_remote_code: bool = False


class TextSettings(Settings):
    """Which text, and how much: `sequences` of `length` tokens, at most `windows_per_document` from one document."""

    source: str
    field: str = "text"
    split: str = "train"
    sequences: Positive = 32
    length: Annotated[int, Field(ge=8)] = 512
    windows_per_document: Positive = 1
    name: str = ""

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
    MLP without levels are kept or dropped. `multiple_of` rounds kept shares. `per` and `group` are for sparsity.
    """

    kind: Literal["attention", "queries", "mlp", "block", "hidden", "sparsity"]
    layers: str | tuple[int, ...] = "all"
    levels: str | tuple[Level | tuple[Level, ...], ...] = ()
    multiple_of: Positive = 1
    per: Literal["linear", "sublayer", "block", "group"] = "linear"
    group: Positive = 1

    @field_validator("levels", mode="before")
    @classmethod
    def _readable(cls, value: object) -> str | tuple[Level | tuple[Level, ...], ...]:
        """One message for what is no list of levels; a union of types would give one for each of its members."""

        def one(level: object) -> Level:
            if isinstance(level, bool) or not isinstance(level, int | float | str):
                raise ValueError(f"cannot read level {level!r}; write counts, shares, or one list of them per layer")
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
        if self.multiple_of != 1 and (self.kind in ("sparsity", "block") or not self.levels):
            raise ValueError(f"'multiple_of' belongs to widths, not to {self.kind} without 'levels' of width")
        if not isinstance(self.levels, str) and any(isinstance(level, tuple) for level in self.levels):
            numbers = [int(n) for n in re.findall(r"\d+", str(self.layers))]
            if any(second <= first for first, second in pairwise(numbers)):
                raise ValueError("with one list of levels per layer, write 'layers' in ascending order, each once")
        if self.kind != "sparsity" and (self.per != "linear" or self.group != 1):
            raise ValueError(f"'per' and 'group' belong to sparsity genes, not to {self.kind}")
        if (self.per == "group") != (self.group > 1):
            raise ValueError("write per: group together with group: K, K at least 2")
        return self

    @property
    def narrows(self) -> bool:
        """Whether it can ask for narrower sublayers or a narrower residual stream."""
        return self.kind != "sparsity" and bool(self.levels)


class WidthsSettings(Settings):
    """How narrower sublayers are made.

    `order`: by what heads and channels are kept; `repair`: what is done about those that are gone; `hidden`: how the
    residual stream is narrowed.
    """

    order: Literal["magnitude", "taylor", "wanda-sp", "flap", "output-error", "obs"] = "output-error"
    repair: Literal["bias", "mask", "least-squares", "admm"] | None = "least-squares"
    hidden: Literal["pca", "magnitude"] = "pca"


class ScheduleSettings(Settings):
    """An explicit EvoPress schedule: `survivors` and `tokens` per selection stage."""

    generations: Positive
    offspring: Positive
    survivors: tuple[Positive, ...]
    tokens: tuple[Positive, ...]
    first: Positive = 1


class RandomSettings(Settings):
    """Random genomes on the budget, each on `sequences` sequences."""

    name: Literal["random"]
    sequences: Positive = 4


class ExhaustiveSettings(Settings):
    """Every genome of a small space."""

    name: Literal["exhaustive"]
    sequences: Positive = 4


class KnapsackSettings(Settings):
    """Sweep of single changes, then the exact knapsack; `anchors` levels of each gene are scored (all by default).

    For a front, `sizes` limits of each cost are solved for.
    """

    name: Literal["knapsack"]
    sequences: Positive = 4
    anchors: Positive | None = None
    sizes: Positive = 32


class GreedySettings(Settings):
    """One best change at a time; `lazy` genes tried again at each step (null: all, as published)."""

    name: Literal["greedy"]
    sequences: Positive = 4
    anchors: Positive | None = None
    lazy: Positive | None = 8
    evaluations: Positive | None = None


class MultiprunerSettings(Settings):
    """Greedily sublayers, then channels, then heads; `evaluations` at most (null: one change a step, as published)."""

    name: Literal["multipruner"]
    sequences: Positive = 4
    evaluations: Positive | None = None


class EvopressSettings(Settings):
    """(1 + lambda) evolution by level switches.

    `schedule`: `auto` (sized from the effort), `published-depth`, `published-sparsity`, or explicit numbers.
    `minibatches`: `fresh` at every stage or `nested` prefixes of the pool; `mutation`: switches in `levels` or `costs`;
    by default fresh and levels with a published schedule, nested and costs otherwise. `initial`: where to start;
    `random` is the published choice for depth, `uniform` for sparsity; so may any other rule of the baselines be;
    `knapsack` and `greedy` run those first, with the settings in `warm`, and their tokens count.
    """

    name: Literal["evopress"]
    schedule: Literal["auto", "published-depth", "published-sparsity"] | ScheduleSettings = "auto"
    mutation: Literal["levels", "costs"] | None = None
    minibatches: Literal["fresh", "nested"] | None = None
    initial: tuple[Initial, ...] = ("random",)
    warm: KnapsackSettings | GreedySettings | None = None

    @model_validator(mode="after")
    def _warm_is_used(self) -> "EvopressSettings":
        if self.warm is not None and self.warm.name not in self.initial:
            raise ValueError(f"'warm' has settings for {self.warm.name}, which 'initial' does not name")
        return self


class EvolutionSettings(Settings):
    """Multi-objective evolution by pymoo.

    `encoding`: one level per gene, or `shares`, real sensitivities that the exact knapsack decodes onto the budgets.
    `initial`: what the population starts from besides random genomes: `dense`; `uniform` in several sizes; `knapsack`
    and `greedy`, run first with the settings in `warm`; plan files, and drop lists of other tools (.json, .txt).
    """

    name: Literal["nsga2", "nsga3", "sms-emoa"]
    population: Annotated[int, Field(ge=4)] = 24
    sequences: Positive = 4
    encoding: Encoding = "levels"
    initial: tuple[str, ...] = ("dense", "uniform", "knapsack")
    warm: KnapsackSettings | GreedySettings | None = None

    @model_validator(mode="after")
    def _initial_exists(self) -> "EvolutionSettings":
        check_front_initial(self.initial, self.warm)
        return self


class SamplerSettings(Settings):
    """Optuna's samplers: `population` is that of NSGA-II, and of random trials before the others begin.

    `batch` vectors are asked for at a time (by default 1 for gp, 4 otherwise); the rest is as for evolution.
    """

    name: Literal["tpe", "optuna-nsga2", "gp"]
    population: Annotated[int, Field(ge=2)] = 16
    batch: Positive | None = None
    sequences: Positive = 4
    encoding: Encoding = "levels"
    initial: tuple[str, ...] = ("dense", "uniform", "knapsack")
    warm: KnapsackSettings | GreedySettings | None = None

    @model_validator(mode="after")
    def _initial_exists(self) -> "SamplerSettings":
        check_front_initial(self.initial, self.warm)
        return self


def check_front_initial(names: tuple[str, ...], warm: KnapsackSettings | GreedySettings | None) -> None:
    """Raises ValueError for what is neither a rule nor a file, and for settings in `warm` that nothing uses."""
    for name in names:
        if name not in FRONT_INITIAL and Path(name).suffix not in PLAN_FILES:
            raise ValueError(f"initial: '{name}' is no plan file; {suggest(name, FRONT_INITIAL)}")
    if warm is not None and warm.name not in names:
        raise ValueError(f"'warm' has settings for {warm.name}, which 'initial' does not name")


StrategySettings = Annotated[
    RandomSettings
    | ExhaustiveSettings
    | KnapsackSettings
    | GreedySettings
    | MultiprunerSettings
    | EvopressSettings
    | EvolutionSettings
    | SamplerSettings,
    Field(discriminator="name"),
]
FRONT_STRATEGIES = ("random", "exhaustive", "knapsack", "nsga2", "nsga3", "sms-emoa", "tpe", "optuna-nsga2", "gp")
"""Those that search for a front."""


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
    prefill: Annotated[int, Field(ge=8)] = 512
    decode: Annotated[int, Field(ge=0)] = 32
    threads: Positive | None = None
    spread: Annotated[float, Field(gt=0, lt=1)] = 0.005
    seconds: Annotated[float, Field(gt=0)] = 180.0
    repeats: Annotated[int, Field(ge=3)] = 7
    name: str = ""
    gflops: Annotated[float, Field(gt=0)] | None = None
    bandwidth: Annotated[float, Field(gt=0)] | None = None

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
    says otherwise: what a search has seen cannot be reported honestly after.
    """

    include: str | None = None
    documents: Positive = 8
    benchmarks: bool = False


class FrontSettings(Settings):
    """What becomes of a front: at most `members` of it are confirmed and timed, beside references of `points` sizes."""

    members: Annotated[int, Field(ge=2)] = 16
    points: Annotated[int, Field(ge=2)] = 8


class Effort(Settings):
    """What the search may spend; baselines and confirmation come on top.

    `minutes` is turned into tokens once, from the measured speed of this machine, when the run is created; a recipe
    with `tokens` or `evaluations` gives the same result everywhere.
    """

    tokens: Positive | None = None
    evaluations: Positive | None = None
    minutes: Annotated[float, Field(gt=0)] | None = None

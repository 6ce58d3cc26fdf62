"""What was asked: one YAML file, read into frozen values, refused early when anything in it is wrong."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..space.errors import SecateurError, suggest

DEPTH_BASELINES = ("last-k", "shortgpt", "angular")
SPARSITY_BASELINES = ("uniform", "owl", "er")
WIDTH_BASELINES = ("uniform-width", "flap")
SEARCH_BASELINES = ("greedy", "multipruner", "knapsack", "random")
BASELINES = (*DEPTH_BASELINES, *WIDTH_BASELINES, *SPARSITY_BASELINES, *SEARCH_BASELINES)

Positive = Annotated[int, Field(ge=1)]
Initial = Literal[
    "random", "uniform", "owl", "er", "last-k", "shortgpt", "angular", "uniform-width", "flap", "knapsack", "greedy"
]
ScoreName = Literal["kl", "kl_full", "cross_entropy", "hidden_error"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelSettings(_Frozen):
    """Which model: `package:NAME` (a GGUF in an installed package), a .gguf file, a folder, or a hub name."""

    path: str
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "cpu"
    trust_remote_code: bool = False


class TextSettings(_Frozen):
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


class GeneSettings(_Frozen):
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


class WidthsSettings(_Frozen):
    """How narrower sublayers are made.

    `order`: by what heads and channels are kept; `repair`: what is done about those that are gone; `hidden`: how the
    residual stream is narrowed.
    """

    order: Literal["magnitude", "taylor", "wanda-sp", "flap", "output-error", "obs"] = "output-error"
    repair: Literal["bias", "mask", "least-squares", "admm"] | None = "least-squares"
    hidden: Literal["pca", "magnitude"] = "pca"


class ScheduleSettings(_Frozen):
    """An explicit EvoPress schedule: `survivors` and `tokens` per selection stage."""

    generations: Positive
    offspring: Positive
    survivors: tuple[Positive, ...]
    tokens: tuple[Positive, ...]
    first: Positive = 1


class RandomSettings(_Frozen):
    """Random genomes on the budget, each on `sequences` sequences."""

    name: Literal["random"]
    sequences: Positive = 4


class ExhaustiveSettings(_Frozen):
    """Every genome of a small space."""

    name: Literal["exhaustive"]
    sequences: Positive = 4


class KnapsackSettings(_Frozen):
    """Sweep of single changes, then the exact knapsack; `anchors` levels of each gene are scored (all by default)."""

    name: Literal["knapsack"]
    sequences: Positive = 4
    anchors: Positive | None = None


class GreedySettings(_Frozen):
    """One best change at a time; `lazy` genes tried again at each step (null: all, as published)."""

    name: Literal["greedy"]
    sequences: Positive = 4
    anchors: Positive | None = None
    lazy: Positive | None = 8
    evaluations: Positive | None = None


class MultiprunerSettings(_Frozen):
    """Greedily sublayers, then channels, then heads; `evaluations` at most (null: one change a step, as published)."""

    name: Literal["multipruner"]
    sequences: Positive = 4
    evaluations: Positive | None = None


class EvopressSettings(_Frozen):
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


StrategySettings = Annotated[
    RandomSettings | ExhaustiveSettings | KnapsackSettings | GreedySettings | MultiprunerSettings | EvopressSettings,
    Field(discriminator="name"),
]


class Effort(_Frozen):
    """What the search may spend; baselines and confirmation come on top.

    `minutes` is turned into tokens once, from the measured speed of this machine, when the run is created; a recipe
    with `tokens` or `evaluations` gives the same result everywhere.
    """

    tokens: Positive | None = None
    evaluations: Positive | None = None
    minutes: Annotated[float, Field(gt=0)] | None = None


class Recipe(_Frozen):
    """Everything that determines a run."""

    model: ModelSettings
    calibration: TextSettings
    held_out: tuple[TextSettings, ...] = ()
    genes: Annotated[tuple[GeneSettings, ...], Field(min_length=1)]
    budgets: dict[str, str | int | float] = Field(default_factory=dict)
    context: Positive = 2048
    keep_first_attention: bool = True
    pruner: str = "wanda"
    widths: WidthsSettings = WidthsSettings()
    score: ScoreName = "kl"
    strategy: StrategySettings
    effort: Effort = Effort()
    baselines: tuple[str, ...] | Literal["all"] = "all"
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _consistent(self) -> "Recipe":
        if self.baselines != "all":
            for name in self.baselines:
                if name not in BASELINES:
                    raise ValueError(f"baselines: unknown '{name}'; {suggest(name, BASELINES)}")
        titles = [text.title for text in self.held_out]
        if "calibration" in titles:
            raise ValueError("held_out: 'calibration' is the name of the calibration text; set 'name' to another")
        if any(text.sequences < 2 for text in self.held_out):
            raise ValueError("held_out: an interval needs at least 2 sequences of each text")
        if len(set(titles)) != len(titles):
            raise ValueError("held_out: two texts have the same name; set 'name' on one of them")
        kinds = {gene.kind for gene in self.genes}
        if self.score in ("hidden_error", "kl_full") and "hidden" in kinds:
            raise ValueError(
                f"score: {self.score} needs residual streams of one width, and the recipe has a hidden gene; use kl"
            )
        rotated = "hidden" in kinds and self.widths.hidden == "pca"
        if self.pruner in ("sparsegpt", "admm") and "sparsity" in kinds and rotated:
            raise ValueError(
                f"pruner: {self.pruner} updates weights of an unrotated residual stream; use wanda, ria or magnitude, "
                "or widths: {hidden: magnitude}"
            )
        effort = self.effort
        unlimited = effort.tokens is None and effort.evaluations is None and effort.minutes is None
        if self.strategy.name == "random" and unlimited:
            raise ValueError("effort: random search has no end of its own; give tokens, evaluations or minutes")
        if isinstance(self.strategy, EvopressSettings) and self.strategy.schedule == "auto":
            if effort.tokens is None and effort.minutes is None:
                raise ValueError("effort: schedule 'auto' is sized from effort.tokens or effort.minutes; give one")
        return self

    def wanted_baselines(self) -> tuple[str, ...]:
        """Those that apply to the kinds of genes the recipe has."""
        kinds = {gene.kind for gene in self.genes}
        apply: list[str] = []
        if kinds & {"attention", "mlp", "block"}:
            apply += DEPTH_BASELINES
        if any(gene.narrows for gene in self.genes):
            apply += WIDTH_BASELINES
        if "sparsity" in kinds:
            apply += SPARSITY_BASELINES
        apply += [name for name in SEARCH_BASELINES if name != "multipruner" or any(g.narrows for g in self.genes)]
        return tuple(name for name in apply if self.baselines == "all" or name in self.baselines)

    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()[:16]

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def read_recipe(path: Path, settings: Sequence[str] = ()) -> Recipe:
    """Reads a recipe and applies `--set` overrides such as `effort.tokens=50000` or `genes.0.layers=1-28`.

    Raises:
        SecateurError: the file cannot be read, is not YAML, or does not fit; every problem on a line of its own.
    """
    try:
        text = path.read_text(encoding="utf8")
    except (OSError, UnicodeDecodeError) as error:
        raise SecateurError(f"recipe {path}: cannot be read: {error}") from error
    values = _parsed(text, f"recipe {path}")
    if not isinstance(values, dict):
        raise SecateurError(
            f"recipe {path}: expected settings such as 'model:' and 'genes:', got {type(values).__name__}"
        )
    for setting in settings:
        _apply(values, setting)
    return make_recipe(values, f"recipe {path}")


def make_recipe(values: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """Checks plain values; raises SecateurError with every problem on a line of its own."""
    try:
        return Recipe.model_validate(dict(values))
    except ValidationError as error:
        # A list whose items are wrong is also reported as too short; the items say it better.
        found: list[dict[str, Any]] = [dict(one) for one in error.errors()]
        deeper = {tuple(one["loc"][:length]) for one in found for length in range(len(one["loc"]))}
        problems = [_problem(one) for one in found if one["type"] != "too_short" or tuple(one["loc"]) not in deeper]
        raise SecateurError(f"{where}: " + "; ".join(dict.fromkeys(problems))) from error


def _parsed(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SecateurError(f"{where}: not YAML: {' '.join(str(error).split())}") from error


def _apply(values: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise SecateurError(f"--set {setting}: write key=value, such as effort.tokens=50000")
    *parents, last = key.split(".")
    at: Any = values
    for part in parents:
        at = at.setdefault(part, {}) if isinstance(at, dict) else _item(at, part, setting)
    value = _parsed(text, f"--set {setting}")
    if isinstance(at, dict):
        at[last] = value
    elif isinstance(at, list) and last.isdigit() and int(last) < len(at):
        at[int(last)] = value
    else:
        raise SecateurError(f"--set {setting}: there is no '{last}' to set")


def _item(values: Any, part: str, setting: str) -> Any:
    if isinstance(values, list) and part.isdigit() and int(part) < len(values):
        return values[int(part)]
    raise SecateurError(f"--set {setting}: there is no '{part}' to set")


def _problem(error: dict[str, Any]) -> str:
    """One pydantic error as `where: what`, with a suggestion for an unknown key."""
    location = [part for part in error["loc"] if not (isinstance(part, str) and part.endswith("Settings"))]
    # The tag of a discriminated union stands in the path like a key.
    tags = {"random", "exhaustive", "knapsack", "greedy", "multipruner", "evopress"}
    path = ".".join(str(part) for part in location if part not in tags) or "recipe"
    if error["type"] == "extra_forbidden":
        known = _known_keys(error["loc"])
        return f"{path}: unknown key; {suggest(str(error['loc'][-1]), known)}"
    if error["type"] == "missing":
        return f"{path}: missing"
    return f"{path}: {str(error['msg']).removeprefix('Value error, ')}"


_CLASSES: dict[str, type[BaseModel]] = {
    "model": ModelSettings,
    "calibration": TextSettings,
    "held_out": TextSettings,
    "genes": GeneSettings,
    "widths": WidthsSettings,
    "effort": Effort,
    "random": RandomSettings,
    "exhaustive": ExhaustiveSettings,
    "knapsack": KnapsackSettings,
    "greedy": GreedySettings,
    "multipruner": MultiprunerSettings,
    "evopress": EvopressSettings,
    "schedule": ScheduleSettings,
}


def _known_keys(location: Sequence[Any]) -> list[str]:
    """The keys that are allowed where an unknown one was found."""
    settings: type[BaseModel] = Recipe
    for part in location[:-1]:
        settings = _CLASSES.get(str(part), settings)
    return list(settings.model_fields)

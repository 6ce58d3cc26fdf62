"""What a recipe says, and what follows from that."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ...operators.rules.table import RULES
from ...search.strategies.table import STRATEGIES, AnyStrategy
from ...search.warm import is_plan_file
from ...space.costs import COSTS
from ...space.gene import Feature
from ...space.kinds.table import AnyGenes
from ...space.limits import Limit, parse_limits
from ...space.objective import Objective, parse_objectives
from ...space.scores import SCORES
from ...space.settings import Settings
from .baselines import search_baselines, why_idle
from .machine import ModelSettings, WorkersSettings
from .settings import (
    TRAINING,
    Effort,
    FrontSettings,
    LatencySettings,
    LogSettings,
    TasksSettings,
    TextSettings,
    ValidationSettings,
    WidthsSettings,
)
from .training import TrainingSettings

Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Fields(Settings):
    """The settings of a recipe; `Recipe` is one whose settings fit together."""

    model: ModelSettings
    """Which model, in which numbers, on which device."""
    calibration: TextSettings
    """The text that candidates are scored on, and that statistics are taken of; or several, which are mixed by weight:
    `[{source: a, weight: 2}, {source: b}]`."""
    prepare: TextSettings | None = None
    """Another text, or mixture, that levels, importance orders and repairs are made from; null: that of calibration."""
    held_out: tuple[TextSettings, ...] = ()
    """Texts that the search never sees, on which what it found is confirmed beside the baselines."""
    validation: ValidationSettings | None = None
    """What is kept from the search to choose its answer on; null: nothing. A recipe that says nothing of it keeps a
    quarter, where one plan is searched, of 32 sequences or more, with six times the tokens that this takes."""
    genes: Annotated[tuple[AnyGenes, ...], Field(min_length=1)]
    """What may be done to which layers."""
    budgets: dict[str, str | int | float] = Field(
        default_factory=dict,
        examples=[{"linear_weights": "<= 0.6x", "kv_bytes": "90%", "latency": "<= 40ms", "perplexity": "<= 1.5x"}],
    )
    """The most that a plan may cost, each cost in shares of dense or in numbers; and the most that scores may come to
    on the calibration text, where something else is minimised."""
    base: str | None = Field(default=None, examples=["pruned/plan.json"])
    """A plan file below all candidates: what it drops, narrows or stores in fewer bits stays, and genes decide on what
    it has left. Of no weights: training is not carried over."""
    target: str | None = Field(default=None, examples=["llama.cpp", "mergekit"])
    """A format or a program; nothing is searched that could not go there."""
    context: Annotated[int, Field(ge=1, le=2**31)] = 2048
    """Tokens at which attention's MACs and the KV cache are counted."""
    keep_first_attention: bool = True
    """Whether layer 0 keeps some attention, and the first layer of each sort where sorts alternate."""
    pruner: str = Field(default="wanda", examples=["sparsegpt"])
    """What decides which weights of a linear become zero, and whether the others make up for them."""
    quantizer: Literal["importance", "nearest", "hqq", "gptq"] = "importance"
    """How weights are stored in fewer bits. llama.cpp's types: weighted by what their inputs are on the text, as it
    does with an importance matrix (`importance`). Grids of integers: column after column, the next making up for errors
    (`gptq`); or with zero points that outliers count less for, without text (`hqq`). Both: each to the `nearest`."""
    importance: str | None = Field(default=None, examples=["imatrix.gguf"])
    """An importance matrix as llama-imatrix writes it, for `quantizer: importance`; null: measured on the text."""
    widths: WidthsSettings = WidthsSettings()
    """How narrower sublayers are made."""
    score: str = Field(default="kl", examples=["perplexity", "my_module:function", "lm-eval:2*piqa+csqa"])
    """What a search for one plan minimises: a score, a function of your own, or lm-eval tasks; or a cost, where a
    budget says which score has to be kept: the smallest plan that does."""
    objectives: tuple[str, ...] = Field(default=(), examples=[["kl", "latency"], ["perplexity", "weight_bytes"]])
    """Scores and costs that a front is searched for; empty: one plan is."""
    reference: dict[str, str | float] = Field(default_factory=dict, examples=[{"kl": 2.0, "latency": "1x"}])
    """From where the hypervolume of a front is measured, by objective; else from the worst that was seen."""
    latency: LatencySettings | None = None
    """The device whose latency counts, where it is an objective or has a budget."""
    tasks: TasksSettings = TasksSettings()
    """lm-eval tasks as objectives, and functions of your own."""
    front: FrontSettings = FrontSettings()
    """What becomes of a front."""
    training: TrainingSettings | None = None
    """Short training of candidates before the last choice among them; null: none."""
    strategy: AnyStrategy
    """Who proposes candidates, and how."""
    effort: Effort = Effort()
    """What the search may spend."""
    baselines: tuple[str, ...] | Literal["all"] = Field(default="all", examples=[["uniform", "theirs/plan.json"], []])
    """What is compared with it: rules, strategies and plan files; `all`: every rule and strategy that applies."""
    seed: Seed = 0
    """Of everything random, and of the choice of texts' documents."""
    seeds: Annotated[int, Field(ge=2, le=100)] | Annotated[tuple[Seed, ...], Field(min_length=2)] | None = Field(
        default=None, examples=[3, [0, 7, 11]]
    )
    """Searches on several draws of the texts, in a run each: how many from `seed` on, or their seeds; null: one."""
    held_out_seed: Seed | None = None
    """Of the choice of held-out documents, that come before the others then; null: `seed`, and they come after."""
    workers: WorkersSettings = WorkersSettings(count=1)
    """Who evaluates; results do not depend on it."""
    log: tuple[LogSettings, ...] = Field(default=(), examples=[["tensorboard"]])
    """Trackers that progress and results are written to besides."""

    @property
    def training_text(self) -> TextSettings | None:
        """What candidates are trained on; None: they are not."""
        if self.training is None:
            return None
        if self.training.text is not None:
            return self.training.text.model_copy(update={"name": TRAINING})
        # What a strategy trains is told in totals.
        tokens = self.strategy.trained()[-1] if self.strategy.trained() else sum(self.training_tokens)
        sequences = -(-tokens // self.calibration.length)
        return self.calibration.model_copy(update={"sequences": sequences, "positions": None, "name": TRAINING})

    @property
    def training_tokens(self) -> tuple[int, ...]:
        """What each stage trains on, of a search whose best candidates are trained."""
        if self.training is None:
            return ()
        step = self.training.batch * (self.training.text or self.calibration).length
        return tuple(stage.tokens or (stage.steps or 0) * step for stage in self.training.stages)

    @property
    def draws(self) -> tuple[int, ...]:
        """The seeds that it is carried out with."""
        if self.seeds is None:
            return (self.seed,)
        return self.seeds if isinstance(self.seeds, tuple) else tuple(range(self.seed, self.seed + self.seeds))

    @property
    def validated(self) -> int:
        """Calibration sequences that are kept from the search."""
        return round(self.validation.share * self.calibration.sequences) if self.validation is not None else 0

    @property
    def searched(self) -> int:
        """Calibration sequences that the search sees."""
        return self.calibration.sequences - self.validated

    @property
    def goal_sequences(self) -> int:
        """On how many calibration sequences all genomes of a front are compared."""
        return min(self.strategy.compared() or 1, self.calibration.sequences)

    @property
    def scores(self) -> tuple[str, ...]:
        """What candidates are scored on; the first is what a search for one plan minimises."""
        names = [one.score for one in parse_objectives(self.objectives) if not one.is_cost]
        if not names and not self.smallest:
            names = [Objective(self.score).score]
        return tuple(dict.fromkeys([*names, *(limit.objective.score for limit in self.limits)]))

    @property
    def limits(self) -> tuple[Limit, ...]:
        """Its budgets on scores."""
        return parse_limits(self.budgets)

    @property
    def smallest(self) -> bool:
        """Whether it asks for the plan that costs least and keeps its scores."""
        return self.score in COSTS

    @staticmethod
    def of_streams(scores: Iterable[str]) -> list[str]:
        """Those that look at the dense model's own head or stream."""
        return [name for name in scores if name in SCORES and SCORES[name].stream]

    @property
    def peers(self) -> dict[str, str]:
        """Baselines that are plan files, by the name that their plan has here: the file's, without its ending."""
        names = () if self.baselines == "all" else self.baselines
        return {Path(name).stem: name for name in names if is_plan_file(name)}

    def features(self) -> frozenset[Feature]:
        """What its genes can do, as far as it says."""
        return frozenset(feature for gene in self.genes for feature in gene.features())

    def wanted_baselines(self) -> tuple[str, ...]:
        """Those by rule or search that apply to the kinds of genes the recipe has."""
        features: set[Feature | None] = {None, *self.features()}
        # A front is compared with lines of the same rule in several sizes, and with random search.
        front = bool(self.objectives)
        apply = [name for name, rule in RULES.items() if rule.about in features and (rule.line or not front)]
        apply += [name for name in search_baselines(front or self.smallest) if STRATEGIES[name].about in features]
        return tuple(name for name in apply if self.baselines == "all" or name in self.baselines)

    def idle_baselines(self) -> dict[str, str]:
        """Rules and strategies that it names as baselines although there is nothing here for them; why."""
        named = () if self.baselines == "all" else self.baselines
        idle = [name for name in named if name not in self.wanted_baselines() and not is_plan_file(name)]
        return {name: why_idle(name, self.features(), bool(self.objectives)) for name in idle}

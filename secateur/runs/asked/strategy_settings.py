"""The settings of strategies: frozen values, told apart by their `name`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ...space.errors import suggest
from .settings import DEPTH_BASELINES, SPARSITY_BASELINES, WIDTH_BASELINES, Positive, Settings, is_plan_file

RULES = (*DEPTH_BASELINES, *WIDTH_BASELINES, *SPARSITY_BASELINES)
GOOD_RULES = "rules"
"""In `initial`: all rules that are often good, as far as they apply to the genes and keep the budgets."""
Encoding = Literal["levels", "shares"]
Risk = Annotated[float, Field(gt=0, lt=1)]
FRONT_INITIAL = ("dense", "uniform", "knapsack", "greedy")
PLAN_INITIAL = ("random", *RULES, GOOD_RULES, "knapsack", "greedy")


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
    `random` is the published choice for depth (and for where nothing else that is named gives a start), `uniform` for
    sparsity; so may any other rule of the baselines be, all good ones that apply (`rules`), and plan files, our own or
    other tools'; `knapsack` and `greedy` run those first, with the settings in `warm` and half of the effort for both
    together. `race`: children race against their parent instead of being selected in stages: at most half of them go on
    after a look, and the test loses one that is better than the parent with this probability at most, as far as
    differences are normal and the parent was not lucky on this text.
    """

    name: Literal["evopress"]
    schedule: Literal["auto", "published-depth", "published-sparsity"] | ScheduleSettings = "auto"
    mutation: Literal["levels", "costs"] | None = None
    minibatches: Literal["fresh", "nested"] | None = None
    initial: tuple[str, ...] = ("random",)
    warm: KnapsackSettings | GreedySettings | None = None
    race: Risk | None = None

    @model_validator(mode="after")
    def _race_is_nested(self) -> "EvopressSettings":
        published = isinstance(self.schedule, str) and self.schedule != "auto"
        check_race(self.race, self.minibatches == "nested" or (self.minibatches is None and not published))
        return self

    @model_validator(mode="after")
    def _initial_exists(self) -> "EvopressSettings":
        check_initial(self.initial, self.warm, PLAN_INITIAL)
        return self


DARWIN_TRAINING = (10_000, 50_000, 100_000, 200_000)
"""Of the published script (commit 3596da3973)."""


class DarwinScheduleSettings(ScheduleSettings):
    """As EvoPress's, and what candidates have been trained on by the end of each stage, in tokens."""

    training: tuple[Positive, ...]


class DarwinSettings(Settings):
    """EvoPress's evolution with a short training in every stage; how is said by the recipe's `training`.

    `schedule`, `mutation`, `minibatches`, `initial`, `warm` and `race` as in evopress, `published` being DarwinLM's; a
    race looks at its candidates once a stage, and who has lost is not trained further.
    """

    name: Literal["darwin"]
    schedule: Literal["published"] | DarwinScheduleSettings
    mutation: Literal["levels", "costs"] = "levels"
    minibatches: Literal["fresh", "nested"] = "fresh"
    initial: tuple[str, ...] = ("random",)
    warm: KnapsackSettings | GreedySettings | None = None
    race: Risk | None = None

    @property
    def training(self) -> tuple[int, ...]:
        """Tokens that candidates have been trained on by the end of each stage."""
        return DARWIN_TRAINING if self.schedule == "published" else self.schedule.training

    @model_validator(mode="after")
    def _race_is_nested(self) -> "DarwinSettings":
        check_race(self.race, self.minibatches == "nested")
        return self

    @model_validator(mode="after")
    def _initial_exists(self) -> "DarwinSettings":
        check_initial(self.initial, self.warm, PLAN_INITIAL)
        return self


class EvolutionSettings(Settings):
    """Multi-objective evolution by pymoo.

    `encoding`: one level per gene, or `shares`, real sensitivities that the exact knapsack decodes onto the budgets.
    `initial`: what the population starts from besides random genomes: `dense`; `uniform` in several sizes; `knapsack`
    and `greedy`, run first with the settings in `warm` and half of the effort for both together; plan files, our own or
    other tools'.
    `race`: a child sees all sequences only until a member of the front proves to dominate it, and one that nothing on
    the front dominates is dropped with this probability at most; it needs more sequences than the 4 of the first look.
    """

    name: Literal["nsga2", "nsga3", "sms-emoa"]
    population: Annotated[int, Field(ge=4)] = 24
    sequences: Positive = 4
    encoding: Encoding = "levels"
    initial: tuple[str, ...] = ("dense", "uniform", "knapsack")
    warm: KnapsackSettings | GreedySettings | None = None
    race: Risk | None = None

    @model_validator(mode="after")
    def _initial_exists(self) -> "EvolutionSettings":
        check_initial(self.initial, self.warm, FRONT_INITIAL)
        return self

    @model_validator(mode="after")
    def _race_has_looks(self) -> "EvolutionSettings":
        if self.race is not None and self.sequences <= 4:
            raise ValueError("race: nobody is dropped on 4 sequences or fewer; set 'sequences' to 8 or more")
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
        check_initial(self.initial, self.warm, FRONT_INITIAL)
        return self


class SurrogateSettings(Settings):
    """A sweep, a lazy greedy path through all budgets, then candidates from a model of the loss, raced.

    Answers are compared on `sequences` sequences, and on twice as many each time it gets quiet, up to the whole text (a
    front: on `sequences`); sweep, path and first looks are on `first`. `anchors` levels of each gene are scored by the
    sweep, `lazy` genes tried again at each step of the path, which takes `path` evaluations at most (null: three for
    each gene; where these are less than a step for every two changes, there is no path). `slopes`: where sparsity is
    searched for one budget and the first score is kl or cross_entropy, go downhill from there by what one pass
    backwards says of every level, on up to 64 sequences. `batch` candidates a round, of which mutation alone makes the
    share `mutated`, but one at least; a race's test loses one that is better than the incumbent with probability
    `risk` at most, under the conditions of evopress's. It is quiet when no candidate promises to lower a loss by the
    share `tolerance` any more. `initial`: rules and plan files to start from besides, `rules` being all good ones that
    apply; of rules for a front `uniform` alone.

    For a front, `sizes` limits of each cost are searched at once: how many, evenly down to half of what can go, or
    limits of the one cost, such as ["0.9x", "0.8x"].
    """

    name: Literal["surrogate"]
    sequences: Positive = 8
    first: Positive = 2
    anchors: Positive | None = 2
    lazy: Positive = 6
    path: Positive | None = None
    batch: Annotated[int, Field(ge=2)] = 6
    risk: Risk = 0.2
    mutated: Annotated[float, Field(ge=0, le=1)] = 0.17
    tolerance: Annotated[float, Field(ge=0)] = 1e-3
    slopes: bool = True
    sizes: Positive | Annotated[tuple[str, ...], Field(min_length=1)] = 8
    initial: tuple[str, ...] = (GOOD_RULES,)

    @model_validator(mode="after")
    def _initial_exists(self) -> "SurrogateSettings":
        check_initial(self.initial, None, (*RULES, GOOD_RULES))
        return self


def check_race(risk: float | None, nested: bool) -> None:
    """Raises ValueError for races over minibatches that are drawn anew for each stage."""
    if risk is not None and not nested:
        raise ValueError("race: children are compared on nested prefixes of the text; set minibatches: nested")


def check_initial(
    names: tuple[str, ...], warm: KnapsackSettings | GreedySettings | None, known: tuple[str, ...]
) -> None:
    """Raises ValueError for what is neither known nor a plan file, and for settings in `warm` that nothing uses."""
    for name in names:
        if name not in known and not is_plan_file(name):
            raise ValueError(f"initial: '{name}' is no plan file; {suggest(name, known)}")
    if warm is not None and warm.name not in names:
        raise ValueError(f"'warm' has settings for {warm.name}, which 'initial' does not name")


StrategySettings = Annotated[
    RandomSettings
    | ExhaustiveSettings
    | KnapsackSettings
    | GreedySettings
    | MultiprunerSettings
    | EvopressSettings
    | DarwinSettings
    | EvolutionSettings
    | SamplerSettings
    | SurrogateSettings,
    Field(discriminator="name"),
]
FRONT_STRATEGIES = (
    *("surrogate", "nsga2", "nsga3", "sms-emoa", "tpe", "optuna-nsga2", "gp"),
    *("random", "exhaustive", "knapsack"),
)
"""Those that search for a front."""

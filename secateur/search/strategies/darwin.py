"""DarwinLM (Tang et al. 2025, arXiv 2502.07780, sec. 3.3): EvoPress's loop with a short training in every stage.

As published: children by min(U{1..3}, U{1..3}) level switches, four stages, each of which trains its candidates and
scores them on more text. Differences: a survivor's training goes on from where the last stage ended (upstream begins
again from the untrained child in every stage, which takes more tokens for the same); what is pruned stays pruned
(upstream trains without masks); the parent competes in the last stage after the same training, as upstream means it.
Children may also race against it: who a stage shows to be worse is not trained any further.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator

from ...space.errors import SecateurError
from ...space.genome import Genome
from ...space.question import Chain
from ...space.settings import Positive, Probability
from ...space.space import Space
from ..problem import Problem
from ..steps import Pool, Steps
from ..strategy import Strategy
from ..trained import training_chains
from ..warm import check_rules, first, warm_start
from .evopress import Mutation, Schedule, check_plan_initial, check_race, evopress, stage_sequences
from .table import AnyStrategy


class TrainingSchedule(Schedule):
    """As EvoPress's, with trainings."""

    training: tuple[Positive, ...]
    """What candidates have been trained on by the end of each stage, in tokens."""


PUBLISHED = TrainingSchedule(
    generations=200,
    offspring=16,
    survivors=(8, 4, 2, 1),
    tokens=(1024, 2048, 4096, 8192),
    training=(10_000, 50_000, 100_000, 200_000),
)
"""Settings of the published script (commit 3596da3973)."""


class Darwin(Strategy):
    """DarwinLM's: EvoPress's evolution with a short training in every stage; how is said by the recipe's `training`."""

    name: Literal["darwin"] = "darwin"
    schedule: Literal["published"] | TrainingSchedule = Field(
        examples=[
            {"generations": 5, "offspring": 6, "survivors": [3, 1], "tokens": [1024, 4096], "training": [1024, 5120]}
        ]
    )
    """As published, or explicit numbers."""
    mutation: Mutation = "levels"
    """Switches of `levels` or of `costs`."""
    minibatches: Literal["fresh", "nested"] = "fresh"
    """Other text at every stage, or prefixes of one."""
    initial: tuple[str, ...] = ("random",)
    """Where it starts: `random` genomes, rules of the baselines (`rules`: all good ones that apply), plan files, ours
    or other tools', and `knapsack` or `greedy`, which are run first."""
    warm: AnyStrategy | None = None
    """The settings of those that are run first, which take half of the effort together."""
    race: Probability | None = None
    """As evopress's; it looks at candidates once a stage, and who has lost is not trained further."""

    @model_validator(mode="after")
    def _settings_fit(self) -> "Darwin":
        check_race(self.race, self.minibatches == "nested")
        check_plan_initial(self.initial, self.warm)
        return self

    def _schedule(self) -> TrainingSchedule:
        return PUBLISHED if self.schedule == "published" else self.schedule

    def _chains(self, problem: Problem) -> tuple[Chain, ...]:
        assert problem.length is not None
        return training_chains(self._schedule().training, problem.length)

    def check(self, problem: Problem) -> None:
        schedule = self._schedule()
        check_stages(schedule, self._chains(problem), self.race)
        stage_sequences(schedule, problem.pool)
        check_rules(self.initial, problem.space)
        first(problem, self.name, self.initial, self.warm)

    def steps(self, problem: Problem) -> Steps:
        space, pool, fresh = problem.space, problem.pool, self.minibatches == "fresh"
        schedule, chains = self._schedule(), self._chains(problem)

        def then(answers: list[Genome], _: int) -> Steps:
            starts = [*problem.starts, *answers]
            return darwin(space, pool, problem.seed, schedule, chains, self.mutation, fresh, starts, self.race)

        return warm_start(pool, first(problem, self.name, self.initial, self.warm), then)

    def start_names(self) -> tuple[str, ...]:
        return self.initial

    def warming(self) -> Strategy | None:
        return self.warm

    def trained(self) -> tuple[int, ...]:
        return self._schedule().training


def darwin(
    space: Space,
    pool: Pool,
    seed: int,
    schedule: Schedule,
    chains: Sequence[Chain],
    mutation: Mutation = "levels",
    fresh: bool = True,
    initial: Sequence[Genome] = (),
    risk: float | None = None,
) -> Steps:
    """Evolution by training-aware selection; `chains`: the training of each stage of `schedule`; `risk` as `evopress`.

    Raises:
        SecateurError: another number of stages, stages of less and less text in a race, or as `evopress`.
    """
    check_stages(schedule, chains, risk)
    return evopress(space, pool, seed, schedule, mutation, fresh, initial, risk, chains)


def check_stages(schedule: Schedule, chains: Sequence[Chain], risk: float | None) -> None:
    """Raises SecateurError for another number of trainings than stages, or a race on less and less text."""
    if len(chains) != len(schedule.tokens):
        raise SecateurError(f"schedule.training: {len(chains)} stages, but 'tokens' has {len(schedule.tokens)}")
    if risk is not None and list(schedule.tokens) != sorted(schedule.tokens):
        raise SecateurError("schedule.tokens: a race looks at no less text in a later stage; write rising numbers")

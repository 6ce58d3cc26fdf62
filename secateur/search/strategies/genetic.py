"""Evolution of one plan by pymoo (Blank and Deb 2020), asked and told.

`ga`, a genetic algorithm with our operators, which keep the budgets and use them up, and with few children at a time,
so that what is found breeds at once; `de`, differential evolution (Storn and Price 1997) of real sensitivities that the
exact knapsack decodes onto the budgets (`Shares`).
"""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator
from pymoo.algorithms.soo.nonconvex.de import DE
from pymoo.algorithms.soo.nonconvex.ga import GA
from pymoo.core.algorithm import Algorithm
from pymoo.core.mutation import Mutation

from ...operators.mutation import switch_costs
from ...operators.repair import repair
from ...operators.rules.table import RULES
from ...space.genome import Genome
from ...space.settings import Positive
from ...space.space import Space
from ..archive import Best
from ..encoding import Encoding, EncodingName, Levels, encoding_of
from ..problem import Problem
from ..steps import Steps
from ..strategy import Strategy
from ..warm import GOOD_RULES, check_initial, check_population, check_rules, first, runs_first, score_first, warm_start
from .evolution import OFFSPRING, Crossed, Repaired, Sampled, SpaceProblem, driven, genome_of
from .table import AnyStrategy

Name = Literal["ga", "de"]
MUTATED = 0.7
"""Share of the children of two parents that are mutated besides."""


class Genetic(Strategy):
    """Evolution by pymoo, for one plan."""

    name: Name
    population: Annotated[int, Field(ge=4)] = 16
    """Members."""
    sequences: Positive = 8
    """On which everything is scored."""
    encoding: EncodingName | None = None
    """One level per gene (`levels`), or `shares`, real sensitivities that the exact knapsack decodes onto the budgets;
    null: levels for ga, shares for de, which varies real numbers alone."""
    initial: tuple[str, ...] = Field(default=(GOOD_RULES, "knapsack"), examples=[["uniform", "theirs/plan.json"]])
    """Where it starts besides random genomes: rules (`rules`: all good ones that apply), plan files, and `knapsack` or
    `greedy`, which are run first."""
    warm: AnyStrategy | None = None
    """The settings of those that are run first, which take half of the effort together."""
    ends: ClassVar[bool] = False
    libraries: ClassVar[tuple[str, ...]] = ("pymoo",)

    @model_validator(mode="after")
    def _settings_fit(self) -> "Genetic":
        check_initial(self.initial, self.warm, (GOOD_RULES, *RULES, *runs_first()))
        if self.name == "de" and self.encoding == "levels":
            raise ValueError("encoding: de varies real numbers; write shares, or take ga")
        return self

    def check(self, problem: Problem) -> None:
        check_rules(self.initial, problem.space)
        check_population(problem, self.name, self.population, self.sequences, self.initial, self.warm)
        self._encoding(problem)

    def steps(self, problem: Problem) -> Steps:
        space, encoding = problem.space, self._encoding(problem)
        sequences = min(self.sequences, problem.pool.sequences)

        def then(answers: list[Genome], _spent: int) -> Steps:
            starts = [*answers, *problem.starts]
            return genetic(self.name, space, sequences, problem.seed, self.population, encoding, starts)

        return warm_start(problem.pool, first(problem, self.name, self.initial, self.warm), then)

    def start_names(self) -> tuple[str, ...]:
        return self.initial

    def compared(self) -> int:
        return self.sequences

    def warming(self) -> Strategy | None:
        return self.warm

    def _encoding(self, problem: Problem) -> Encoding:
        return encoding_of(self.encoding or ("shares" if self.name == "de" else "levels"), problem)


class _Switched(Mutation):  # type: ignore[misc]
    """Switches of genes that keep every budget, and use it up; see `operators.mutation.switch_costs`."""

    def __init__(self) -> None:
        super().__init__(prob=MUTATED)

    def _do(self, problem: SpaceProblem, rows: Any, random_state: np.random.Generator, **_: Any) -> Any:
        space = problem.encoding.space
        settled = [repair(genome_of(row), space, random_state) for row in rows]
        return np.array([switch_costs(one, space, random_state).levels for one in settled], dtype=float)


def genetic(
    name: Name,
    space: Space,
    sequences: int,
    seed: int,
    population: int,
    encoding: Encoding,
    initial: Sequence[Genome] = (),
) -> Steps:
    """Evolves a population that starts from `initial` and random genomes; ends when nothing new turns up.

    The answer is the best genome that keeps the budgets. Integer levels are varied by our operators, real shares by
    differential evolution (DE/best/1/bin) or, of `ga`, by pymoo's own operators.
    """
    best = Best(sequences)
    yield from score_first(best, space, initial)
    return (yield from driven(_algorithm(name, population, encoding, initial), space, best, seed, encoding))


def _algorithm(name: Name, population: int, encoding: Encoding, initial: Sequence[Genome]) -> Algorithm:
    sampling = Sampled(initial)
    if name == "de":
        return DE(pop_size=population, n_offsprings=population, sampling=sampling, variant="DE/best/1/bin", CR=0.9)
    operators: dict[str, Any] = {}
    if isinstance(encoding, Levels):
        operators = {"crossover": Crossed(repair), "mutation": _Switched(), "repair": Repaired(repair)}
    return GA(pop_size=population, n_offsprings=OFFSPRING, sampling=sampling, **operators)

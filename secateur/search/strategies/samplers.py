"""Optuna's samplers, asked and told: TPE (Ozaki et al. 2022), NSGA-II, Gaussian processes, CMA-ES (Hamano et al. 2022).

The distributions are the same for every trial, since dynamic ones break the samplers that look at several parameters
together. A genome that breaks a budget is compressed and scored as that; how far it was over is told as a constraint,
so that the sampler learns where the budgets are. The study lives in memory and is rebuilt by telling it again.
"""

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, NSGAIISampler, TPESampler
from optuna.trial import FrozenTrial, TrialState
from pydantic import Field, model_validator

from ...operators.rules.table import RULES
from ...space.errors import SecateurError
from ...space.genome import Genome
from ...space.settings import Positive
from ...space.space import Space
from ..archive import Archive, Best
from ..encoding import Encoding, EncodingName, Levels, encoding_of
from ..problem import Problem
from ..steps import Batch, Steps
from ..strategy import Strategy
from ..warm import (
    GOOD_RULES,
    check_initial,
    check_population,
    check_rules,
    first,
    runs_first,
    score_first,
    warm_front,
    warm_start,
)
from .table import AnyStrategy

Name = Literal["tpe", "optuna-nsga2", "gp", "cma-es"]
EXCESS = "excess"
STALE = 20
"""Populations without a genome that is new after which a search has seen what it can reach."""


class Sampler(Strategy):
    """Optuna's samplers, for one plan or a front."""

    name: Name
    population: Annotated[int, Field(ge=2)] = 16
    """Of NSGA-II, and of random trials before the others begin."""
    batch: Positive | None = None
    """Vectors that are asked for at a time; null: 1 for gp, 4 otherwise."""
    sequences: Positive = 4
    """On which everything is scored."""
    encoding: EncodingName = "levels"
    """One level per gene, or `shares`, real sensitivities that the exact knapsack decodes onto the budgets."""
    initial: tuple[str, ...] = Field(default=(GOOD_RULES, "knapsack"), examples=[["uniform", "theirs/plan.json"]])
    """Where it starts besides random genomes: rules (`rules`: all good ones that apply; of a front `uniform` in several
    sizes), plan files, ours or other tools', and `knapsack` or `greedy`, which are run first."""
    warm: AnyStrategy | None = None
    """The settings of those that are run first, which take half of the effort together."""
    ends: ClassVar[bool] = False
    libraries: ClassVar[tuple[str, ...]] = ("optuna",)

    @model_validator(mode="after")
    def _settings_fit(self) -> "Sampler":
        check_initial(self.initial, self.warm, ("dense", GOOD_RULES, *RULES, *runs_first()))
        return self

    def check(self, problem: Problem) -> None:
        if problem.goal is None:
            if "dense" in self.initial:
                raise SecateurError("strategy.initial: 'dense' is where a front starts; one plan has budgets to keep")
            check_rules(self.initial, problem.space)
        elif others := [name for name in self.initial if name in RULES and name != "uniform"]:
            raise SecateurError(f"strategy.initial: a front starts from uniform, and not from {others[0]}")
        check_population(problem, self.name, self.population, self._compared(problem), self.initial, self.warm)
        encoding_of(self.encoding, problem)

    def steps(self, problem: Problem) -> Steps:
        space, goal, encoding = problem.space, problem.goal, encoding_of(self.encoding, problem)
        batch = self.batch or (1 if self.name == "gp" else 4)

        def then(archive: Archive | Best, starts: Sequence[Genome]) -> Steps:
            return sampled(self.name, space, archive, problem.seed, self.population, batch, encoding, starts)

        before = first(problem, self.name, self.initial, self.warm)
        if goal is None:
            best = Best(self._compared(problem))
            return warm_start(problem.pool, before, lambda answers, _: then(best, [*answers, *problem.starts]))
        front = partial(then, Archive(goal))
        return warm_front(
            space, goal, self.population, problem.starts, before, lambda found: front([space.dense, *found])
        )

    def _compared(self, problem: Problem) -> int:
        return problem.goal.sequences if problem.goal is not None else min(self.sequences, problem.pool.sequences)

    def start_names(self) -> tuple[str, ...]:
        return self.initial

    def compared(self) -> int:
        return self.sequences

    def warming(self) -> Strategy | None:
        return self.warm


def sampled(
    name: Name,
    space: Space,
    archive: Archive | Best,
    seed: int,
    population: int,
    batch: int,
    encoding: Encoding,
    initial: Sequence[Genome] = (),
) -> Steps:
    """Asks a sampler for `batch` vectors at a time; ends when nothing new turns up.

    `population` is that of NSGA-II and CMA-ES, and for the others the number of random trials before the model takes
    over. The answer is the knee of the front, or the best plan.
    """
    if isinstance(archive, Best):
        yield from score_first(archive, space, initial)
    study = _study(name, archive.dimensions, seed, population)
    distributions = _distributions(encoding)
    for genome in initial:
        study.enqueue_trial(_parameters(distributions, encoding.encode(genome).tolist()))
    seen, stale = set[Genome](), 0
    while stale < STALE * population:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trials = [study.ask(fixed_distributions=distributions) for _ in range(batch)]
        vectors = [[trial.params[key] for key in distributions] for trial in trials]
        genomes = tuple(encoding.decode(vector) for vector in vectors)
        told = yield Batch(genomes, range(archive.sequences), archive.knee())
        for trial, vector, evaluation in zip(trials, vectors, told, strict=True):
            over = [] if evaluation.excess is None else [evaluation.excess]
            trial.set_user_attr(EXCESS, [*encoding.excess(vector), *over])
        archive.add(told, space.dense)
        stale = 0 if set(genomes) - seen else stale + batch
        seen |= set(genomes)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for trial, evaluation in zip(trials, told, strict=True):
                if evaluation.status == "failed":
                    study.tell(trial, state=TrialState.FAIL)
                else:
                    # CMA-ES knows no constraints.
                    ranked = name == "cma-es" and not evaluation.keeps
                    study.tell(trial, [evaluation.rank] if ranked else list(archive.point(evaluation)))
    return archive.knee()


def _study(name: Name, dimensions: int, seed: int, population: int) -> optuna.Study:
    def excess(trial: FrozenTrial) -> Sequence[float]:
        return [float(value) for value in trial.user_attrs.get(EXCESS, ())]

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        samplers: dict[str, Any] = {
            "tpe": lambda: TPESampler(
                seed=seed, multivariate=True, constant_liar=True, n_startup_trials=population, constraints_func=excess
            ),
            "optuna-nsga2": lambda: NSGAIISampler(seed=seed, population_size=population, constraints_func=excess),
            "gp": lambda: GPSampler(seed=seed, n_startup_trials=population, constraints_func=excess),
            "cma-es": lambda: CmaEsSampler(seed=seed, popsize=population, with_margin=True),
        }
        sampler: BaseSampler = samplers[name]()
        return optuna.create_study(directions=["minimize"] * dimensions, sampler=sampler)


def _distributions(encoding: Encoding) -> dict[str, BaseDistribution]:
    if isinstance(encoding, Levels):
        return {key: IntDistribution(0, int(top)) for key, top in zip(encoding.names, encoding.upper, strict=True)}
    return {key: FloatDistribution(0.0, 1.0) for key in encoding.names}


def _parameters(distributions: dict[str, BaseDistribution], vector: Sequence[float]) -> dict[str, Any]:
    whole = all(isinstance(one, IntDistribution) for one in distributions.values())
    return {key: int(value) if whole else float(value) for key, value in zip(distributions, vector, strict=True)}

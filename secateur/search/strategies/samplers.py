"""Optuna's samplers, asked and told: TPE (Ozaki et al. 2022), NSGA-II, and Gaussian processes.

The distributions are the same for every trial, since dynamic ones break the samplers that look at several parameters
together. A genome that breaks a budget is compressed and scored as that; how far it was over is told as a constraint,
so that the sampler learns where the budgets are. The study lives in memory and is rebuilt by telling it again.
"""

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from ...space.genome import Genome
from ...space.space import Space
from ..archive import Archive, Goal
from ..encoding import Encoding, Levels
from ..strategy import Batch, Steps
from .evolution import STALE

Name = Literal["tpe", "optuna-nsga2", "gp"]
EXCESS = "excess"


def sampled(
    name: Name,
    space: Space,
    goal: Goal,
    seed: int,
    population: int,
    batch: int,
    encoding: Encoding,
    initial: Sequence[Genome] = (),
) -> Steps:
    """Asks a sampler for `batch` vectors at a time; ends when nothing new turns up.

    `population` is that of NSGA-II, and for the others the number of random trials before the model takes over. The
    answer is the knee of the front.
    """
    study = _study(name, goal, seed, population)
    distributions = _distributions(encoding)
    for genome in (space.dense, *initial):
        study.enqueue_trial(_parameters(distributions, encoding.encode(genome).tolist()))
    archive, seen, stale = Archive(goal), set[Genome](), 0
    while stale < STALE * population:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trials = [study.ask(fixed_distributions=distributions) for _ in range(batch)]
        vectors = [[trial.params[key] for key in distributions] for trial in trials]
        genomes = tuple(encoding.decode(vector) for vector in vectors)
        for trial, vector in zip(trials, vectors, strict=True):
            trial.set_user_attr(EXCESS, encoding.excess(vector))
        told = yield Batch(genomes, range(goal.sequences), archive.knee())
        archive.add(told, space.dense)
        stale = 0 if set(genomes) - seen else stale + batch
        seen |= set(genomes)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for trial, evaluation in zip(trials, told, strict=True):
                if evaluation.status == "failed":
                    study.tell(trial, state=TrialState.FAIL)
                else:
                    study.tell(trial, list(goal.point(evaluation)))
    return archive.knee()


def _study(name: Name, goal: Goal, seed: int, population: int) -> optuna.Study:
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
        }
        sampler: BaseSampler = samplers[name]()
        return optuna.create_study(directions=["minimize"] * len(goal.objectives), sampler=sampler)


def _distributions(encoding: Encoding) -> dict[str, BaseDistribution]:
    if isinstance(encoding, Levels):
        return {key: IntDistribution(0, int(top)) for key, top in zip(encoding.names, encoding.upper, strict=True)}
    return {key: FloatDistribution(0.0, 1.0) for key in encoding.names}


def _parameters(distributions: dict[str, BaseDistribution], vector: Sequence[float]) -> dict[str, Any]:
    whole = all(isinstance(one, IntDistribution) for one in distributions.values())
    return {key: int(value) if whole else float(value) for key, value in zip(distributions, vector, strict=True)}

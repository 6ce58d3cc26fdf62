"""Multi-objective evolution by pymoo (Blank and Deb 2020), asked and told, with our operators.

NSGA-II (Deb et al. 2002), NSGA-III (Deb and Jain 2014), and SMS-EMOA (Beume et al. 2007) for a few hundred evaluations:
it keeps what adds most to the hypervolume, the very figure by which fronts are compared, and was made for taking in few
children at a time. Here all three take in `OFFSPRING` at a time instead of a whole generation, so that what is found
breeds at once; that is worth more than any choice of operators (`benchmarks/fronts.py`).

Budgets are kept by repair first; what still breaks one loses to everything that does not (constrained domination).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.algorithms.moo.sms import SMSEMOA
from pymoo.core.algorithm import Algorithm
from pymoo.core.crossover import Crossover
from pymoo.core.evaluator import Evaluator
from pymoo.core.mutation import Mutation
from pymoo.core.problem import Problem as Variables
from pymoo.core.repair import Repair
from pymoo.core.sampling import Sampling
from pymoo.core.termination import NoTermination
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.problems.static import StaticProblem
from pymoo.util.ref_dirs import get_reference_directions

from ...operators.crossover import Settle, graft
from ...operators.mutation import vary
from ...operators.repair import compress
from ...space.evaluation import Evaluation
from ...space.genome import Genome
from ...space.settings import Positive, Probability
from ...space.space import Space
from ..archive import Archive, Best, Goal
from ..encoding import Encoding, EncodingName, Levels, encoding_of
from ..problem import Problem
from ..race import Outcome, race_front
from ..steps import Batch, Steps
from ..strategy import Strategy
from ..warm import check_front_initial, check_population, first, warm_front
from .table import AnyStrategy

Name = Literal["nsga2", "nsga3", "sms-emoa"]
OFFSPRING = 4
"""Children a turn; a few, so that they share what they have in common when they are evaluated."""
CROSSED, MUTATED = 0.9, 0.4
"""Shares of the children that come from two parents, and that are mutated."""
STALE = 20
"""Turns without a genome that is new after which a search has seen what it can reach."""
FAILED = 1e9


class Evolution(Strategy):
    """Multi-objective evolution by pymoo, for a front."""

    name: Name
    population: Annotated[int, Field(ge=4)] = 24
    """Members."""
    sequences: Positive = 4
    """On which everything is scored."""
    encoding: EncodingName = "levels"
    """One level per gene, or `shares`, real sensitivities that the exact knapsack decodes onto the budgets."""
    initial: tuple[str, ...] = Field(default=("dense", "uniform", "knapsack"), examples=[["dense", "theirs/plan.json"]])
    """Where it starts besides random genomes: `dense`, `uniform` in several sizes, plan files, ours or other tools',
    and `knapsack` or `greedy`, which are run first."""
    warm: AnyStrategy | None = None
    """The settings of those that are run first, which take half of the effort together."""
    race: Probability | None = None
    """A child sees all sequences only until a member of the front proves to dominate it, and one that nothing on the
    front dominates is dropped with this probability at most; it needs more sequences than the 4 of the first look.
    Null: none."""
    ends: ClassVar[bool] = False
    libraries: ClassVar[tuple[str, ...]] = ("pymoo",)

    @model_validator(mode="after")
    def _settings_fit(self) -> "Evolution":
        check_front_initial(self.initial, self.warm)
        if self.race is not None and self.sequences <= 4:
            raise ValueError("race: nobody is dropped on 4 sequences or fewer; set 'sequences' to 8 or more")
        return self

    def check(self, problem: Problem) -> None:
        assert problem.goal is not None
        check_population(problem, self.name, self.population, problem.goal.sequences, self.initial, self.warm)
        encoding_of(self.encoding, problem)

    def steps(self, problem: Problem) -> Steps:
        space, goal, encoding = problem.space, problem.goal, encoding_of(self.encoding, problem)
        assert goal is not None

        def then(starts: list[Genome]) -> Steps:
            return evolution(self.name, space, goal, problem.seed, self.population, encoding, starts, self.race)

        before = first(problem, self.name, self.initial, self.warm)
        return warm_front(space, goal, self.population, problem.starts, before, then)

    def start_names(self) -> tuple[str, ...]:
        return self.initial

    def compared(self) -> int:
        return self.sequences

    def warming(self) -> Strategy | None:
        return self.warm


class SpaceProblem(Variables):  # type: ignore[misc]
    """A view of `Space` for pymoo: variables of an encoding, and constraints.

    One for each budget on a cost, one for all those on scores, and one for failures.
    """

    def __init__(self, space: Space, dimensions: int, encoding: Encoding) -> None:
        self.encoding = encoding
        super().__init__(
            n_var=len(encoding.upper),
            n_obj=dimensions,
            n_ieq_constr=len(space.budgets) + 2,
            xl=0.0,
            xu=encoding.upper,
        )


class Sampled(Sampling):  # type: ignore[misc]
    """Given genomes first, then random ones."""

    def __init__(self, initial: Sequence[Genome]) -> None:
        super().__init__()
        self._initial = initial

    def _do(self, problem: SpaceProblem, n_samples: int, random_state: np.random.Generator, **_: Any) -> Any:
        encoding = problem.encoding
        rows = [encoding.encode(genome) for genome in self._initial][:n_samples]
        return np.array([*rows, *encoding.random(n_samples - len(rows), random_state)])


class Crossed(Crossover):  # type: ignore[misc]
    """Each parent with a part of the other: two children a couple; `settle`: what is done about budgets."""

    def __init__(self, settle: Settle = compress) -> None:
        super().__init__(n_parents=2, n_offsprings=2, prob=CROSSED)
        self._settle = settle

    def _do(self, problem: SpaceProblem, parents: Any, random_state: np.random.Generator, **_: Any) -> Any:
        space, children = problem.encoding.space, np.empty_like(parents)
        for couple in range(parents.shape[1]):
            first, second = (genome_of(parents[row, couple]) for row in (0, 1))
            for child, (one, other) in enumerate(((first, second), (second, first))):
                children[child, couple] = graft(one, other, space, random_state, self._settle).levels
        return children


class _Mutated(Mutation):  # type: ignore[misc]
    """Another size, a step or a switch; see `operators.mutation.vary`."""

    def __init__(self) -> None:
        super().__init__(prob=MUTATED)

    def _do(self, problem: SpaceProblem, rows: Any, random_state: np.random.Generator, **_: Any) -> Any:
        space, costs = problem.encoding.space, problem.encoding.costs
        return np.array([vary(genome_of(row), space, costs, random_state).levels for row in rows], dtype=float)


class Repaired(Repair):  # type: ignore[misc]
    """Brings onto the budgets what breaks them."""

    def __init__(self, settle: Settle = compress) -> None:
        super().__init__()
        self._settle = settle

    def _do(self, problem: SpaceProblem, rows: Any, random_state: np.random.Generator, **_: Any) -> Any:
        space = problem.encoding.space
        return np.array([self._settle(genome_of(row), space, random_state).levels for row in rows], dtype=float)


def genome_of(row: NDArray[np.float64]) -> Genome:
    """The genome that a row of levels is."""
    return Genome(tuple(int(level) for level in row))


def evolution(
    name: Name,
    space: Space,
    goal: Goal,
    seed: int,
    population: int,
    encoding: Encoding,
    initial: Sequence[Genome] = (),
    risk: float | None = None,
) -> Steps:
    """Evolves a population that starts from `initial` and random genomes; ends when nothing new turns up.

    Integer levels are varied by our operators, real shares by pymoo's own (simulated binary crossover, polynomial
    mutation). The answer is the knee of the front. `risk`: that a race drops a child which nothing on the front
    dominates (`race.race_front`); None: every child is scored on all sequences.
    """
    operators: dict[str, Any] = {"sampling": Sampled((space.dense, *initial))}
    if isinstance(encoding, Levels):
        operators |= {"crossover": Crossed(), "mutation": _Mutated(), "repair": Repaired()}
    else:
        operators |= {"crossover": SBX(eta=15, prob=0.9), "mutation": PM(eta=20)}
    return driven(algorithm(name, goal, population, operators), space, Archive(goal), seed, encoding, risk)


def algorithm(name: Name, goal: Goal, population: int, operators: dict[str, Any]) -> Algorithm:
    """One of pymoo's algorithms with the given operators."""
    if name == "nsga2":
        return NSGA2(pop_size=population, n_offsprings=OFFSPRING, **operators)
    if name == "nsga3":
        directions = _directions(len(goal.objectives), population)
        return NSGA3(directions, pop_size=population, n_offsprings=OFFSPRING, **operators)
    return SMSEMOA(pop_size=population, n_offsprings=OFFSPRING, **operators)


@lru_cache
def _directions(objectives: int, count: int) -> Any:
    """As many reference directions as there are members, whatever their number; the same for every seed."""
    return get_reference_directions("energy", objectives, count, seed=1)


def driven(
    algorithm: Algorithm,
    space: Space,
    archive: Archive | Best,
    seed: int,
    encoding: Encoding,
    risk: float | None = None,
) -> Steps:
    """Asks a pymoo algorithm for vectors and tells it what their genomes are worth; `risk`: of a front's races."""
    problem = SpaceProblem(space, archive.dimensions, encoding)
    algorithm.setup(problem, termination=NoTermination(), seed=seed, verbose=False)
    scored, stale, sequences = dict[Genome, Evaluation](), 0, range(archive.sequences)
    seen = set[Genome]()
    while stale < STALE:
        asked = algorithm.ask()
        if asked is None or not len(asked):
            break
        genomes = tuple(encoding.decode(row) for row in asked.get("X"))
        if risk is None or isinstance(archive, Best):
            told = yield Batch(genomes, sequences, archive.knee())
            outcomes = [Outcome(one, () if one.status == "failed" else archive.point(one)) for one in told]
        else:
            front = [scored[genome] for genome in archive.front()]
            outcomes = yield from race_front(genomes, front, archive.goal, risk, archive.knee())
        evaluations = [outcome.evaluation for outcome in outcomes]
        archive.add(evaluations, space.dense)
        scored |= {one.genome: one for one in evaluations if one.sequences == sequences}
        stale = 0 if set(genomes) - seen else stale + 1
        seen |= set(genomes)
        values, excess = judged(outcomes, archive.dimensions, space)
        # pymoo takes values that were found elsewhere in the shape of a problem that only looks them up.
        Evaluator().eval(StaticProblem(problem, F=values, G=excess), asked)
        algorithm.tell(infills=asked)
    return archive.knee()


def judged(
    outcomes: Sequence[Outcome], dimensions: int, space: Space
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(objective values, how far over each budget, 1 in the last column where the evaluation failed).

    Of budgets on scores it is how far over the one that is exceeded most, in the last column but one.
    """
    values = [list(outcome.point) or [FAILED] * dimensions for outcome in outcomes]
    excess = [
        [
            *(budget.excess(outcome.evaluation.costs) for budget in space.budgets),
            outcome.evaluation.excess or 0.0,
            float(not outcome.point),
        ]
        for outcome in outcomes
    ]
    return np.array(values), np.array(excess)

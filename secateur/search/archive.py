"""The front of a search: what nothing it evaluated dominates."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from ..space.errors import SecateurError
from ..space.evaluation import Evaluation
from ..space.front import hypervolume, ideal_point, knee, nondominated, thinned
from ..space.genome import Genome
from ..space.objective import Objective
from .steps import best_of

LIMIT = 400
"""Members beyond which epsilon-dominance thins the front out."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What a search for a front minimises; `reference` has the worst value of interest by objective, where one is set.

    All genomes are compared on the first `sequences` of the pool. `smallest`: the answer is not the knee, but what is
    least in the first cost.
    """

    objectives: tuple[Objective, ...]
    sequences: int
    reference: tuple[tuple[str, float], ...] = ()
    smallest: bool = False

    @property
    def costs(self) -> tuple[str, ...]:
        """The objectives that are costs."""
        return tuple(objective.name for objective in self.objectives if objective.is_cost)

    def point(self, evaluation: Evaluation) -> tuple[float, ...]:
        """An evaluation as a point, one value an objective."""
        return tuple(objective.of(evaluation) for objective in self.objectives)

    def worst(self, dense: Evaluation) -> tuple[float, ...]:
        """The reference point of the hypervolume; see `Objective.worst` for what is not set."""
        known = dict(self.reference)
        return tuple(known.get(objective.name, objective.worst(dense)) for objective in self.objectives)

    def ideal(self, dense: Evaluation) -> tuple[float, ...]:
        """The other corner: costs of nothing, scores of the dense model."""
        return tuple(ideal_point([objective.is_cost for objective in self.objectives], self.point(dense)))


@dataclass
class Best:
    """The best of what was evaluated on the first `sequences` and keeps the budgets: the archive of one plan.

    As long as nothing keeps the budgets on scores, what is nearest.
    """

    sequences: int
    evaluation: Evaluation | None = None
    dimensions: ClassVar[int] = 1

    def add(self, evaluations: Sequence[Evaluation], _dense: Genome) -> None:
        """Takes evaluations on these sequences; those on others do not compare."""
        wanted = range(self.sequences)
        known = [self.evaluation] if self.evaluation is not None else []
        self.evaluation = best_of([*known, *(one for one in evaluations if one.sequences == wanted)])

    def point(self, evaluation: Evaluation) -> tuple[float, ...]:
        """An evaluation as a point: its loss."""
        return (evaluation.loss,)

    def knee(self) -> Genome | None:
        """The best; None when there is none."""
        return self.evaluation.genome if self.evaluation is not None else None


@dataclass
class Archive:
    """Everything evaluated that can be a result, and the front of it; thinned out beyond twice `LIMIT`."""

    goal: Goal
    dense: Evaluation | None = None
    members: dict[Genome, tuple[float, ...]] = field(default_factory=dict)

    @property
    def sequences(self) -> int:
        """On which all genomes are compared."""
        return self.goal.sequences

    @property
    def dimensions(self) -> int:
        """How many objectives there are."""
        return len(self.goal.objectives)

    def point(self, evaluation: Evaluation) -> tuple[float, ...]:
        """An evaluation as a point, one value an objective."""
        return self.goal.point(evaluation)

    def add(self, evaluations: Sequence[Evaluation], dense: Genome) -> None:
        """Takes evaluations on the goal's sequences that keep all budgets; those on others do not compare."""
        wanted = range(self.goal.sequences)
        for evaluation in evaluations:
            if evaluation.sequences != wanted or evaluation.status == "failed":
                continue
            if evaluation.genome == dense:
                self.dense = evaluation
            if evaluation.status == "ok" and evaluation.keeps:
                self.members.setdefault(evaluation.genome, self.goal.point(evaluation))
        if len(self.members) > 2 * LIMIT:
            self.members = {genome: self.members[genome] for genome in self._front(self.members)}

    def _front(self, members: dict[Genome, tuple[float, ...]]) -> list[Genome]:
        genomes = sorted(members, key=lambda genome: (members[genome], genome))
        front = [genomes[index] for index in nondominated([members[genome] for genome in genomes])]
        return [front[index] for index in thinned([members[genome] for genome in front], LIMIT)]

    def front(self) -> list[Genome]:
        """What nothing dominates, inside the reference box where that is known; by the first objective, best first.

        Falls back to what lies outside the box when nothing lies inside.
        """
        members = self.members
        if self.dense is not None:
            worst = self.goal.worst(self.dense)
            inside = {g: p for g, p in members.items() if all(a <= b for a, b in zip(p, worst, strict=True))}
            members = inside or members
        return self._front(members)

    def knee(self) -> Genome | None:
        """The member that gives up least of everything, or the smallest one; None when there is none."""
        front = self.front()
        if not front:
            return None
        if self.goal.smallest:
            cost = [objective.is_cost for objective in self.goal.objectives].index(True)
            return min(front, key=lambda genome: self.members[genome][cost])
        return front[knee([self.members[genome] for genome in front])]

    def hypervolume(self) -> float:
        """Share of the box between dense scores at no cost and the reference that the front dominates.

        Raises:
            SecateurError: the dense model has not been evaluated.
        """
        if self.dense is None:
            raise SecateurError("the front's reference is relative to the dense model, which has not been evaluated")
        points = [self.members[genome] for genome in self.front()]
        return hypervolume(points, self.goal.worst(self.dense), self.goal.ideal(self.dense)) if points else 0.0

"""A relaxed genome: probabilities of levels, learned by gradients, with the budget as a penalty.

What CoFi (Xia et al. 2022, arXiv 2204.00408), Sheared LLaMA (Xia et al. 2023, arXiv 2310.06694) and MaskLLM (Fang et
al. 2024, arXiv 2409.17481) learn while they train: every gene is a categorical gate, samples are drawn by the Gumbel
trick (Jang et al. 2017, arXiv 1611.01144), and a multiplier on the expected cost rises as long as that is over the
budget (Sheared LLaMA, sec. 2.1). Weights stay as they are here; the gradient of a gate is that of its expected loss: by
slopes where the evaluator has some, of every level from one pass backwards around a sample (straight through), else by
the scores of samples (Williams 1992, REINFORCE, with the mean of the others as baseline). At the end, and now and then
before it, the exact knapsack finds the most probable genome within the budgets, which is scored.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ...operators.repair import tighten
from ...operators.rules.table import RULES
from ...space.errors import SecateurError
from ...space.evaluation import Evaluation
from ...space.genome import Genome
from ...space.settings import Positive
from ...space.slopes import SLOPES
from ...space.space import Space
from ..model.knapsack import check_clusters, solve
from ..problem import Problem
from ..steps import Batch, Pool, Steps, best_of
from ..strategy import Strategy
from ..sweep import Table
from ..warm import GOOD_RULES, check_initial, check_rules

Array = NDArray[np.float64]
DECAYS = (0.9, 0.99)
"""Of the means of gradients and of their squares (Kingma and Ba 2015, Adam)."""
HARDER = 2.0
"""What the multiplier grows by, for each share of the budget that the expected cost is over it."""
CELLS = 2000
STALE = 12
"""Solutions in a row that were known before, after which the gates have settled."""


class Gates(Strategy):
    """Probabilities of levels, learned by gradients with the budget as a penalty; for one plan."""

    name: Literal["gates"] = "gates"
    sequences: Positive = 4
    """On which samples and solutions are scored."""
    samples: Annotated[int, Field(ge=2)] = 6
    """Drawn at each step."""
    rate: Annotated[float, Field(gt=0, le=10)] = 0.3
    """Step of the logits."""
    every: Positive = 3
    """Steps after which the most probable genome within the budgets is scored."""
    initial: tuple[str, ...] = Field(default=(GOOD_RULES,), examples=[["theirs/plan.json"]])
    """Rules and plan files that are scored first, and that the gates lean towards."""
    ends: ClassVar[bool] = False

    def check(self, problem: Problem) -> None:
        check_initial(self.initial, None, (*RULES, GOOD_RULES))
        check_rules(self.initial, problem.space)
        check_clusters(problem.space)
        affordable = problem.affordable(self.sequences)
        if affordable is not None and affordable < self.samples + 1:
            raise SecateurError(
                f"effort: {affordable} evaluations are too few for gates with {self.samples} samples a step; raise "
                "'effort', or lower 'samples' or 'sequences'"
            )

    def steps(self, problem: Problem) -> Steps:
        sloping = SLOPES.name in problem.questions
        return gates(problem.space, problem.pool, problem.seed, self, problem.starts, sloping)

    def start_names(self) -> tuple[str, ...]:
        return self.initial

    def compared(self) -> int:
        return self.sequences


def gates(
    space: Space, pool: Pool, seed: int, settings: Gates, initial: Sequence[Genome] = (), sloping: bool = False
) -> Steps:
    """Learns until the solutions of the knapsack no longer change. `sloping`: slopes may be asked for."""
    rng, used = np.random.default_rng(seed), range(min(settings.sequences, pool.sequences))
    gate, best = _Gates(space, initial, settings.rate), None
    if starts := tuple(dict.fromkeys(genome for genome in initial if space.feasible(genome))):
        best = best_of((yield Batch(starts, used)))
    known: set[Genome] = set()
    step, stale = 0, 0
    while stale < STALE:
        step += 1
        drawn = tuple(gate.sample(rng) for _ in range(settings.samples))
        genomes, answer = tuple(dict.fromkeys(drawn)), best.genome if best else None
        told = yield Batch(genomes, used, answer, also=(SLOPES,) if sloping else ())
        best = best_of([*([best] if best else []), *told])
        gate.learn(told)
        if step % settings.every:
            continue
        solution = gate.solution(rng)
        if solution is None:
            stale += 1
            continue
        stale = stale + 1 if solution in known else 0
        known.add(solution)
        told = yield Batch((solution,), used, best.genome if best else None)
        best = best_of([*([best] if best else []), *told])
    return best.genome if best else None


class _Gates:
    """Logits of levels, (genes, levels), and the multiplier of the budgets."""

    def __init__(self, space: Space, initial: Sequence[Genome], rate: float) -> None:
        self._space, self._rate = space, rate
        counts = [len(gene.levels) for gene in space.genes]
        self._there = np.arange(max(counts)) < np.array(counts)[:, None]
        self._logits = np.where(self._there, 0.0, -np.inf)
        for genome in initial:
            self._logits[np.arange(len(counts)), genome.levels] += 1.0
        # What each level costs alone, in shares of each budget: (budgets, genes, levels).
        dense = np.array([budget.of(space.costs(space.dense)) for budget in space.budgets], dtype=float)
        self._limits = np.array([budget.limit for budget in space.budgets], dtype=float)
        self._saved = np.zeros((len(space.budgets), *self._logits.shape))
        for gene, count in enumerate(counts):
            for level in range(1, count):
                costs = space.costs(space.canonical(space.dense.with_level(gene, level)))
                self._saved[:, gene, level] = dense - [budget.of(costs) for budget in space.budgets]
        self._over = dense - self._limits
        self._multipliers = np.ones(len(space.budgets))
        self._scale = 1.0
        self._mean, self._square, self._times = np.zeros_like(self._logits), np.zeros_like(self._logits), 0

    @property
    def _probabilities(self) -> Array:
        weights = np.exp(self._logits - self._logits.max(axis=1, keepdims=True))
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))

    def sample(self, rng: np.random.Generator) -> Genome:
        """A genome by the Gumbel trick; it need not keep the budgets."""
        noise = rng.gumbel(size=self._logits.shape)
        return self._space.canonical(Genome(tuple(np.argmax(self._logits + noise, axis=1).tolist())))

    def learn(self, told: Sequence[Evaluation]) -> None:
        """One step down the gradient of the expected loss and of the penalty."""
        scored = [one for one in told if one.status != "failed"]
        chances = self._probabilities
        added = np.zeros_like(chances)
        if scored:
            # What is over a budget on a score loses more by as much of itself.
            losses = np.array([one.loss + abs(one.loss) * max(0.0, one.excess or 0.0) for one in scored])
            self._scale = float(max(losses.std(), 1e-3 * abs(losses.mean()), 1e-9))
            for place, one in enumerate(scored):
                known = _slopes(one, added.shape)
                others = np.delete(losses, place).mean() if len(losses) > 1 else losses[place]
                chosen = np.zeros_like(chances)
                chosen[np.arange(len(chosen)), one.genome.levels] = 1.0
                # Of a level that was drawn: how much worse the sample was than the others, over its chance.
                worse = (losses[place] - others) * chosen / np.maximum(chances, 0.02)
                added += np.where(np.isfinite(known), known, worse) / len(scored) / self._scale
        expected = self._over - (self._saved * chances).sum(axis=(1, 2))
        share = expected / np.maximum(self._limits, 1.0)
        self._multipliers = np.clip(self._multipliers * np.exp(HARDER * share), 1e-2, 1e3)
        genes = len(chances)
        added -= np.tensordot(self._multipliers / np.maximum(self._limits, 1.0), self._saved, 1) * genes
        gradient = chances * (added - (chances * added).sum(axis=1, keepdims=True))
        self._times += 1
        first, second = DECAYS
        self._mean = first * self._mean + (1 - first) * gradient
        self._square = second * self._square + (1 - second) * gradient**2
        corrected = self._mean / (1 - first**self._times)
        size = np.sqrt(self._square / (1 - second**self._times)) + 1e-8
        self._logits = np.where(self._there, self._logits - self._rate * corrected / size, -np.inf)

    def solution(self, rng: np.random.Generator) -> Genome | None:
        """The most probable genome within the budgets, where levels that are likelier than the first count as likely as
        that; None where it cannot be found."""
        with np.errstate(divide="ignore"):
            less = -np.log(self._probabilities)
        rows = [
            np.maximum.accumulate(row[: len(gene.levels)] - row[0]).tolist()
            for row, gene in zip(less, self._space.genes, strict=True)
        ]
        try:
            return tighten(solve(self._space, Table(0.0, tuple(map(tuple, rows))), CELLS), self._space, rng)
        except SecateurError:
            return None


def _slopes(one: Evaluation, shape: tuple[int, ...]) -> Array:
    """What levels add to the loss around a sample, (genes, levels); infinity where no slopes tell of it."""
    table = np.full(shape, np.inf)
    if SLOPES.name in one.also and not one.answer(SLOPES).reason:
        for gene, row in enumerate(one.answer(SLOPES).added()):
            table[gene, : len(row)] = row
    return table

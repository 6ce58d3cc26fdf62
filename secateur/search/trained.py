"""Selection by what subnets are worth after a short training, at the end of any search.

The best subnet before training is not always the best after it (DarwinLM, Tang et al. 2025, arXiv 2502.07780, sec.
3.3). So the best few of a search are trained for a while, scored, and trained on, fewer at every stage; who goes on
goes on from where its training ended.
"""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from ..space.errors import SecateurError
from ..space.evaluation import Evaluation
from ..space.genome import Genome
from ..space.losses import TRAINING_PASSES
from ..space.question import Chain
from ..space.space import Space
from .loop import Allowance, Spending
from .steps import AskTell, Batch, Pool, Steps, best_of


@dataclass(frozen=True, slots=True)
class Stage:
    """Tokens that each is trained on in this stage, and how many go on to the next."""

    tokens: int
    survivors: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Losses of one candidate on the same sequences: as it was found, and after each stage of training it came to."""

    genome: Genome
    untrained: float
    trained: tuple[float, ...]


def whole(tokens: int, length: int) -> int:
    """As many tokens, rounded up to whole sequences: what is really trained on."""
    return -(-tokens // length) * length


def training_chains(tokens: Sequence[int], length: int) -> tuple[Chain, ...]:
    """What each stage adds to the training before it, from what candidates have been trained on by its end.

    Totals are whole sequences of `length` tokens, rounded up.

    Raises:
        SecateurError: a stage that trains less than the one before it.
    """
    totals = [whole(count, length) for count in tokens]
    if not tokens or tokens[0] < 1 or any(late <= early for early, late in pairwise(totals)):
        raise SecateurError(
            f"schedule.training: {', '.join(map(str, tokens))}; write rising numbers of tokens, "
            f"by a sequence of {length} or more"
        )
    added = tuple(late - early for early, late in pairwise([0, *totals]))
    return tuple(added[: stage + 1] for stage in range(len(added)))


def chains(stages: Sequence[Stage]) -> list[Chain]:
    """What has been trained by the end of each stage."""
    tokens = tuple(stage.tokens for stage in stages)
    return [tokens[: number + 1] for number in range(len(tokens))]


class TrainedSelection:
    """Runs a search, then trains its best `candidates`; `comparisons`, `untrained` (the search's own answer),
    `trained_tokens` and `failed` (in each stage) say afterwards what that changed and took.

    Everything is scored on the first `sequences` of the pool.
    """

    def __init__(self, space: Space, pool: Pool, candidates: int, stages: Sequence[Stage], sequences: int) -> None:
        self.space, self.pool, self.stages = space, pool, tuple(stages)
        self.count, self.used = candidates, range(min(sequences, pool.sequences))
        self.untrained: Genome | None = None
        self.comparisons: list[Comparison] = []
        self.trained_tokens = 0
        self.failed: list[int] = []

    def cost(self) -> int:
        """Tokens, in forward passes, that the selection may take at most."""
        entrants = [self.count, *(stage.survivors for stage in self.stages[:-1])]
        scored = len(self.used) * self.pool.tokens_per_sequence
        return self.count * scored + sum(
            count * (stage.tokens * TRAINING_PASSES + scored)
            for count, stage in zip(entrants, self.stages, strict=True)
        )

    def steps(self, search: Steps, allowance: Allowance) -> Steps:
        """The search, as far as its own allowance goes, then the selection; answers with who is best after training."""
        known: dict[Genome, Evaluation] = {}
        self.untrained = yield from within(search, allowance, self.pool, known)
        entrants = [self.untrained] if self.untrained is not None else []
        entrants = list(dict.fromkeys([*entrants, *ranked_by(known.values(), self.space)]))[: self.count]
        if not entrants:
            return None
        told = yield Batch(tuple(entrants), self.used, self.untrained)
        ordered = sorted((one for one in told if one.status == "ok"), key=lambda one: one.rank)
        before = {one.genome: one.loss for one in ordered}
        if not before:
            return None
        left, after = list(before), {genome: list[float]() for genome in before}
        best = self.untrained if self.untrained in before else left[0]
        for stage, chain in zip(self.stages, chains(self.stages), strict=True):
            told = yield Batch(tuple(left), self.used, best, trained=chain)
            self.trained_tokens += len(left) * stage.tokens
            results = [one for one in told if one.status == "ok"]
            self.failed.append(len(left) - len(results))
            for one in results:
                after[one.genome].append(one.loss)
            if not results:
                break
            winner = best_of(results)
            best = winner.genome if winner is not None else best
            left = [one.genome for one in sorted(results, key=lambda one: one.rank)[: stage.survivors]]
        self.comparisons = [Comparison(genome, before[genome], tuple(after[genome])) for genome in before]
        return best


def ranked_by(known: Iterable[Evaluation], space: Space) -> list[Genome]:
    """What can be a result, best first; longest before that: what was scored on little text may have had easy text."""
    results = [one for one in known if one.status == "ok" and space.feasible(one.genome)]
    return [one.genome for one in sorted(results, key=lambda one: (-len(one.primary), one.rank))]


def within(
    steps: Steps, allowance: Allowance, pool: Pool, known: dict[Genome, Evaluation]
) -> Generator[Batch, list[Evaluation], Genome | None]:
    """A search until its end, or until its next batch would exceed `allowance`.

    `known` is filled with an evaluation of each genome, on all sequences that it was scored on, wherever they are.
    """
    strategy, spending = AskTell(steps), Spending(pool.tokens_per_sequence)
    values: dict[Genome, dict[int, float]] = {}
    while (batch := strategy.ask()) is not None and spending.fits(batch, allowance):
        told = yield batch
        spending.add(batch)
        for one in told:
            if one.status == "failed" or not one.primary:
                known.setdefault(one.genome, one)
                continue
            row = values.setdefault(one.genome, {})
            longest = one.genome not in known or len(one.sequences) >= len(row)
            row.update(zip(one.sequences, one.primary, strict=True))
            losses = {one.score or next(iter(one.losses)): tuple(row.values())}
            # Budgets on scores are judged on the longest part.
            excess = one.excess if longest else known[one.genome].excess
            known[one.genome] = replace(one, losses=losses, sequences=range(len(row)), also={}, excess=excess)
        strategy.tell(told)
    return strategy.incumbent

"""Our own search: the state of it and its rounds; `strategies.surrogate` says how they follow."""

import contextlib
import math
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import replace

import numpy as np

from ...operators.mutation import switch_costs
from ...operators.repair import tighten
from ...operators.sampling import on_budget
from ...space.errors import SecateurError
from ...space.evaluation import Evaluation
from ...space.genome import Genome
from ...space.slopes import SLOPES
from ...space.space import Space
from ..race import looks, race
from ..steps import Batch, Pool, Result, Steps, noted, side_by_side
from ..sweep import sweep
from ..walk import walk_through
from .downhill import downhill, prices
from .features import matrix
from .knapsack import solve
from .known import Known
from .loss_model import LossModel, by_share
from .options import PATH, Options
from .propose import CELLS, Proposal, linearised, propose, spread_out
from .ranking import Ranking

POOR = 0.3
"""Rank correlation under which most candidates come from mutation."""
PATIENCE = 3
STALE = 20
"""Rounds without a new incumbent after which it is quiet, whatever the model promises."""
AGAIN = 2
"""How often a genome is proposed at most: one that a race cut short may come back once."""
FINALISTS = 8
AT_ONCE = 2
"""Targets, of many, that a round looks for candidates for."""
TRIES = 20
SHORT = 1e-3
"""Of the way to a limit, the least that is looked at."""
OFFSET = 1e-3
"""Mean loss of the dense model, nats per token, from which a score is taken to have a zero of its own."""


class Search:
    """The state of one search; `incumbents` has the best answer to each target so far."""

    def __init__(self, space: Space, pool: Pool, seed: int, targets: Sequence[Space], options: Options) -> None:
        self.space, self.targets, self.options, self.pool = space, list(targets), options, pool
        self.rng = np.random.default_rng(seed)
        last = min(options.sequences, pool.sequences)
        self.counts = looks(min(options.first, last), last) if options.racing else (last,)
        self.known = Known()
        self._added: Sequence[Sequence[float]] = by_share(space)
        self.model = LossModel(space, self._added)
        self.limit: LossModel | None = None
        self.incumbents: list[Genome | None] = [None] * len(targets)
        self.ranking = Ranking()
        self.asked: Counter[Genome] = Counter()
        self.quiet = self.stale = self.turns = 0
        self.finished = False

    def steps(self, initial: Sequence[Genome]) -> Steps:
        """The whole search; answers with the best genome of the first target."""
        yield from self.begin(initial)
        while not self.finished:
            yield from self.turn()
        return self.incumbents[0]

    # -- the beginning ---------------------------------------------------------------------------------------------

    def begin(self, initial: Sequence[Genome]) -> Generator[Batch, list[Evaluation], None]:
        """What is given races first, so that there is an answer from the beginning; then come sweep and path."""
        used = range(self.counts[0])
        numbered = list(enumerate(self.targets))
        given = [self._race(index, self._keeping(target, initial)) for index, target in numbered]
        yield from side_by_side(given)
        starts: list[list[Genome]] = [[] for _ in self.targets]
        if self.options.sweeping:
            priced = yield from self._priced()
            table = yield from self._noted(sweep(self.space, used, self.options.anchors, priced))
            yield from self._score_dense()
            self.model, self._added = LossModel(self.space, table.added), table.added
            # What is priced as well as a sweep would is not walked either.
            most = 0 if len(priced) == len(self.space.genes) else self.options.path or PATH * len(self.space.genes)
            points = yield from self._noted(walk_through(self.targets, table, used, self.options.lazy, most))
            for target, own, point in zip(self.targets, starts, points, strict=True):
                own.append(point)
                # Where too much hangs together, or levels have failed, the path is all there is.
                with contextlib.suppress(SecateurError):
                    own.append(solve(target, table, CELLS))
        else:
            for target, own in zip(self.targets, starts, strict=True):
                own += [on_budget(target, self.rng) for _ in range(self.options.batch)]
        races = [self._settle(index, self._keeping(target, starts[index])) for index, target in numbered]
        yield from side_by_side(races)
        if self.options.slopes:
            while self.options.growing and self.counts[-1] < min(self.options.settled, self.pool.sequences):
                yield from self._grow()
        # Whatever was tried has failed.
        self.finished = all(incumbent is None for incumbent in self.incumbents)

    def _priced(self) -> Generator[Batch, list[Evaluation], dict[int, list[float]]]:
        """What levels add by slopes, of the genes that these tell of: they need no sweep.

        Types of few bits are small changes: they are priced around the dense model, where two sequences rank them as
        their sweep does (SmolLM2, sublayers in four types: rank correlation 0.99, of each type alone 0.89 to 0.97).
        Cuts and zeros together, at 0.98, are priced around a first answer all the same: at half of the weights more
        came of that (KL 0.718, and 0.831 by prices around dense).

        Where zeros are searched beside cuts: the sweep of so many genes leaves little else, and around an answer every
        level is priced beside the others of its sublayer. Of sparsity alone a sweep of all did better (SmolLM2 at 50 %,
        100,000 tokens: 0.632 held out, and 0.662 without).
        """
        if not (self.options.slopes and self.options.pricing):
            return {}
        stored = [index for index, gene in enumerate(self.space.genes) if "bits" in gene.features]
        if stored:
            dense = Batch((self.space.dense,), range(self.counts[0]))
            [told] = yield from self._noted(_ask(dense))
            # Of what is no distance to the dense model the slopes there say too little; on top of a plan there is a
            # first order as well.
            if told.status == "failed" or (abs(told.loss) > OFFSET and self.space.base is None):
                return {}
            [told] = yield from self._noted(_ask(replace(dense, also=(SLOPES,))))
            found = {} if told.status == "failed" else prices(told.answer(SLOPES))
            return {index: found[index] for index in stored if index in found}
        if all(any(gene.treatments) for gene in self.space.genes):
            return {}
        if self.incumbents[0] is None:
            some = [on_budget(self.targets[0], self.rng) for _ in range(self.options.batch)]
            yield from self._race(0, self._keeping(self.targets[0], some))
        if (incumbent := self.incumbents[0]) is None:
            return {}
        [told] = yield from self._noted(_ask(Batch((incumbent,), range(self.counts[-1]), also=(SLOPES,))))
        found = {} if told.status == "failed" else prices(told.answer(SLOPES))
        # Prices around an answer are dearer than single changes of the dense model: all are the one or the other.
        wanted = [index for index in range(len(self.space.genes)) if index != self.space.everywhere]
        return found if all(index in found for index in wanted) else {}

    def _keeping(self, target: Space, genomes: Sequence[Genome]) -> tuple[Genome, ...]:
        """Those that keep a target's budgets, without room for a denser gene."""
        keeping = [tighten(genome, target, self.rng) for genome in genomes if target.feasible(genome)]
        return tuple(dict.fromkeys(keeping))

    # -- rounds ----------------------------------------------------------------------------------------------------

    def turn(self) -> Generator[Batch, list[Evaluation], None]:
        """Fits the model, then races one batch of candidates; on more text, or to the end, when it is quiet."""
        if self.options.modelling:
            incumbents = [genome for genome in self.incumbents if genome is not None]
            genomes, losses, sequences = self.known.rows(self.space.dense, incumbents)
            if genomes:
                self.model.fit(genomes, losses, sequences, told=len(self.known.losses))
            if self.options.limited:
                self._learn_limits()
        before = list(self.incumbents)
        chosen = self._candidates()
        promised = max((proposal.improvement for _, proposal in chosen), default=0.0)
        self.asked.update(proposal.genome for _, proposal in chosen)
        racing: dict[int, list[Proposal]] = {index: [] for index in sorted({target for target, _ in chosen})}
        for index, proposal in chosen:
            racing[index].append(proposal)
        expected = {index: self._expected(index) for index in racing}
        yield from side_by_side(
            [self._race(index, [proposal.genome for proposal in proposals]) for index, proposals in racing.items()]
        )
        for index, proposals in racing.items():
            self._compare(proposals, before[index], expected[index])
        moved = self.incumbents != before
        self.stale = 0 if moved else self.stale + 1
        self.quiet = 0 if moved or promised >= self.options.tolerance else self.quiet + 1
        # Each target has had its turn as often as that.
        rounds = max(1, math.ceil(len(self.targets) / AT_ONCE))
        if not chosen or self.stale >= STALE * rounds or self.quiet >= PATIENCE * rounds:
            yield from self._grow()

    def aim(self, targets: Sequence[Space]) -> None:
        """Goes on with other targets, from the best that is known for each."""
        self.targets = list(targets)
        self.incumbents = [next(iter(self._best(target)), None) for target in targets]
        self.quiet = self.stale = 0
        self.finished = all(incumbent is None for incumbent in self.incumbents)

    def _learn_limits(self) -> None:
        """Fits the model of how much of the way from dense to the budgets on scores a genome goes."""
        genomes, ways, sequences = self.known.limited(self.space.dense)
        if not genomes:
            return
        if self.limit is None:
            # What levels add to the loss, on the scale of the way.
            scale = float(np.median(np.log(np.maximum(ways, SHORT)) - self.model.features(matrix(genomes)).prior))
            self.limit = LossModel(self.space, [[value * math.exp(scale) for value in row] for row in self._added])
        self.limit.fit(genomes, ways, sequences, told=len(self.known.over))

    def _grow(self) -> Generator[Batch, list[Evaluation], None]:
        """The best of every target on twice the text; the end where there is no more."""
        self.quiet = self.stale = 0
        last = min(2 * self.counts[-1], self.pool.sequences)
        if not self.options.growing or last == self.counts[-1]:
            self.finished = True
            return
        self.counts = looks(self.counts[0], last) if self.options.racing else (last,)
        yield from self._score_dense()
        racing = [index for index, incumbent in enumerate(self.incumbents) if incumbent is not None]
        yield from side_by_side([self._settle(index, self._finalists(index)) for index in racing])

    def _settle(self, index: int, challengers: Sequence[Genome]) -> Generator[Batch, list[Evaluation], None]:
        """Races for a target, then goes downhill from whoever has won."""
        yield from self._race(index, challengers)
        yield from self._descend(index)

    def _descend(self, index: int) -> Generator[Batch, list[Evaluation], None]:
        """Goes downhill from a target's incumbent as long as that makes a better one."""
        while self.options.slopes and (incumbent := self.incumbents[index]) is not None:
            [told] = yield from self._noted(_ask(Batch((incumbent,), range(self.counts[-1]), also=(SLOPES,))))
            if told.status == "failed":
                self.incumbents[index] = None
                yield from self._race(index, self._finalists(index))
                continue
            slopes, known = told.answer(SLOPES), self._added if self.options.sweeping else ()
            if slopes.reason:
                self.options = replace(self.options, slopes=False)
                return
            yield from self._race(index, downhill(self.targets[index], slopes, known))
            if self.incumbents[index] == incumbent:
                return

    def _score_dense(self) -> Generator[Batch, list[Evaluation], None]:
        """The dense model on as much text as answers are compared on, where its loss is not nothing."""
        dense = self.space.dense
        if dense in self.known.losses and abs(np.mean(self.known.losses[dense])) > OFFSET:
            yield from self._noted(_ask(Batch((dense,), range(self.counts[-1]))))

    def _best(self, target: Space) -> list[Genome]:
        """Everything scored that keeps a target's budgets and has not failed, best first, on whatever text."""
        genomes, losses, _ = self.known.rows(self.space.dense)
        found = dict(zip(genomes, losses, strict=True))
        if self.space.dense in self.known.losses:
            found[self.space.dense] = 0.0
        best = sorted(found, key=lambda genome: (self.known.beyond(genome), found[genome]))
        return [genome for genome in best if genome not in self.known.failed and target.feasible(genome)]

    def _finalists(self, index: int) -> list[Genome]:
        return self._best(self.targets[index])[:FINALISTS]

    def _expected(self, index: int) -> float:
        """The logarithm of the loss that the model sees in a target's incumbent."""
        incumbent = self.incumbents[index]
        return math.inf if incumbent is None else float(self.model.mean(matrix([incumbent]))[0])

    def _candidates(self) -> list[tuple[int, Proposal]]:
        """The next batch: (target, proposal)."""
        wanted = self.options.batch
        mutated = max(1, round(self.options.mutated * wanted))
        correlation = self.ranking.correlation
        poor = correlation is not None and correlation < POOR
        if not self.options.modelling:
            mutated = wanted
        elif poor:
            mutated = max(mutated, math.ceil(2 * wanted / 3))
        ranked: list[tuple[int, Proposal]] = []
        # The model knows nothing of a target where everything has failed.
        known = [index for index, incumbent in enumerate(self.incumbents) if incumbent is not None]
        for index in self._in_turn(known) if mutated < wanted else ():
            ranked += [(index, one) for one in self._proposals(index, self.targets[index], wanted - mutated)]
        ranked.sort(key=lambda one: (-one[1].improvement, one[0]))
        chosen: dict[Genome, tuple[int, Proposal]] = {}
        for index, proposal in ranked:
            if len(chosen) < wanted - mutated:
                chosen.setdefault(proposal.genome, (index, proposal))
        # Where the model says nothing, or nothing to go by, there is always hope; `STALE` ends it.
        hope = math.inf if poor or mutated == wanted else 0.0
        for _ in range(TRIES * wanted):
            if len(chosen) >= wanted:
                break
            index = int(self.rng.integers(len(self.targets)))
            parent = self.incumbents[index]
            child = on_budget(self.targets[index], self.rng)
            if parent is not None:
                child = switch_costs(parent, self.targets[index], self.rng)
            if child not in chosen and child not in self.known.losses and child not in self.known.failed:
                chosen[child] = (index, Proposal(child, hope, float(self.model.mean(matrix([child]))[0])))
        return list(chosen.values())

    def _in_turn(self, targets: list[int]) -> list[int]:
        """Those whose turn it is: looking at many takes longer than scoring the few candidates that come of it."""
        count = min(AT_ONCE, len(targets))
        chosen = [targets[(self.turns + place) % len(targets)] for place in range(count)]
        self.turns += count
        return sorted(chosen)

    def _proposals(self, index: int, target: Space, count: int) -> list[Proposal]:
        incumbent = self.incumbents[index]
        assert incumbent is not None
        others = [genome for genome in self._best(target)[:4] if genome != incumbent]
        starts = [incumbent, *others[:3], on_budget(target, self.rng)]
        if (jump := linearised(target, self.model, incumbent)) is not None:
            starts.insert(1, tighten(jump, target, self.rng))
        finished = {genome for genome, row in self.known.losses.items() if len(row) >= self.counts[-1]}
        often = {genome for genome, times in self.asked.items() if times >= AGAIN}
        best = self._expected(index) if not self.known.beyond(incumbent) else math.inf
        seen = finished | often | self.known.failed | {incumbent}
        found = propose(target, self.model, starts, best, seen, self.rng, self.limit)
        return spread_out(found, self.model, best, count)

    def _race(self, index: int, challengers: Sequence[Genome]) -> Generator[Batch, list[Evaluation], None]:
        while entrants := [genome for genome in challengers if genome != self.incumbents[index]]:
            incumbent = self.incumbents[index]
            won = yield from self._noted(race(entrants, incumbent, self.counts, self.options.risk))
            self.incumbents[index] = won.genome if won is not None else None
            if won is not None:
                return
            # All have failed: the best of the others take their place.
            challengers = self._finalists(index)

    def _noted(self, steps: Generator[Batch, list[Evaluation], Result]) -> Generator[Batch, list[Evaluation], Result]:
        """Keeps what batches were told, and tells whoever watches how it stands."""
        return noted(
            steps,
            lambda batch, told: self.known.add(told),
            lambda batch: replace(batch, incumbent=self._answer(), correlation=self.ranking.correlation),
        )

    def _answer(self) -> Genome | None:
        """The best answer to the first target; where there is none yet, or it has just failed, the best one scored."""
        answer = self.incumbents[0]
        if answer is None or answer in self.known.failed:
            return next(iter(self._best(self.targets[0])), None)
        return answer

    def _compare(self, proposals: Sequence[Proposal], before: Genome | None, expected: float) -> None:
        """Notes how much worse than the incumbent of then the model took each candidate to be, and what came out."""
        if not self.options.modelling or before is None or before not in self.known.losses:
            return
        count, dense = self.counts[0], self.space.dense
        base = max(1e-9, self.known.excess(before, dense, count))
        for proposal in proposals:
            if proposal.genome in self.known.losses:
                outcome = self.known.excess(proposal.genome, dense, count) / base
                self.ranking.add(proposal.predicted - expected, outcome)


def _ask(batch: Batch) -> Generator[Batch, list[Evaluation], list[Evaluation]]:
    return (yield batch)

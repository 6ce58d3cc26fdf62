"""Budgets on scores, and the smallest plan that keeps one, against brute force: spaces of a trained small model.

A byte-level model of six blocks, trained for a minute, of which every attention and MLP may be dropped: 2,048 genomes,
each scored whole by KL on the text that it was trained on, and by that on Python source. Asked are the plan of least KL
at the first size at which its KL on source is not the least too, under a limit that it breaks, and the smallest plan
that keeps a KL. What strategies answer is held against the best of all. Seeds are of the strategies. Written to
benchmarks/results/limits.md.

    python -m benchmarks.limits
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch

from benchmarks.enumerated import LENGTH, Unkept
from benchmarks.setup import RESULTS, console, shown, table_of, trained_folder
from secateur.fitness.evaluator import SubnetEvaluator
from secateur.fitness.model.blocks import Blocks
from secateur.fitness.model.checkpoint import anatomy_of, load_model
from secateur.fitness.model.examined import model_digest
from secateur.fitness.scores.teacher import Teacher
from secateur.fitness.sources import documents
from secateur.fitness.subnets.subnet import Subnet
from secateur.fitness.text import Sequences
from secateur.operators.sampling import limited
from secateur.search.archive import Archive, Best, Goal
from secateur.search.encoding import Levels, Shares
from secateur.search.limited import Limited
from secateur.search.loop import Allowance, Spending, run
from secateur.search.memo import Memo
from secateur.search.model.options import Options
from secateur.search.model.smallest import surrogate_smallest
from secateur.search.steps import AskTell, Batch, Pool, Steps, noted
from secateur.search.strategies.evolution import evolution
from secateur.search.strategies.evopress import Schedule, evopress
from secateur.search.strategies.exhaustive import exhaustive
from secateur.search.strategies.genetic import genetic
from secateur.search.strategies.knapsack import knapsack_front
from secateur.search.strategies.random import random_search
from secateur.search.strategies.samplers import sampled
from secateur.search.strategies.surrogate import surrogate
from secateur.space.evaluation import Evaluation
from secateur.space.genome import Genome
from secateur.space.kinds.attention import ATTENTION
from secateur.space.kinds.mlp import MLP
from secateur.space.limits import parse_limits
from secateur.space.objective import Objective
from secateur.space.space import Space

BLOCKS, SEQUENCES = 6, 4
SEEDS = range(5)
EVALUATIONS = 600
SIZES = (0.7, 0.6, 0.5, 0.45, 0.4, 0.35, 0.3, 0.25)
FEWEST = 3
"""Plans that keep the limit, at least."""
GAP = "code:kl"
"""KL on Python source, as a score of one's own."""
POOL = Pool(SEQUENCES, LENGTH)
QUICK = Options(sequences=SEQUENCES, first=SEQUENCES, tolerance=0.0, growing=False)
COST = "block_parameters"


class Scored:
    """Every genome of a space with both its scores, on all sequences."""

    def __init__(self) -> None:
        model = load_model(str(trained_folder(BLOCKS)))
        shape = anatomy_of(model)
        layers = range(BLOCKS)
        genes = (*ATTENTION.made(shape, layers, True), *MLP.made(shape, layers, True))
        self.space = Space(shape, genes)
        blocks, genomes = Blocks(model, shape), list(dict.fromkeys(map(self.space.canonical, self.space.all())))
        console.print(f"scoring {len(genomes):,} genomes")

        def scored(source: str) -> dict[Genome, Evaluation]:
            text = "\n\n".join(documents(source)[100:120]).encode()[: SEQUENCES * LENGTH]
            ids = torch.tensor(list(text)).reshape(SEQUENCES, LENGTH) % 256
            teacher = Teacher(blocks, Sequences("bytes", ids, frozenset()), model_digest(model))
            evaluator = SubnetEvaluator(self.space, Subnet(blocks), teacher, ("kl",))
            return {one.genome: one for one in evaluator(genomes, range(SEQUENCES))}

        self.rows, others = scored("package:quac"), scored("package:python")
        for genome, one in self.rows.items():
            self.rows[genome] = replace(one, losses={**one.losses, GAP: others[genome].losses["kl"]}, score="kl")

    def value(self, genome: Genome, score: str) -> float:
        return sum(self.rows[genome].losses[score]) / SEQUENCES

    def of(self, space: Space) -> Callable[[Sequence[Genome], range], Iterator[Evaluation]]:
        """An evaluator for the space under a budget."""

        def evaluate(genomes: Sequence[Genome], sequences: range) -> Iterator[Evaluation]:
            for genome in genomes:
                row = self.rows[genome]
                losses = {name: values[sequences.start : sequences.stop] for name, values in row.losses.items()}
                status = "ok" if space.feasible(genome) else "infeasible"
                yield replace(row, sequences=sequences, losses=losses, status=status, score="kl")  # type: ignore[arg-type]

        return evaluate

    def answered(
        self, space: Space, steps: Steps, limit: dict[str, str | int | float], name: str
    ) -> tuple[Genome | None, int]:
        """What a search comes to that is judged by a budget on a score, and after how many evaluations."""
        spending = Spending(LENGTH)
        judged = Limited(Memo(space, self.of(space), Unkept()), space.dense, parse_limits(limit))
        part = steps if name == "exhaustive" else shortened(steps)
        return run(AskTell(part), judged, spending, Allowance()), spending.evaluations


def shortened(steps: Steps) -> Steps:
    """Ends after as many genomes as may be evaluated: whoever asks for what it knows already costs nothing else."""
    asked, told = 0, None
    while asked < EVALUATIONS:
        try:
            batch = steps.send(told) if told is not None else next(steps)
        except StopIteration as end:
            answer: Genome | None = end.value
            return answer
        asked += len(batch.genomes)
        told = yield batch
    return batch.incumbent


def plans(space: Space, seed: int) -> dict[str, Steps]:
    """Searches for one plan."""
    tokens = SEQUENCES * LENGTH
    schedule = Schedule(generations=40, offspring=16, survivors=(1,), tokens=(tokens,), first=8)
    levels, shares = Levels(space, ()), Shares(space, ())
    return {
        "exhaustive": exhaustive(space, POOL, SEQUENCES),
        "surrogate": surrogate(space, POOL, seed, [space], replace(QUICK, limited=True)),
        "evopress": evopress(space, POOL, seed, schedule, "costs", fresh=False),
        "ga": genetic("ga", space, SEQUENCES, seed, 16, levels),
        "de": genetic("de", space, SEQUENCES, seed, 16, shares),
        "tpe": sampled("tpe", space, Best(SEQUENCES), seed, 16, SEQUENCES, levels),
        "cma-es": sampled("cma-es", space, Best(SEQUENCES), seed, 16, SEQUENCES, shares),
        "random": random_search(space, POOL, seed, SEQUENCES),
    }


def smallest(space: Space, seed: int, archive: Archive) -> dict[str, Steps]:
    """Searches for the smallest plan that keeps a score."""
    goal = archive.goal
    return {
        "exhaustive": exhaustive(space, POOL, SEQUENCES),
        "surrogate": surrogate_smallest(space, goal, POOL, seed, QUICK),
        "sms-emoa": evolution("sms-emoa", space, goal, seed, 24, Levels(space, goal.costs)),
        "tpe": sampled("tpe", space, archive, seed, 16, SEQUENCES, Levels(space, goal.costs)),
        "knapsack": knapsack_front(space, goal, 32),
    }


def with_a_conflict(scored: Scored) -> tuple[float, tuple[Space, list[Genome], Genome]]:
    """The first size at which the best plan on the text is not the best on source code, with several better ones."""
    dense = getattr(scored.space.dense_costs, COST)
    for size in SIZES:
        space = limited(scored.space, COST, int(size * dense))
        feasible = [genome for genome in scored.rows if space.feasible(genome)]
        best = min(feasible, key=lambda genome: scored.value(genome, "kl"))
        if sum(scored.value(genome, GAP) < 0.999 * scored.value(best, GAP) for genome in feasible) >= FEWEST:
            return size, (space, feasible, best)
    raise SystemExit("both texts agree at all sizes")


def within(scored: Scored, first: tuple[Space, list[Genome], Genome]) -> Iterator[tuple[str, ...]]:
    """Rows for the best plan whose KL on source code stays under a limit."""
    space, feasible, best = first
    most = 0.999 * scored.value(best, GAP)
    kept = sorted((scored.value(genome, "kl"), genome) for genome in feasible if scored.value(genome, GAP) <= most)
    truth = [genome for _, genome in kept]
    console.print(f"{len(feasible):,} within the size, {len(kept):,} of them within the limit; the best is not")
    for name in plans(space, 0):
        places, counts = [], []
        for seed in SEEDS if name != "exhaustive" else (0,):
            found, spent = scored.answered(space, plans(space, seed)[name], {GAP: most}, name)
            places.append(truth.index(found) if found in truth else len(truth))
            counts.append(spent)
        reached = f"{places.count(0)} of {len(places)}"
        worst = f"{max(places) + 1} of {len(truth):,}" if max(places) < len(truth) else "none kept it"
        yield name, reached, worst, f"{sum(counts) // len(counts):,}"


def reverse(scored: Scored) -> Iterator[tuple[str, ...]]:
    """Rows for the smallest plan that keeps a KL."""
    space = scored.space
    sizes = {genome: int(getattr(space.costs(genome), COST)) for genome in scored.rows}
    dense = getattr(space.dense_costs, COST)
    most = 0.1 * scored.value(space.canonical(space.smallest), "kl")
    least = min(size for genome, size in sizes.items() if scored.value(genome, "kl") <= most)
    console.print(f"the smallest of KL <= {most:.3f} takes {least / dense:.4f} of the dense model")
    goal = Goal((Objective("kl"), Objective(COST)), SEQUENCES, smallest=True)
    for name in smallest(space, 0, Archive(goal)):
        shares, counts = [], []
        for seed in SEEDS if name not in ("exhaustive", "knapsack") else (0,):
            archive = Archive(goal)

            def searching(archive: Archive = archive, seed: int = seed, name: str = name) -> Steps:
                archive.add((yield Batch((space.dense,), range(SEQUENCES))), space.dense)
                steps = smallest(space, seed, archive)[name]
                yield from noted(steps, lambda batch, told: archive.add(told, space.dense))
                return archive.knee()

            _, spent = scored.answered(space, searching(), {"kl": most}, name)
            found = archive.knee()
            shares.append(sizes[found] / dense if found is not None else 1.0)
            counts.append(spent)
        reached = sum(share * dense == least for share in shares)
        yield name, f"{reached} of {len(shares)}", f"{max(shares):.4f}", f"{sum(counts) // len(counts):,}"


def main() -> None:
    scored = Scored()
    size, conflict = with_a_conflict(scored)
    first = ["strategy", "optimum reached", "worst place among those that keep it", "evaluations"]
    second = ["strategy", "smallest reached", "largest answer, of dense", "evaluations"]
    shown(
        RESULTS / "limits.md",
        table_of(
            f"Least KL at {size:.0%} of the block parameters within a KL on source code",
            first,
            within(scored, conflict),
        ),
        table_of("Fewest block parameters within a KL", second, reverse(scored)),
    )


if __name__ == "__main__":
    main()

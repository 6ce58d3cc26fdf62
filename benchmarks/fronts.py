"""How much of the true front each strategy finds: hypervolume ratio against evaluations, 10 seeds.

Two spaces are enumerated whole on a small trained model, so that the true front is known: 8,192 genomes of dropped
attention and MLP sublayers (KL and parameters), and 7,776 of heads and channels kept (KL, MACs and KV-cache bytes).
Every strategy starts from the dense model alone, but for those marked warm. "stock" is pymoo's NSGA-II with its own
integer operators (random sampling, simulated binary crossover and polynomial mutation, rounded). Gaussian processes are
tried with fewer seeds, since one proposal takes them longer than an evaluation of a real model.
"""

import sys
from collections.abc import Callable

import numpy as np
import torch
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.operators.repair.rounding import RoundingRepair
from pymoo.operators.sampling.rnd import IntegerRandomSampling

from benchmarks.enumerated import Lookup, Unkept
from benchmarks.setup import console, table_of, trained_folder
from secateur.fitness.evaluator import SubnetEvaluator
from secateur.fitness.model.blocks import Blocks
from secateur.fitness.model.checkpoint import anatomy_of, load_model
from secateur.fitness.model.examined import model_digest
from secateur.fitness.scores.teacher import Teacher
from secateur.fitness.sources import documents
from secateur.fitness.subnets.subnet import Subnet
from secateur.fitness.text import Sequences
from secateur.operators.sampling import uniform
from secateur.search.archive import Archive, Goal
from secateur.search.encoding import Levels, Shares
from secateur.search.loop import Allowance, Spending, Step, run
from secateur.search.memo import Memo
from secateur.search.steps import AskTell, Batch, Pool, Steps
from secateur.search.strategies.evolution import OFFSPRING, driven, evolution
from secateur.search.strategies.knapsack import knapsack_front
from secateur.search.strategies.random import random_search
from secateur.search.strategies.samplers import sampled
from secateur.search.warm import warm_front
from secateur.space.evaluation import Evaluation
from secateur.space.genome import Genome
from secateur.space.objective import parse_objectives
from secateur.space.space import Space
from tests.genes import structured_genes

SEQUENCES, LENGTH, SEEDS, FEW_SEEDS, POPULATION = 4, 64, 10, 3, 24
AT = (50, 100, 200, 300)


def stock(space: Space, goal: Goal, seed: int, offspring: int) -> Steps:
    """NSGA-II as pymoo offers it for integers, `offspring` children a turn; its default is a whole population."""
    algorithm = NSGA2(
        pop_size=POPULATION,
        n_offsprings=offspring,
        sampling=IntegerRandomSampling(),
        crossover=SBX(prob=0.9, eta=15, vtype=float, repair=RoundingRepair()),
        mutation=PM(eta=20, vtype=float, repair=RoundingRepair()),
    )
    return driven(algorithm, space, Archive(goal), seed, Levels(space, goal.costs))


def anywhere(space: Space, goal: Goal, seed: int) -> Steps:
    """Random search that draws every gene by itself."""
    rng = np.random.default_rng(seed)
    yield Batch((space.dense,), range(goal.sequences))
    while True:
        yield Batch(tuple(uniform(space, rng) for _ in range(8)), range(goal.sequences))


def strategies(space: Space, goal: Goal) -> dict[str, Callable[[int], Steps]]:
    levels, shares = Levels(space, goal.costs), Shares(space, goal.costs)
    pool = Pool(SEQUENCES, LENGTH)

    def warm(seed: int) -> Steps:
        return warm_front(
            space,
            goal,
            POPULATION,
            (),
            [lambda: knapsack_front(space, goal, 8)],
            lambda found: evolution("sms-emoa", space, goal, seed, POPULATION, levels, found),
        )

    return {
        "random, each gene by itself": lambda seed: anywhere(space, goal, seed),
        "random, every size": lambda seed: random_search(space, pool, seed, SEQUENCES, costs=goal.costs),
        "nsga2, stock": lambda seed: stock(space, goal, seed, POPULATION),
        "nsga2, stock, 4 children a turn": lambda seed: stock(space, goal, seed, OFFSPRING),
        "nsga2": lambda seed: evolution("nsga2", space, goal, seed, POPULATION, levels),
        "nsga3": lambda seed: evolution("nsga3", space, goal, seed, POPULATION, levels),
        "sms-emoa": lambda seed: evolution("sms-emoa", space, goal, seed, POPULATION, levels),
        "nsga2, shares": lambda seed: evolution("nsga2", space, goal, seed, POPULATION, shares),
        "tpe": lambda seed: sampled("tpe", space, Archive(goal), seed, 16, 4, levels, [space.dense]),
        "optuna-nsga2": lambda seed: sampled(
            "optuna-nsga2", space, Archive(goal), seed, POPULATION, 4, levels, [space.dense]
        ),
        "gp": lambda seed: sampled("gp", space, Archive(goal), seed, 16, 1, levels, [space.dense]),
        "knapsack": lambda _: knapsack_front(space, goal, 16),
        "sms-emoa, warm": warm,
    }


def curve(space: Space, goal: Goal, steps: Steps, lookup: Lookup, most: int) -> list[tuple[int, float]]:
    """(evaluations, hypervolume) after every batch; the reference is known without the dense model being tried."""
    archive, found = Archive(goal, lookup.table[space.dense]), list[tuple[int, float]]()

    def watch(step: Step) -> None:
        archive.add(step.evaluations, space.dense)
        found.append((step.spending.evaluations, archive.hypervolume()))

    run(AskTell(steps), Memo(space, lookup, Unkept()), Spending(LENGTH), Allowance(evaluations=most), watch)
    return found


def at(found: list[tuple[int, float]], evaluations: int) -> float:
    """Hypervolume after the last batch that did not exceed so many evaluations."""
    return max((volume for count, volume in found if count <= evaluations), default=0.0)


def enumerated(title: str, space: Space, goal: Goal, evaluator: SubnetEvaluator) -> None:
    table: dict[Genome, Evaluation] = {}
    for genome, one in ((one.genome, one) for one in evaluator(list(space.all()), range(SEQUENCES))):
        table[genome] = one
    truth = Archive(goal)
    truth.add(list(table.values()), space.dense)
    whole = truth.hypervolume()
    front = truth.front()
    console.print(
        f"{title}: {len(table):,} genomes, {len(front)} on the true front, hypervolume {whole:.4f}; "
        f"{evaluator.layer_passes // SEQUENCES:,} layer passes a sequence"
    )
    lookup = Lookup(evaluator, table)
    rows = table_of(
        "Share of the true hypervolume, median (and quartiles)",
        ("strategy", "seeds", *(f"{count} evaluations" for count in AT)),
    )
    for name, make in strategies(space, goal).items():
        seeds, most = (FEW_SEEDS, 100) if name == "gp" else (1 if name == "knapsack" else SEEDS, AT[-1])
        print(f"{title}: {name} …", file=sys.stderr, flush=True)
        curves = [curve(space, goal, make(seed), lookup, most) for seed in range(seeds)]
        cells = []
        for count in AT:
            shares = [at(one, count) / whole for one in curves]
            low, middle, high = np.percentile(shares, [25, 50, 75])
            cells.append(f"{middle:.3f} [{low:.3f}, {high:.3f}]" if count <= most else "")
        rows.add_row(name, str(seeds), *cells)
    console.print(rows)


def main() -> None:
    for title, blocks, heads, channels, names in (
        ("drops", 7, (), (), ("kl", "parameters")),
        ("widths", 5, (4, 2), (128, 64, 0), ("kl", "macs", "kv_bytes")),
    ):
        model = load_model(str(trained_folder(blocks)))
        shape = anatomy_of(model)
        text = "\n\n".join(documents("package:quac")[500:520]).encode()[: SEQUENCES * LENGTH]
        ids = torch.tensor(list(text)).reshape(SEQUENCES, LENGTH)
        teacher = Teacher(Blocks(model, shape), Sequences("bytes", ids, frozenset()), model_digest(model))
        attention = structured_genes(shape, "attention", range(blocks), levels=heads)
        space = Space(shape, attention + structured_genes(shape, "mlp", range(blocks), levels=channels))
        goal = Goal(parse_objectives(names), SEQUENCES)
        enumerated(title, space, goal, SubnetEvaluator(space, Subnet(teacher.blocks), teacher, ("kl",)))


if __name__ == "__main__":
    main()

"""What single changes of the dense model cost, by one pass backwards and by scoring each: SmolLM2, all kinds of genes.

Types of few bits (per sublayer), and drops, widths and zeros as the recipe of `benchmarks.mixed` has them. Both sides
are on the same two sequences of 128 tokens. The table is written to benchmarks/results/prices.md.

    python -m benchmarks.prices
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy

from benchmarks.setup import MODEL, RESULTS, shown, table_of
from secateur.fitness.scores.teacher import Teacher
from secateur.fitness.slopes import SubnetSlopes
from secateur.runs.asked.reading import make_recipe
from secateur.runs.problem import build_space
from secateur.runs.workplace import workplace_of
from secateur.space.slopes import PASSES

SEQUENCES, LENGTH = 2, 128
SPACES: dict[str, dict[str, Any]] = {
    "types": {
        "genes": [{"kind": "bits", "per": "sublayer", "levels": ["Q8_0", "Q5_0", "Q4_0", "Q3_K or other"]}],
        "budgets": {"weight_bytes": "<= 0.4x"},
    },
    "drops, widths, zeros": {
        "genes": [
            {"kind": "attention"},
            {"kind": "mlp", "levels": "step 384"},
            {"kind": "sparsity", "per": "sublayer", "levels": [0.3, 0.5, 0.6, "2:4"]},
        ],
        "widths": {"order": "output-error", "repair": "least-squares"},
        "budgets": {"linear_weights": "<= 0.5x"},
    },
}
OTHERS: dict[str, Any] = {
    "model": {"path": MODEL},
    "calibration": {"source": "package:quac", "sequences": SEQUENCES, "length": LENGTH},
    "held_out": [],
    "strategy": {"name": "random"},
    "effort": {"evaluations": 1},
    "baselines": [],
    "quantizer": "nearest",
}


def rows(title: str) -> Iterator[tuple[str, ...]]:
    """By kind and level: how many changes, their mean KL, rank correlation and ratio of both sides; last, all."""
    recipe = make_recipe(OTHERS | SPACES[title])
    space = build_space(recipe)
    bench = workplace_of(recipe, space).open(space)
    singles = [(index, level) for index, gene in enumerate(space.genes) for level in range(1, len(gene.levels))]
    genomes = [space.dense.with_level(*one) for one in singles]
    told = {one.genome: one.loss for one in bench.evaluator(space, "calibration", ("kl",))(genomes, range(SEQUENCES))}
    teacher = Teacher(bench.blocks, bench.calibration, bench.prepared_digest, keep_hidden=False)
    [slopes] = SubnetSlopes(space, bench.subnet, teacher, "kl")([space.dense], range(SEQUENCES))
    added = slopes.added()
    scored = np.array([told[genome] for genome in genomes])
    priced = np.array([added[index][level] for index, level in singles])
    names = np.array([f"{space.genes[index].kind.name} {space.genes[index].label(level)}" for index, level in singles])
    for name in [*dict.fromkeys(names.tolist()), ""]:
        own = names == name if name else np.ones(len(names), dtype=bool)
        if own.sum() < 3:
            continue
        correlation = scipy.stats.spearmanr(scored[own], priced[own]).statistic
        cells = f"{scored[own].mean():.5f}", f"{correlation:.2f}", f"{np.median(priced[own] / scored[own]):.2f}"
        yield title, name or "all", str(int(own.sum())), *cells
    yield title, "cost in evaluations", f"{len(singles)}", "", f"{PASSES}", ""


def main() -> None:
    table = table_of(
        f"One pass backwards around the dense model against scoring every change, {SEQUENCES} x {LENGTH} tokens",
        ["space", "level", "changes", "mean KL", "rank correlation", "median of price / KL"],
        (row for title in SPACES for row in rows(title)),
    )
    shown(RESULTS / "prices.md", table)


if __name__ == "__main__":
    main()

"""Speed and memory of evaluation on SmolLM2: shared prefixes, overhead per candidate, half precision, level store.

Times are taken interleaved in one process and quoted as ratios; layer passes and bytes are counted.
Written to benchmarks/results/evaluation.md.
"""

import numpy as np
import torch
from rich.table import Table
from scipy.stats import spearmanr

from benchmarks.enumerated import Unkept
from benchmarks.setup import RESULTS, interleaved, median, shown, smollm2, table_of
from secateur.fitness.evaluator import SubnetEvaluator, aligned
from secateur.fitness.memory import BATCH_TOKENS
from secateur.fitness.scores.teacher import Teacher
from secateur.fitness.slopes import SubnetSlopes
from secateur.fitness.text import thinned
from secateur.operators.mutation import switch_costs
from secateur.operators.sampling import on_budget
from secateur.search.loop import Spending, run
from secateur.search.memo import Memo
from secateur.search.steps import AskTell, Batch, Pool
from secateur.search.strategies.knapsack import knapsack
from secateur.space.budget import parse_budgets
from secateur.space.evaluation import Evaluation
from secateur.space.genome import Genome
from secateur.space.space import Space
from secateur.space.treatments import Sparsity
from tests.genes import sparsity_genes, structured_genes

LENGTH, RANKED = 256, 16
LEVELS = tuple(Sparsity.parse(level) for level in (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7))


def main() -> None:
    loaded = smollm2(4, LENGTH, "wanda")
    layers = range(len(loaded.anatomy.blocks))
    depth = Space(
        loaded.anatomy,
        structured_genes(loaded.anatomy, "attention", layers) + structured_genes(loaded.anatomy, "mlp", layers),
    )
    depth = depth.with_budgets(parse_budgets({"block_parameters": "0.75x"}, depth.dense_costs))
    sparse = Space(loaded.anatomy, sparsity_genes(loaded.anatomy, LEVELS, layers, "sublayer"))
    sparse = sparse.with_budgets(parse_budgets({"linear_weights": "0.5x"}, sparse.dense_costs))
    bench = loaded.prepared(sparse)
    parts = (populations(bench, depth, sparse), overhead(bench, depth, sparse), memory(bench), slopes(bench, sparse))
    shown(RESULTS / "evaluation.md", *parts, *precision())


def populations(bench: object, depth: Space, sparse: Space) -> Table:
    """A population as a trie against the same genomes one at a time."""
    table = table_of(
        "Shared prefixes: trie against one at a time (1 sequence)",
        ("population", "genomes", "layer passes", "one at a time", "passes ratio", "time ratio"),
    )
    rng = np.random.default_rng(0)
    parent, profile = on_budget(depth, rng), on_budget(sparse, rng)
    singles = [depth.dense.with_level(index, 1) for index in range(len(depth.genes))]
    cases: list[tuple[str, Space, list[Genome]]] = [
        ("sweep of every third single drop", depth, [depth.dense, *singles[::3]]),
        ("16 children of a depth plan", depth, [switch_costs(parent, depth, rng) for _ in range(16)]),
        ("16 random depth plans", depth, [on_budget(depth, rng) for _ in range(16)]),
        ("16 children of a sparsity profile", sparse, [switch_costs(profile, sparse, rng) for _ in range(16)]),
    ]
    for name, space, genomes in cases:
        evaluate: SubnetEvaluator = bench.evaluator(space, "calibration", ("kl",))  # type: ignore[attr-defined]
        evaluate.teacher.prepare(range(1))

        def together() -> None:
            list(evaluate(genomes, range(1)))  # noqa: B023

        def alone() -> None:
            for genome in genomes:  # noqa: B023
                list(evaluate([genome], range(1)))  # noqa: B023

        evaluate.layer_passes = 0
        together()
        shared = evaluate.layer_passes
        alone()
        single = evaluate.layer_passes - shared
        fast, slow = interleaved(together, alone, 1)
        table.add_row(
            name,
            str(len(genomes)),
            f"{shared:,}",
            f"{single:,}",
            f"{single / shared:.2f}",
            f"{median(slow) / median(fast):.2f}",
        )
    return table


def overhead(bench: object, depth: Space, sparse: Space) -> Table:
    """One candidate evaluated by itself against the model's own forward of the same tokens."""
    table = table_of(
        "A candidate by itself against the bare dense forward (4 sequences)",
        ("candidate", "seconds", "bare forward", "ratio", "of the bare layers"),
    )
    rng = np.random.default_rng(1)
    model, text = bench.model, bench.calibration  # type: ignore[attr-defined]

    @torch.inference_mode()
    def bare() -> None:
        for row in text.ids[:4]:
            model(row[None], use_cache=False)

    for name, space, genome in (
        ("dense", depth, depth.dense),
        ("25 % of depth dropped", depth, on_budget(depth, rng)),
        ("50 % sparse", sparse, on_budget(sparse, rng)),
    ):
        evaluate = bench.evaluator(space, "calibration", ("kl",))  # type: ignore[attr-defined]
        evaluate.teacher.prepare(range(4))
        times, base = interleaved(lambda: list(evaluate([genome], range(4))), bare, 3)  # noqa: B023
        costs = space.costs(genome)
        share = (costs.macs - space.anatomy.head_macs) / (space.dense_costs.macs - space.anatomy.head_macs)
        table.add_row(
            name, f"{median(times):.2f}", f"{median(base):.2f}", f"{median(times) / median(base):.2f}", f"{share:.2f}"
        )
    return table


def precision() -> tuple[Table, str]:
    """A candidate against its bare layers, by precision and scored positions; and what half precision does to ranks."""
    table = table_of(
        "A candidate against its bare layer passes (8 sequences)",
        ("precision", "positions", "evaluation / layers", "layers, tokens a second"),
    )
    losses: dict[str, dict[Genome, Evaluation]] = {}
    parent: Genome | None = None
    for dtype in ("float32", "bfloat16"):
        loaded = smollm2(RANKED, LENGTH, dtype=dtype)
        shape = loaded.anatomy
        layers = range(len(shape.blocks))
        space = Space(shape, structured_genes(shape, "attention", layers) + structured_genes(shape, "mlp", layers))
        space = space.with_budgets(parse_budgets({"sublayers": "0.85x"}, space.dense_costs))
        bench = loaded.prepared(space)
        whole = bench.calibration
        if parent is None:
            memo = Memo(space, bench.evaluator(space, "calibration", ("kl",)), Unkept())
            parent = run(AskTell(knapsack(space, Pool(RANKED, LENGTH), 1)), memo, Spending(LENGTH))
        assert parent is not None
        chosen = parent
        for positions in (LENGTH, LENGTH // 4, LENGTH // 8):
            text = whole if positions == LENGTH else thinned(whole, positions, 0)
            evaluate = SubnetEvaluator(space, bench.subnet, Teacher(bench.blocks, text, bench.digest), ("kl",))
            evaluate.teacher.prepare(range(8))
            states = space.states(chosen)

            @torch.inference_mode()
            def layers_only() -> None:
                with bench.subnet:  # noqa: B023
                    bench.subnet.apply(states)  # noqa: B023
                    for batch in aligned(range(8), BATCH_TOKENS // LENGTH):
                        hidden = bench.blocks.embed(whole.ids[batch.start : batch.stop])  # noqa: B023
                        for index in range(len(states)):  # noqa: B023
                            hidden = bench.subnet.run(index, hidden)  # noqa: B023

            times, base = interleaved(lambda: list(evaluate([chosen], range(8))), layers_only, 5)  # noqa: B023
            ratio, speed = median(times) / median(base), 8 * LENGTH / median(base)
            table.add_row(dtype, str(positions), f"{ratio:.2f}", f"{speed:,.0f}")
        rng = np.random.default_rng(0)
        children = [chosen, *(switch_costs(chosen, space, rng) for _ in range(24))]
        evaluate = bench.evaluator(space, "calibration", ("kl",))
        batch = Batch(tuple(dict.fromkeys(children)), range(RANKED))
        losses[dtype] = {one.genome: one for one in Memo(space, evaluate, Unkept())(batch)}
    genomes = list(losses["float32"])
    full, half = (np.array([losses[dtype][genome].primary for genome in genomes]) for dtype in ("float32", "bfloat16"))
    text_noise = (full[1:] - full[0]).std(1, ddof=1).mean()
    rounding = ((half[1:] - half[0]) - (full[1:] - full[0])).std(1, ddof=1).mean()
    return (
        table,
        f"Ranking of {len(genomes)} children by bfloat16 against float32 on {RANKED} sequences: Spearman "
        f"{spearmanr(full.mean(1), half.mean(1)).statistic:.4f}; a paired difference to the parent varies by "
        f"{text_noise:.4f} from sequence to sequence, rounding adds {rounding:.4f}",
    )


def slopes(bench: object, sparse: Space) -> str:
    """What one pass backwards says of changes by one and two levels at 50 % zeros, against scoring each."""
    half = sparse.genes[0].levels.index(Sparsity.parse(0.5))
    genome = Genome((half,) * len(sparse.genes))
    evaluate = bench.evaluator(sparse, "calibration", ("kl",))  # type: ignore[attr-defined]
    [told] = SubnetSlopes(sparse, bench.subnet, evaluate.teacher, "kl")([genome], range(4))  # type: ignore[attr-defined]
    added = told.added()
    moves = [
        (index, genome.levels[index] + step)
        for index in range(0, len(sparse.genes), 3)
        for step in (-2, -1, 1, 2)
        if 0 <= genome.levels[index] + step < len(sparse.genes[index].levels)
    ]
    genomes = (genome, *(genome.with_level(*move) for move in moves))
    base, *changed = (one.loss for one in Memo(sparse, evaluate, Unkept())(Batch(genomes, range(4))))
    scored = np.subtract(changed, base)
    correlation = float(np.corrcoef([added[index][level] for index, level in moves], scored)[0, 1])
    return (
        f"Slopes at 50 % zeros, {len(moves)} changes by one or two levels, 4 sequences: a correlation of "
        f"{correlation:.2f} with what scoring each of them adds"
    )


def memory(bench: object) -> Table:
    """Bytes on disk of the level store against dense copies of the blocks' linears at every level."""
    folder = bench.compressors["zeros"].folder  # type: ignore[attr-defined]
    stored = sum(path.stat().st_size for path in folder.iterdir())
    weights = sum(x.weights for block in bench.anatomy.blocks for x in block.linears)  # type: ignore[attr-defined]
    table = table_of("Level store (Wanda, 9 levels)", ("", "bytes", "of one dense copy"))
    table.add_row("level store, all levels of every budget", f"{stored:,}", f"{stored / weights / 4:.3f}")
    table.add_row("one dense float32 copy", f"{4 * weights:,}", "1.000")
    table.add_row("9 dense copies, one a level", f"{9 * 4 * weights:,}", "9.000")
    return table


if __name__ == "__main__":
    main()

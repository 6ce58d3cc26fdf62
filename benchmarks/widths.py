"""Widths on SmolLM2: a narrower candidate's MLP time, and what orders, repairs and rotations keep of the quality.

Held-out KL at uniform MLP width and at narrower residual streams, mean and standard error over sequences of State of
the Union addresses and XSum, which neither orders nor repairs have seen.
"""

import statistics
import sys
import time

import torch

from benchmarks.setup import console, smollm2, table_of
from secateur.fitness.evaluator import SubnetEvaluator
from secateur.fitness.scores.teacher import Teacher
from secateur.fitness.subnets.subnet import Subnet
from secateur.fitness.subnets.weights import Repairs, Weights
from secateur.fitness.widths.orders import ORDERS
from secateur.fitness.widths.preparation import WidthSettings, narrower_sublayers, prepare_repairs
from secateur.fitness.widths.repairs import REPAIRS
from secateur.fitness.workplace import Loaded
from secateur.space.costs import Additions
from secateur.space.gene import nearest_level
from secateur.space.genome import Genome
from secateur.space.space import Space
from tests.genes import hidden_gene, structured_genes

SHARES = (0.8, 0.6)
STREAMS = (544, 512, 448)
SEQUENCES, LENGTH, HELD_OUT = 48, 256, 6


def mlp_space(bench: Loaded, shares: tuple[float, ...]) -> Space:
    layers = range(len(bench.anatomy.blocks))
    return Space(bench.anatomy, structured_genes(bench.anatomy, "mlp", layers, levels=shares, multiple_of=32))


def at_width(space: Space, share: float) -> Genome:
    """Every MLP at the level nearest to `share`."""
    return Genome(tuple(nearest_level(gene, 1 - share) for gene in space.genes))


def speed() -> None:
    """The MLPs of a candidate at half width against those of the dense model, same hidden states, in turns."""
    table = table_of(
        "MLP time of a candidate at 50 % width",
        ("tokens", "dense ms", "50 % ms", "ratio"),
    )
    loaded = smollm2(1, LENGTH, widths=WidthSettings("magnitude"))
    space = mlp_space(loaded, (0.5,))
    bench = loaded.prepared(space)
    states = space.states(at_width(space, 0.5))
    for length in (64, 256, 1024):
        hidden = torch.randn(1, length, bench.anatomy.hidden_size, generator=torch.Generator().manual_seed(0))

        @torch.inference_mode()
        def mlps() -> None:
            for module in bench.blocks.modules:
                module.mlp(hidden)  # type: ignore[operator]  # noqa: B023

        def once() -> float:
            started = time.perf_counter()
            mlps()
            return time.perf_counter() - started

        def narrow() -> float:
            with bench.subnet as subnet:
                subnet.apply(states)
                return once()

        once()
        pairs = [(once(), narrow()) for _ in range(7)]
        dense, half = (statistics.median(values) for values in zip(*pairs, strict=True))
        ratio = statistics.median(b / a for a, b in pairs)
        table.add_row(str(length), f"{1000 * dense:.1f}", f"{1000 * half:.1f}", f"{ratio:.2f}")
    console.print(table)


def repairs() -> None:
    """Held-out KL of every order with every repair."""
    table = table_of(
        "Held-out KL at uniform MLP width, mean (standard error)",
        ("order", "width", "no repair", *REPAIRS),
    )
    for order in ORDERS:
        loaded = smollm2(SEQUENCES, LENGTH, widths=WidthSettings(order), held_out=HELD_OUT)
        space = mlp_space(loaded, SHARES)
        bench = loaded.prepared(space)
        rows = {share: [f"{order}", f"{share:.0%}"] for share in SHARES}
        wanted, folder = narrower_sublayers(space), bench.width_folder
        prepare_repairs(bench.blocks, tuple(REPAIRS), wanted, bench.calibration, folder, lambda done, total: None)
        for repair in (None, *REPAIRS):
            made = Repairs(folder, repair) if repair else None
            subnet = Subnet(bench.blocks, Weights(bench.blocks, None, made))
            for share in SHARES:
                losses: list[float] = []
                for title in ("sotu", "xsum"):
                    teacher = Teacher(bench.blocks, bench.texts[title], bench.prepared_digest)
                    evaluate = SubnetEvaluator(space, subnet, teacher, ("kl",))
                    losses += next(iter(evaluate([at_width(space, share)], range(HELD_OUT)))).losses["kl"]
                error = statistics.stdev(losses) / len(losses) ** 0.5
                rows[share].append(f"{statistics.mean(losses):.4f} ({error:.4f})")
            print(order, repair, [rows[share][-1] for share in SHARES], file=sys.stderr, flush=True)
        for row in rows.values():
            table.add_row(*row)
    console.print(table)


def streams() -> None:
    """Held-out KL of narrower residual streams, nothing else narrowed."""
    table = table_of(
        "Held-out KL by residual width, mean (standard error)",
        ("order", *(f"{width} of 576" for width in STREAMS)),
    )
    for order in ("pca", "magnitude"):
        loaded = smollm2(SEQUENCES, LENGTH, widths=WidthSettings("magnitude", None, order), held_out=HELD_OUT)
        gene = hidden_gene(loaded.anatomy, (576, *STREAMS), 1, order)
        space = Space(loaded.anatomy, (gene,), additions=Additions(projection=order == "pca"))
        bench = loaded.prepared(space)
        row = [order]
        for level in range(1, len(gene.levels)):
            losses: list[float] = []
            for title in ("sotu", "xsum"):
                evaluate = bench.evaluator(space, title, ("kl",))
                losses += next(iter(evaluate([Genome((level,))], range(HELD_OUT)))).losses["kl"]
            error = statistics.stdev(losses) / len(losses) ** 0.5
            row.append(f"{statistics.mean(losses):.4f} ({error:.4f})")
        table.add_row(*row)
    console.print(table)


def main() -> None:
    speed()
    streams()
    repairs()


if __name__ == "__main__":
    main()

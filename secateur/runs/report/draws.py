"""How much a search's answer varies with the draw of its text, beside how much methods differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ...space.genome import Genome
from ...space.space import Space
from ..record.folder import RunFolder
from ..record.journal import FOUND
from .fitting import Column
from .page import Card, Grid, Page
from .plan_page import model_name
from .rows import JUDGED, mean_held_out
from .summary import Summary, summarise
from .verdict import comparable


@dataclass(frozen=True, slots=True)
class Over:
    """A method over all draws.

    Attributes:
        losses: of its plan on held-out text, one a draw.
        better: draws in which the found plan is better, outside the interval of the paired difference.
        difference: mean over draws of found minus this; None for what was found.
    """

    name: str
    losses: tuple[float, ...]
    better: int = 0
    difference: float | None = None

    @property
    def mean(self) -> float:
        return float(np.mean(self.losses))

    @property
    def spread(self) -> float:
        """Standard deviation over draws."""
        return float(np.std(self.losses, ddof=1)) if len(self.losses) > 1 else 0.0


@dataclass(frozen=True, slots=True)
class Drawn:
    """What several draws come to together.

    Attributes:
        seeds: of the draws that are finished.
        wanted: how many were asked for.
        judged: the score that plans are compared by.
        overlap: mean agreement of two draws' plans, in [0, 1], by layer: 1 where all levels are the same, 0 where they
            are as far apart as they can be.
        agreement: the same over all genes.
    """

    seeds: tuple[int, ...]
    wanted: int
    judged: str
    methods: tuple[Over, ...]
    overlap: tuple[float, ...]
    agreement: float

    @property
    def verdict(self) -> str:
        """In words."""
        if len(self.seeds) < 2:
            return (
                f"{len(self.seeds)} of {self.wanted} draws are finished; how much they differ is said of two or more."
            )
        found, *others = self.methods
        called = JUDGED.get(self.judged, self.judged)
        told = (
            f"Over {len(self.seeds)} draws of the text the found plan's held-out {called} is {found.mean:.4f} with a "
            f"standard deviation of {found.spread:.4f}"
        )
        if others:
            best = min(others, key=lambda one: one.mean)
            told += (
                f"; to the best baseline ({best.name}) it differs by {best.difference:+.4f}, and is better outside the "
                f"interval in {best.better} of {len(self.seeds)}"
            )
        least = int(np.argmin(self.overlap))
        told += f". Its plans agree to {100 * self.agreement:.0f} %"
        return f"{told}, least in layer {least} ({100 * self.overlap[least]:.0f} %)."


def summarise_draws(draws: Sequence[tuple[int, RunFolder, Space]], wanted: int) -> Drawn:
    """Compares what was found in each draw, and the methods that all of them have."""
    every = [(one, summarise(folder, space)) for one in draws for _, folder, space in [one]]
    draws, summaries = [one for one, told in every if told.finished], [told for _, told in every if told.finished]
    if not summaries:
        return Drawn((), wanted, "kl", (), (), 0.0)
    judged, held = summaries[0].judged, summaries[0].held_out
    counted = [{FOUND, *(row.name for row in comparable(one.rows))} for one in summaries]
    common = [row.name for row in summaries[0].rows if all(row.name in names for names in counted)]
    methods = [_over(name, summaries, held, judged) for name in sorted(common, key=lambda name: name != FOUND)]
    genomes = [next(row.genome for row in one.rows if row.name == FOUND) for one in summaries]
    layers, together = overlap(draws[0][2], genomes)
    return Drawn(tuple(seed for seed, _, _ in draws), wanted, judged, tuple(methods), layers, together)


def _over(name: str, summaries: Sequence[Summary], held: tuple[str, ...], judged: str) -> Over:
    rows = [next(row for row in one.rows if row.name == name) for one in summaries]
    losses = tuple(mean_held_out(row, held, judged) for row in rows)
    differences = [row.against for row in rows if row.against is not None]
    mean = float(np.mean([one.mean for one in differences])) if len(differences) == len(rows) else None
    return Over(name, losses, sum(one.better for one in differences), mean)


def overlap(space: Space, genomes: Sequence[Genome]) -> tuple[tuple[float, ...], float]:
    """Mean agreement of two of some genomes, by layer and over all genes; see `Drawn`. 1 where there is one genome."""
    tops = np.array([len(gene.levels) - 1 for gene in space.genes], dtype=float)
    levels = np.array([genome.levels for genome in genomes], dtype=float)
    pairs = [1 - np.abs(levels[a] - levels[b]) / tops for a, b in combinations(range(len(genomes)), 2)]
    agreed = np.mean(pairs, axis=0) if pairs else np.ones(len(tops))
    layers = []
    for block in range(len(space.anatomy.blocks)):
        own = [agreed[place] for place, gene in enumerate(space.genes) if block in gene.blocks]
        layers.append(float(np.mean(own)) if own else 1.0)
    return tuple(layers), float(np.mean(agreed))


def columns_and_rows(drawn: Drawn) -> tuple[list[Column], list[list[str]]]:
    """The table of methods."""
    called = JUDGED.get(drawn.judged, drawn.judged)
    columns = [Column("plan", text=True), Column(f"held-out\n{called}"), Column("standard deviation\nover draws")]
    columns += [Column("least\nto most", 2), Column("found minus this\nmean", 1), Column("found better\nin draws", 1)]
    rows = []
    for one in drawn.methods:
        cells = [one.name, f"{one.mean:.4f}", f"{one.spread:.4f}", f"{min(one.losses):.4f} to {max(one.losses):.4f}"]
        against = one.difference is not None and one.name != FOUND
        cells += [f"{one.difference:+.4f}", f"{one.better} of {len(drawn.seeds)}"] if against else ["", ""]
        rows.append(cells)
    return columns, rows


def draws_page(folder: RunFolder, drawn: Drawn) -> Page:
    """The page of several draws; `folder`: the first of them."""
    columns, rows = columns_and_rows(drawn)
    layers = [[str(layer), f"{100 * value:.0f} %"] for layer, value in enumerate(drawn.overlap)]
    return Page(
        title=f"{model_name(folder)}: {len(drawn.seeds)} draws of the text",
        under=f"Seeds {', '.join(map(str, drawn.seeds))}; each has a folder of its own here, with its report.",
        verdict=drawn.verdict,
        cards=[Card("agreement", f"{100 * drawn.agreement:.0f} %", "of levels, between two draws' plans")],
        parts=[
            Grid("Methods over all draws", [column.heading for column in columns], rows, [0]),
            Grid("Agreement of the found plans, by layer", ["layer", "agreement"], layers),
        ],
        recipe=folder.recipe.to_yaml(),
    )

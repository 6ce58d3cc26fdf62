"""What each plan keeps of every sublayer of every layer, to be looked at: shares, and what stands behind each."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from ...plans.layers import unit
from ...space.evaluation import Evaluation
from ...space.genome import Genome
from ...space.space import Space
from ...space.state import outside_of
from ...space.treatments import Sparsity, Treatment, words
from ..record.folder import RunFolder
from ..record.journal import CALIBRATION
from .charts import styled
from .difference import joined
from .page import Chart
from .units import human

Added = Mapping[tuple[int, int], float]
"""Loss that a level of a gene adds alone."""


def profile_chart(space: Space, plans: Sequence[tuple[str, str, Genome]], added: Added, score: str) -> Chart:
    """The profile of one of the plans, (name, how it is called, genome), of which another can be chosen."""
    shown = {name: _shown(space, genome, added, title, score) for name, title, genome in plans}
    first = shown[plans[0][0]]
    names = [sublayer.name for sublayer in max(space.anatomy.blocks, key=lambda block: len(block.sublayers)).sublayers]
    figure = go.Figure()
    figure.add_heatmap(
        z=first["z"],
        text=first["text"],
        x=list(range(len(space.anatomy.blocks))),
        y=names,
        hoverinfo="text",
        zmin=0,
        zmax=100,
        colorscale="Cividis",
        xgap=1,
        ygap=2,
        colorbar={"title": {"text": "% kept", "side": "right"}, "thickness": 12},
    )
    styled(figure, height=150 + 52 * len(names))
    figure.update_xaxes(title_text="layer", showgrid=False, dtick=max(1, len(space.anatomy.blocks) // 10))
    figure.update_yaxes(autorange="reversed", showgrid=False)
    note = "Each cell: the share of the sublayer's weights that is kept and not zero; what is dropped is darkest."
    notes = [note + " Fewer bits count as a share of half precision." * ("bits" in space.features)]
    for _, title, genome in plans:
        treated = outside_of(space.anatomy.blocks, space.states(genome)).treated
        if treated:
            notes.append(f"{title}: " + ", ".join(f"{name} {_done(level)}" for name, level in treated) + ".")
    return Chart("Profile per layer", "profile", figure, notes, choices=shown)


def _done(level: Treatment) -> str:
    """What is done at a level, in words."""
    return f"{level} zeros" if isinstance(level, Sparsity) else words(level)


def alone(folder: RunFolder, space: Space) -> dict[tuple[int, int], float]:
    """What single changes of the dense model add to the mean loss on calibration text, where they were scored."""
    parts: dict[Genome, list[Evaluation]] = {}
    for _, evaluation in folder.journal.evaluations(CALIBRATION):
        if len(space.dense.changed(evaluation.genome)) <= 1:
            parts.setdefault(evaluation.genome, []).append(evaluation)
    whole = {genome: one for genome, some in parts.items() if (one := joined(some)) is not None}
    dense = whole.get(space.dense)
    found = {}
    for genome, one in whole.items():
        changed = space.dense.changed(genome)
        if changed and dense is not None:
            count = min(len(one.primary), len(dense.primary))
            found[changed[0], genome.levels[changed[0]]] = float(
                np.mean(one.primary[:count]) - np.mean(dense.primary[:count])
            )
    return found


def kept_shares(space: Space, genome: Genome) -> NDArray[np.float64]:
    """(sublayers, layers), the share of a sublayer's weights that is kept and not zero, less what fewer bits take off
    half precision; NaN where there is none."""
    rows = max(len(block.sublayers) for block in space.anatomy.blocks)
    shares = np.full((rows, len(space.anatomy.blocks)), np.nan)
    for column, (block, state) in enumerate(zip(space.anatomy.blocks, space.states(genome), strict=True)):
        sizes = state.sizes(block)
        for row, sublayer in enumerate(block.sublayers):
            left = 0.0
            for linear in sublayer.linears if state.has(sublayer) else ():
                shape, level = linear.shape(sizes), state.level(linear.name)
                kept = level.parameters(*shape) - level.zeros(*shape)
                left += kept if isinstance(level, Sparsity) else kept * (1 - level.share)
            shares[row, column] = left / sublayer.weights
    return shares


def _shown(space: Space, genome: Genome, added: Added, title: str, score: str) -> dict[str, Any]:
    shares = kept_shares(space, genome)
    texts = [["" for _ in space.anatomy.blocks] for _ in range(len(shares))]
    genes: dict[tuple[int, int], list[int]] = {}
    for index, gene in enumerate(space.genes):
        for member in gene.members:
            genes.setdefault(member, []).append(index)
    for column, (block, state) in enumerate(zip(space.anatomy.blocks, space.states(genome), strict=True)):
        for row, sublayer in enumerate(block.sublayers):
            lines = [f"<b>layer {column}, {sublayer.name}</b>"]
            if not state.has(sublayer):
                lines.append("dropped")
            else:
                dimensions = [name for name in sublayer.dimensions if name in block.dimensions]
                lines += [f"{state.kept[name]:,} of {block.dimensions[name]:,} {unit(name)}" for name in dimensions]
                levels = {
                    linear.name: state.treated[linear.name]
                    for linear in sublayer.linears
                    if linear.name in state.treated
                }
                if len(set(levels.values())) == 1 and len(levels) == len(sublayer.linears):
                    lines.append(_done(next(iter(levels.values()))))
                else:
                    lines += [f"{name.rpartition('.')[2]} {_done(level)}" for name, level in levels.items()]
            left = shares[row, column]
            stored = any(not isinstance(level, Sparsity) for level in state.treated.values())
            what = "bits of half precision" if stored else "weights"
            size = left * sublayer.weights * (16 if stored else 1)
            lines.append(f"{human('weights', size)} {what}, {100 * left:.1f} % of dense")
            told = [
                added.get((index, genome.levels[index]))
                for place in (row, -1)
                for index in genes.get((column, place), ())
            ]
            known = [loss for loss in told if loss is not None]
            if known:
                lines.append(f"alone it adds {sum(known):+.4f} to {score}")
            texts[row][column] = "<br>".join(lines)
    z = [[None if math.isnan(value) else round(100 * value, 2) for value in row] for row in shares.tolist()]
    return {"z": z, "text": texts, "kept": title}

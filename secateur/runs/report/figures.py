"""The pictures of a report, as PNG bytes."""

import io
import warnings
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ...space.evaluation import Evaluation
from ...space.genome import Genome
from ...space.space import Space
from ..record.folder import RunFolder
from ..record.journal import CALIBRATION, FOUND
from .charts import DECADES
from .difference import joined
from .profiles import kept_shares
from .rows import JUDGED, ORIGINS
from .summary import Summary

PLAIN = {"text.parse_math": False}
"""How matplotlib is set while pictures are made, and not for whoever uses it besides: names are no formulas."""


@matplotlib.rc_context(PLAIN)
def figures(folder: RunFolder, space: Space, summary: Summary) -> dict[str, bytes]:
    """Pictures by name: the profile per layer, loss over the search, the comparison on held-out text, costs."""
    pictures = {}
    if summary.rows and summary.rows[0].name == FOUND:
        pictures["profile"] = profile(
            space, [(row.name, row.genome) for row in summary.rows if row.name not in ORIGINS]
        )
        pictures["costs"] = costs(summary)
        search = progress(folder, space)
        if search is not None:
            pictures["search"] = search
        if summary.held_out and all(
            summary.judged in row.scores.get(text, ()) for row in summary.rows for text in summary.held_out
        ):
            pictures["comparison"] = comparison(summary)
    return pictures


def png(figure: Figure) -> bytes:
    """A figure as PNG bytes."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # names in any script
        figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def profile(space: Space, plans: Sequence[tuple[str, Genome]]) -> bytes:
    """A heat strip per plan: the share of each sublayer's weights that is kept and non-zero, layer by layer."""
    figure = Figure(figsize=(10, 0.6 + 0.62 * len(plans)), layout="constrained")
    axes = np.atleast_1d(figure.subplots(len(plans), 1, sharex=True))
    image = None
    for axis, (name, genome) in zip(axes, plans, strict=True):
        image = axis.imshow(kept_shares(space, genome), vmin=0, vmax=1, cmap="cividis", aspect="auto")
        names = [sublayer.name for sublayer in space.anatomy.blocks[0].sublayers]
        axis.set_yticks(range(len(names)), names, fontsize=7)
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    axes[-1].set_xlabel("layer")
    axes[-1].set_xticks(range(0, len(space.anatomy.blocks), max(1, len(space.anatomy.blocks) // 15)))
    assert image is not None
    figure.colorbar(image, ax=axes.tolist(), label="kept and non-zero", shrink=0.9)
    return png(figure)


def incumbents(folder: RunFolder, space: Space) -> dict[str, list[tuple[int, int, float]]]:
    """(tokens, genomes evaluated, calibration loss of the incumbent) over every search of a run, by its name."""
    parts: dict[str, list[Evaluation]] = {}
    losses = {}
    for _, evaluation in folder.journal.evaluations(CALIBRATION):
        parts.setdefault(evaluation.key, []).append(evaluation)
    for key, found in parts.items():
        whole = joined(found)
        if whole is not None:
            losses[key] = whole.loss
    curves = {}
    for choice in folder.journal.choices().values():
        points = [
            (turn.tokens, turn.evaluations, losses[space.key(turn.incumbent)])
            for turn in folder.journal.turns(choice.name)
            if turn.incumbent is not None and space.key(turn.incumbent) in losses
        ]
        if space.key(choice.genome) in losses and choice.tokens:
            points.append((choice.tokens, choice.evaluations, losses[space.key(choice.genome)]))
        if points:
            curves[choice.name] = points
    return curves


def progress(folder: RunFolder, space: Space) -> bytes | None:
    """Calibration loss of the incumbent against tokens and evaluations, for every search of the run."""
    curves = incumbents(folder, space)
    if not curves:
        return None
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    by_tokens, by_evaluations = figure.subplots(1, 2, sharey=True)
    for name, points in curves.items():
        tokens, evaluations, values = zip(*points, strict=True)
        by_tokens.step(tokens, values, where="post", marker=".", label=name)
        by_evaluations.step(evaluations, values, where="post", marker=".", label=name)
    by_tokens.set_xlabel("tokens, one candidate at a time")
    by_evaluations.set_xlabel("distinct genomes evaluated")
    by_tokens.set_ylabel(f"calibration {folder.recipe.scores[0]} of the incumbent\n(all sequences it was scored on)")
    by_evaluations.legend(fontsize=8)
    return png(figure)


def comparison(summary: Summary) -> bytes:
    """The score that decides on each held-out text with 95 % intervals, found plan against baselines."""
    rows = [row for row in summary.rows if row.name not in ORIGINS]
    figure = Figure(figsize=(10, 1.0 + 0.36 * len(rows)), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(summary.held_out) + 1, sharey=True))
    places = range(len(rows))
    for axis, text in zip(axes, summary.held_out, strict=False):
        for place, row in zip(places, rows, strict=True):
            score = row.scores[text][summary.judged]
            colour = "tab:red" if row.name == FOUND else "tab:gray"
            axis.errorbar(score.mean, place, xerr=1.96 * score.standard_error, fmt="o", color=colour, capsize=3)
        axis.set_xlabel(f"{JUDGED.get(summary.judged, summary.judged)} on {text}")
        means = [row.scores[text][summary.judged].mean for row in rows]
        if min(means) > 0 and max(means) / min(means) >= DECADES:
            axis.set_xscale("log")
        else:
            axis.locator_params(axis="x", nbins=4)
    for place, row in zip(places, rows, strict=True):
        d = row.against
        if d is not None:
            axes[-1].errorbar(d.mean, place, xerr=[[d.mean - d.low], [d.high - d.mean]], fmt="s", color="k", capsize=3)
    axes[-1].axvline(0, color="k", linewidth=0.6)
    axes[-1].set_xscale("symlog", linthresh=0.1)
    axes[-1].set_xlabel("found minus this, paired 95 %")
    axes[0].set_yticks(list(places), [row.name for row in rows])
    axes[0].invert_yaxis()
    return png(figure)


def costs(summary: Summary) -> bytes:
    """Every cost of the found plan relative to the dense model."""
    found = summary.rows[0]
    names = list(found.costs)
    values = [found.costs[name] / max(1, summary.dense_costs[name]) for name in names]
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    axis = figure.subplots()
    axis.barh(names, values, color="tab:green")
    axis.axvline(1.0, color="k", linewidth=0.6)
    for place, value in enumerate(values):
        axis.text(value, place, f" {value:.3f}", va="center", fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(0, 1.15)
    axis.set_xlabel("of dense")
    return png(figure)

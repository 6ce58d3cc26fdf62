"""The figures of a search for one plan: its loss over tokens, and what was found beside the baselines."""

import plotly.graph_objects as go

from ...space.space import Space
from ..record.folder import RunFolder
from ..record.journal import FOUND
from .charts import COLOURS, GREY, SYMBOLS, axis_of, beyond, clipped, styled
from .figures import incumbents
from .page import Chart
from .rows import JUDGED, ORIGINS
from .summary import Summary


def search_chart(folder: RunFolder, space: Space) -> Chart | None:
    """Calibration loss of the best so far against tokens, for every search of the run; None where there is none."""
    curves = incumbents(folder, space)
    if not curves:
        return None
    figure = go.Figure()
    everything = [loss for points in curves.values() for *_, loss in points]
    axis = axis_of(beyond(everything, [loss for *_, loss in curves.get(FOUND, next(iter(curves.values())))]))
    for number, (name, points) in enumerate(sorted(curves.items(), key=lambda item: item[0] != FOUND)):
        losses, _ = clipped([loss for *_, loss in points], axis)
        figure.add_scatter(
            x=[tokens for tokens, *_ in points],
            y=losses,
            text=[f"{name}: {loss:.4f} after {tokens:,} tokens, {n:,} genomes" for tokens, n, loss in points],
            hoverinfo="text",
            mode="lines+markers",
            name=name,
            line={"shape": "hv", "width": 3 if name == FOUND else 1.6, "color": COLOURS[number % len(COLOURS)]},
            marker={"size": 5, "symbol": SYMBOLS[number % len(SYMBOLS)]},
        )
    styled(figure)
    figure.update_xaxes(title_text="tokens forwarded, one candidate at a time", rangemode="tozero")
    figure.update_yaxes(title_text=f"{folder.recipe.scores[0]} of the best so far, calibration text", **axis)
    note = (
        "At equal tokens, searches are directly comparable. Every point is the loss on all the text it was scored on. "
        "What is far above the best search stands at the border."
    )
    return Chart("Search", "search", figure, [note])


def comparison_chart(summary: Summary) -> Chart | None:
    """The score that decides on held-out texts with 95 % intervals, what was found and every baseline.

    None where something is missing.
    """
    rows = [row for row in summary.rows if row.name not in ORIGINS]
    if not summary.held_out or not all(
        summary.judged in row.scores.get(text, ()) for row in rows for text in summary.held_out
    ):
        return None
    figure = go.Figure()
    judged, label = summary.judged, JUDGED.get(summary.judged, summary.judged)
    every = [row.scores[text][judged] for row in rows for text in summary.held_out]
    ends = [score.mean + sign * 1.96 * score.standard_error for score in every for sign in (-1, 0, 1)]
    axis = axis_of([end for end in ends if end > 0] or ends)
    for number, text in enumerate(summary.held_out):
        scores = [row.scores[text][judged] for row in rows]
        figure.add_scatter(
            x=[score.mean for score in scores],
            y=[row.name for row in rows],
            error_x={"type": "data", "array": [1.96 * one.standard_error for one in scores], "color": GREY},
            text=[
                f"{row.name}, {text}: {label} {score.mean:.4f} ± {score.standard_error:.4f}"
                for row, score in zip(rows, scores, strict=True)
            ],
            hoverinfo="text",
            mode="markers",
            name=text,
            marker={
                "size": [12 if row.name == FOUND else 9 for row in rows],
                "symbol": SYMBOLS[number % len(SYMBOLS)],
                "color": [COLOURS[0] if row.name == FOUND else GREY for row in rows],
            },
        )
    styled(figure, height=140 + 30 * len(rows))
    figure.update_xaxes(title_text=f"{label}{' to the dense model' if judged == 'kl' else ''} (95 % interval)", **axis)
    figure.update_yaxes(autorange="reversed")
    return Chart("On held-out text", "comparison", figure)

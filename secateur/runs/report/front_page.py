"""The page of a front: self-contained, with plotly's script inside."""

import base64
import math
from collections.abc import Sequence

from jinja2 import Environment
from markupsafe import Markup

from ...space.budget import shown
from .front import FrontSummary, Point
from .page import STYLE

_TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title><style>{{ style }}</style></head><body>
<p class="verdict">{{ front.verdict }}</p>
<h1>{{ title }}</h1>
<p>Objectives: {{ names | join(", ") }}. Budget: {{ budgets | join(", ") or "none" }}. Model {{ model }}.
{% if workload %}Latency of one request, {{ workload }}.{% endif %}</p>
{% for heading, figure in figures %}<h2>{{ heading }}</h2>{{ figure }}{% endfor %}
<h2>Members</h2>
<table><tr>{% for heading in headings %}<th>{{ heading }}</th>{% endfor %}</tr>
{% for row in rows %}<tr class="{{ 'found' if row[1] == front.knee }}">
{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table>
<p>± is one standard error. The knee is in bold: it gives up least of everything after scaling each objective to the
front's range.
Hypervolume {{ "%.4f" | format(front.hypervolume) }}: the share that the members dominate of the box between
{{ corners[0] | join(", ") }} and {{ corners[1] | join(", ") }} (reference).</p>
{% for line in errors %}<p>{{ line }}</p>{% endfor %}
{% if against %}<h2>At the same cost or less, on held-out text</h2>
<table><tr><th>reference</th><th>best member</th><th>member minus reference, KL, paired 95 %</th></tr>
{% for one in against %}<tr><td>{{ one.reference }}</td><td>{{ one.member }}</td>
<td>{{ "%+.4f [%+.4f, %+.4f]" | format(one.difference.mean, one.difference.low, one.difference.high) }}</td></tr>
{% endfor %}</table>{% endif %}
{% if front.summary.model %}<p>{{ front.summary.model }}</p>{% endif %}
{% for line in front.summary.source %}<p>{{ line }}</p>{% endfor %}
{% for name, reason in front.summary.skipped.items() %}<p>Baseline {{ name }} does not apply: {{ reason }}</p>
{% endfor %}
{% if front.summary.tasks %}<h2>Downstream tasks</h2><table>
<tr>{% for cell in front.summary.tasks[0] %}<th>{{ cell }}</th>{% endfor %}</tr>
{% for row in front.summary.tasks[1:] %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor %}
</table>{% endif %}
{% for reason in front.summary.failures %}<p>Some candidates failed: {{ reason }}</p>{% endfor %}
{% if profiles %}<h2>What each member keeps</h2>
<img alt="profiles" src="data:image/png;base64,{{ profiles }}">{% endif %}
<p>{{ "{:,}".format(front.summary.evaluations) }} evaluations,
{{ "{:,}".format(front.summary.tokens) }} tokens one at a time,
{{ "{:,}".format(front.summary.layer_passes) }} layer passes really made,
{{ "%.1f" | format(front.summary.seconds / 60) }} minutes of evaluation.</p>
<h2>Recipe</h2><pre>{{ recipe }}</pre></body></html>
"""


def table(front: FrontSummary, brief: bool = False) -> tuple[list[str], list[list[str]]]:
    """(headings, one row of cells a plan): members by rank, then references, then the dense model.

    `brief`: all held-out texts in one column, for a terminal.
    """
    costs = [objective for objective in front.objectives if objective.is_cost]
    scores = [objective for objective in front.objectives if not objective.is_cost]
    headings = ["rank", "plan"]
    for objective in costs:
        headings.append(f"{objective.name}\nof dense")
        if objective.is_latency:
            headings.append("ESTIMATE" if front.estimate else "by table")
    headings += [f"{objective.name}\ncalibration" for objective in scores]
    if brief and front.summary.held_out:
        headings.append("KL\nheld-out")
    for text in () if brief else front.summary.held_out:
        headings += [f"{text}\nKL", "\nppl"]
    headings.append("parameters\nof dense")
    timed = any(point.measured for point in front.members)
    if timed:
        headings += ["prefill\nms", "decode\ntokens/s"]
    rows = []
    for point in (*front.members, *front.references, front.dense):
        rank = f"{point.rank} {f'({point.fault})' if point.fault else ''}".rstrip() if point.rank else ""
        row = [rank, point.row.name]
        for objective in costs:
            dense = max(1, front.summary.dense_costs[objective.name])
            ratio = f"{point.values[objective.name] / dense:.3f}"
            error = point.errors[objective.name] / dense
            row.append(f"{ratio} ± {error:.3f}" if error else ratio)
            if objective.is_latency:
                row.append(f"{point.table[objective.name] / dense:.3f}")
        for objective in scores:
            known = objective.name in point.values
            row.append(f"{point.values[objective.name]:.3f} ± {point.errors[objective.name]:.3f}" if known else "")
        if brief and front.summary.held_out:
            row.append(_held_out(point, front.summary.held_out))
        for text in () if brief else front.summary.held_out:
            found = point.row.scores.get(text)
            row += [f"{found['kl'].mean:.3f} ± {found['kl'].standard_error:.3f}" if found else ""]
            row += [f"{math.exp(min(found['cross_entropy'].mean, 700.0)):.1f}" if found else ""]
        row.append(f"{point.row.costs['parameters'] / front.summary.dense_costs['parameters']:.3f}")
        if timed:
            row += _speed(front, point)
        rows.append(row)
    return headings, rows


def _held_out(point: Point, texts: Sequence[str]) -> str:
    """KL over the sequences of all texts together."""
    scores = [point.row.scores[text]["kl"] for text in texts if text in point.row.scores]
    if len(scores) < len(texts):
        return ""
    total = sum(score.sequences for score in scores)
    mean = sum(score.mean * score.sequences for score in scores) / total
    error = math.sqrt(sum((score.standard_error * score.sequences) ** 2 for score in scores)) / total
    return f"{mean:.3f} ± {error:.3f}"


def _speed(front: FrontSummary, point: Point) -> list[str]:
    """Milliseconds of a prefill and tokens decoded a second, by the clock; the dense model's beside its last member."""
    last = next((member.measured for member in reversed(front.members) if member.measured is not None), None)
    times = point.measured.times if point.measured is not None else None
    if times is None and point is front.dense and last is not None:
        times = last.dense
    if times is None:
        return ["", ""]
    return [f"{times.prefill / 1e6:.1f}", f"{front.batch * 1e9 / times.decode:.1f}" if times.decode else ""]


def table_errors(front: FrontSummary) -> list[str]:
    """A sentence for each latency: how far the table was from the models that were timed."""
    lines = []
    for name, errors in front.table_errors.items():
        middle = sorted(abs(error) for error in errors)[len(errors) // 2]
        worst = max(errors, key=abs)
        lines.append(
            f"The table's {name} of dense was off by {middle:.1%} (median) and {worst:+.1%} at most from "
            f"{len(errors)} models timed end to end, in turns with the dense one."
        )
    lines += [f"{name} was not timed: {reason}" for name, reason in front.untimed.items()]
    if front.unreliable:
        lines.append(
            f"{', '.join(front.unreliable)}: times spread by more than a tenth, so the table's latency counts; "
            "time on a quieter machine, or raise latency.repeats."
        )
    if front.estimate:
        lines.append("Latency is an ESTIMATE from stated peaks, a lower bound; nothing was timed.")
    return lines


def corner(front: FrontSummary, values: Sequence[float]) -> list[str]:
    """The values of a corner of the box as text."""
    pairs = zip(front.objectives, values, strict=True)
    return [
        f"{o.name} {shown(o.name, round(v)) if o.is_cost else f'{v:.4g}'}"
        + (" (estimate)" if o.is_latency and front.estimate else "")
        for o, v in pairs
    ]


def front_page(
    title: str,
    model: str,
    budgets: list[str],
    workload: str,
    front: FrontSummary,
    figures: Sequence[tuple[str, str]],
    profiles: bytes,
    recipe: str,
) -> str:
    """The report as HTML with everything embedded; all text from outside is escaped."""
    headings, rows = table(front)
    return (
        Environment(autoescape=True)
        .from_string(_TEMPLATE)
        .render(
            style=Markup(STYLE),
            title=title,
            model=model,
            budgets=budgets,
            workload=workload,
            front=front,
            names=[objective.name for objective in front.objectives],
            # Plotly escapes what it is given.
            figures=[(heading, Markup(figure)) for heading, figure in figures],
            headings=headings,
            rows=rows,
            corners=[corner(front, values) for values in front.corners],
            errors=table_errors(front),
            against=front.against,
            profiles=base64.b64encode(profiles).decode(),
            recipe=recipe,
        )
    )

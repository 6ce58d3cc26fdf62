"""One self-contained HTML page."""

import base64
import math
from collections.abc import Sequence

from jinja2 import Environment
from markupsafe import Markup

from ...space.budget import labelled, shown
from .summary import Summary

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; margin: 1em 0; } td, th { padding: .25em .7em; border-bottom: 1px solid #ddd; }
td { text-align: right; } td:first-child, th { text-align: left; } tr.found { font-weight: bold; background: #f3f8f3; }
img { max-width: 100%; } .verdict { font-size: 1.15em; font-weight: bold; } pre { background: #f6f6f6; padding: 1em; }
"""
_TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title>
<style>{{ style }}</style></head><body>
<p class="verdict">{{ summary.verdict }}</p>
<h1>{{ title }}</h1>
<p>Budget: {{ budgets | join(", ") or "none" }}. Model {{ model }}.</p>
<h2>Found plan against baselines</h2>
<table><tr><th>plan</th>{% for cost in shown_costs %}<th>{{ labelled(cost, estimate) }} of dense</th>{% endfor %}
{% for text in summary.held_out %}<th>{{ text }} KL</th><th>perplexity</th>{% endfor %}
<th>found minus this, paired 95 %</th><th>search tokens</th><th>evaluations</th></tr>
{% for row in summary.rows %}<tr class="{{ 'found' if row.name == 'found' }}">
<td>{{ row.name }}{{ " *" if row.slack }}</td>
{% for cost in shown_costs %}<td>{{ "%.4f" | format(row.costs[cost] / [summary.dense_costs[cost], 1] | max) }}</td>
{% endfor %}
{% for text in summary.held_out %}{% set scores = row.scores.get(text) %}
<td>{% if scores %}{{ "%.4f ± %.4f" | format(scores.kl.mean, scores.kl.standard_error) }}{% endif %}</td>
<td>{% if scores %}{{ "%.2f" | format(exp(scores.cross_entropy.mean)) }}{% endif %}</td>{% endfor %}
<td>{% if row.against %}{{ "%+.4f [%+.4f, %+.4f]" | format(row.against.mean, row.against.low, row.against.high) }}
{% endif %}</td><td>{{ "{:,}".format(row.tokens) }}</td><td>{{ "{:,}".format(row.evaluations) }}</td></tr>
{% endfor %}</table>
{% if summary.slack %}<p>* {{ summary.slack }}</p>{% endif %}
{% for line in summary.latency %}<p>{{ line }}</p>{% endfor %}
{% if summary.model %}<p>{{ summary.model }}</p>{% endif %}
{% for line in summary.training + summary.source %}<p>{{ line }}</p>{% endfor %}
{% if summary.tasks %}<h2>Downstream tasks</h2><table>
<tr>{% for cell in summary.tasks[0] %}<th>{{ cell }}</th>{% endfor %}</tr>
{% for row in summary.tasks[1:] %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor %}
</table>{% endif %}
{% for name, reason in summary.skipped.items() %}<p>Baseline {{ name }} does not apply: {{ reason }}</p>{% endfor %}
{% for reason in summary.failures %}<p>Some candidates failed: {{ reason }}</p>{% endfor %}
{% for heading, picture in pictures %}<h2>{{ heading }}</h2>
<img alt="{{ heading }}" src="data:image/png;base64,{{ picture }}">{% endfor %}
<h2>Costs</h2><table><tr><th>cost</th><th>found</th><th>dense</th><th>ratio</th></tr>
{% for name, value in costs %}<tr><td>{{ labelled(name, estimate) }}</td><td>{{ shown(name, value) }}</td>
<td>{{ shown(name, summary.dense_costs[name]) }}</td>
<td>{{ "%.4f" | format(value / [summary.dense_costs[name], 1] | max) }}</td></tr>{% endfor %}</table>
<p>{{ "{:,}".format(summary.evaluations) }} evaluations, {{ "{:,}".format(summary.tokens) }} tokens one at a time,
{{ "{:,}".format(summary.layer_passes) }} layer passes really made,
{{ "%.1f" | format(summary.seconds / 60) }} minutes of evaluation.</p>
<h2>Recipe</h2><pre>{{ recipe }}</pre></body></html>
"""

HEADINGS = {
    "comparison": "Held-out comparison",
    "profile": "Profile per layer",
    "search": "Search",
    "costs": "Costs of the found plan",
}


def page(
    title: str,
    model: str,
    budgets: list[str],
    shown_costs: Sequence[str],
    summary: Summary,
    pictures: dict[str, bytes],
    recipe: str,
    estimate: bool = False,
) -> str:
    """The report as HTML with everything embedded; all text from outside is escaped. `estimate`: latency is one."""
    environment = Environment(autoescape=True)
    return environment.from_string(_TEMPLATE).render(
        style=Markup(STYLE),
        shown=shown,
        labelled=labelled,
        estimate=estimate,
        title=title,
        model=model,
        budgets=budgets,
        shown_costs=shown_costs,
        summary=summary,
        pictures=[(HEADINGS[name], base64.b64encode(pictures[name]).decode()) for name in HEADINGS if name in pictures],
        costs=list(summary.rows[0].costs.items()) if summary.rows else [],
        recipe=recipe,
        exp=lambda nats: math.exp(min(nats, 700.0)),
    )

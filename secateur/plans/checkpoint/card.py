"""The model card of an exported checkpoint: what was removed where, what it costs, how it scores, how to load it."""

import re
from pathlib import Path

import yaml

from ...space.budget import labelled, shown
from ..layers import Kept, unit
from ..plan import Plan, Score
from .metadata import front_matter
from .task import Task

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&$])")
_LINES = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


def text(value: object) -> str:
    """Anything from outside as text of a paragraph or table cell: on one line, nothing in it Markdown or HTML."""
    return _SPECIAL.sub(r"\\\1", _LINES.sub(" ", str(value)))


def _fenced(content: str, language: str) -> list[str]:
    """Lines of a block of code, with a fence that nothing in it closes."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", content)), default=0))
    return [f"{fence}{language}", content, fence]


def card(plan: Plan, own_class: str | None, task: Task) -> str:
    """Markdown; `own_class` is the model's type where no stock class loads it."""
    removed = [layer.index for layer in plan.layers if layer.removed]
    return "\n".join(
        [
            front_matter(plan, task),
            "",
            f"# {text(Path(plan.model.path).name)}, compressed by Secateur (plan '{text(plan.name)}')",
            "",
            f"Made from {text(plan.model.path)} ({text(plan.model.family)}, {text(plan.model.dtype)}, weights "
            f"{text(plan.model.digest)}).",
            f"Removed layers: {', '.join(map(str, removed)) or 'none'}. {' '.join(_how(plan))}",
            *([f"Trained afterwards: {text(plan.training)}; scores are those after it."] if plan.training else []),
            "",
            "## Loading",
            "",
            *_loading(own_class, task.auto),
            "",
            "## Costs",
            "",
            "| cost | value | of dense |",
            "|---|---|---|",
            *(
                f"| {labelled(n, plan.latency_estimate)} | {shown(n, v)} | {v / max(1, plan.dense_costs[n]):.4f}x |"
                for n, v in plan.costs.items()
            ),
            "",
            "## Scores",
            "",
            "Mean ± standard error over sequences; lower is better. `calibration` is what the search saw; all other "
            "texts are held out.",
            "",
            "| plan | text | score | value | sequences |",
            "|---|---|---|---|---|",
            *_scores(plan),
            "",
            "## Data",
            "",
            "| text | source | sequences | tokens each | beginning with | digest |",
            "|---|---|---|---|---|---|",
            *(
                f"| {text(title)} | {text(one.source)} | {one.sequences} | {one.length} | "
                f"{' '.join(map(str, one.prefix))} | {text(one.digest)} |"
                for title, one in plan.texts.items()
            ),
            "",
            "## Layers (indices of the dense model; kept of all)",
            "",
            *_layers(plan),
            "",
            f"## Recipe (digest {text(plan.recipe_digest)}, seed {plan.seed})",
            "",
            *_fenced(yaml.safe_dump(plan.recipe, sort_keys=False, allow_unicode=True).rstrip(), "yaml"),
            "",
            "`plan.json` has the indices of every head and channel that was kept.",
            "",
        ]
    )


def _how(plan: Plan) -> list[str]:
    lines = []
    if plan.hidden is not None:
        lines.append(f"Residual width {plan.hidden.kept} of {plan.hidden.of}.")
    if plan.widths is not None:
        repair = plan.widths.repair or "no"
        lines.append(f"Heads and channels chosen by {text(plan.widths.order)}, {text(repair)} repair of what is left.")
        if plan.hidden is not None:
            lines.append(f"Residual features by {text(plan.widths.hidden)}.")
    if plan.pruner:
        lines.append(f"Sparse weights by {text(plan.pruner)}, stored as zeros: the file is no smaller for them.")
    if any(layer.treated for layer in plan.layers):
        lines.append(
            "Linears treated as the layers below say. This checkpoint has what comes of that in its own dtype, and is "
            "no smaller for it; the bytes above are those of a file that stores types as they are, such as GGUF."
        )
    return lines


def _loading(own_class: str | None, auto: str) -> list[str]:
    if own_class is None:
        return [
            "Plain transformers loads it:",
            "",
            "```python",
            f"from transformers import {auto}, AutoTokenizer",
            "",
            f'model = {auto}.from_pretrained("FOLDER")',
            'tokenizer = AutoTokenizer.from_pretrained("FOLDER")',
            "```",
        ]
    return [
        f"Its layers differ in size, so no stock class fits: its type is `{own_class}`. With Secateur installed:",
        "",
        "```python",
        "import secateur  # registers the type with transformers",
        f"from transformers import {auto}, AutoTokenizer",
        "",
        f'model = {auto}.from_pretrained("FOLDER")',
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")',
        "```",
        "",
        "Without it, the modeling file in this folder does the same, if you trust it:",
        f'`{auto}.from_pretrained("FOLDER", trust_remote_code=True)`.',
    ]


def _scores(plan: Plan) -> list[str]:
    rows = {plan.name: plan.scores, **plan.compared}
    return [
        f"| {text(name)} | {text(title)} | {text(score)} | {_value(value)} | {value.sequences} |"
        for name, texts in rows.items()
        for title, scores in texts.items()
        for score, value in scores.items()
    ]


def _value(score: Score) -> str:
    return f"{score.mean:.4f} ± {score.standard_error:.4f}"


def _layers(plan: Plan) -> list[str]:
    """The table of layers."""
    units = plan.dimensions
    headings = ["layer", *(text(unit(one)) for one in units), "sparsity"]
    rows = [f"| {' | '.join(headings)} |", "|" + "---|" * len(headings)]
    for layer in plan.layers:
        cells: list[str] = []
        for part in (layer.kept.get(one) for one in units):
            if part is not None:
                cells.append("removed" if layer.removed else _kept(part))
            else:
                cells.append("all" if cells and cells[-1] not in ("removed", "dropped") else "")
        levels = ", ".join(text(f"{name} {value}") for name, value in layer.levels.items())
        rows.append(f"| {' | '.join([str(layer.index), *cells, levels])} |")
    return rows


def _kept(kept: Kept) -> str:
    return f"{kept.kept}/{kept.of}" if kept.kept else "dropped"

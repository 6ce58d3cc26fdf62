"""What the hub wants to know of a checkpoint, as the front matter of its model card; and the dense model's licence."""

import re
import shutil
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData

from ...fitness.model.configuration import locate
from ...space.errors import SecateurError
from ..plan import Plan

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}")
PERPLEXITIES = ("kl", "cross_entropy")
LICENCES = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*")
FROM_CARD = ("license", "license_name", "license_link", "language")
"""What a card carries over from that of the dense model."""


def front_matter(plan: Plan, causal: bool) -> str:
    """YAML between two lines of dashes: base model, library, task, tags, metrics on held-out text, licence."""
    own = _of_dense(plan)
    name = Path(plan.model.path).name.removeprefix("package:") or "model"
    base = plan.model.path if HUB_NAME.fullmatch(plan.model.path) else own.get("base_model")
    data = ModelCardData(
        base_model=base if isinstance(base, str) and HUB_NAME.fullmatch(base) else None,
        library_name="transformers",
        pipeline_tag="text-generation" if causal else "fill-mask",
        tags=["secateur", "pruned", *(["sparse"] if plan.pruner else [])],
        model_name=_word(f"{name}-{plan.name}"),
        eval_results=_results(plan, causal) or None,
        ignore_metadata_errors=True,
        **{key: own[key] for key in FROM_CARD if isinstance(own.get(key), str | list)},
    )
    return f"---\n{data.to_yaml()}\n---"


def carry_licence(plan: Plan, folder: Path) -> None:
    """Copies the dense model's licence, where it lies beside its weights on this machine."""
    here = _folder(plan)
    for pattern in LICENCES if here is not None else ():
        assert here is not None
        for file in sorted(here.glob(pattern)):
            if file.is_file() and not (folder / file.name).exists():
                shutil.copyfile(file, folder / file.name)


def _results(plan: Plan, causal: bool) -> list[EvalResult]:
    """Mean losses on held-out texts."""
    return [
        EvalResult(
            task_type="text-generation" if causal else "fill-mask",
            dataset_type=_word(title),
            dataset_name=_word(title),
            metric_type=name,
            metric_name={"kl": "KL to the dense model, nats", "cross_entropy": "cross-entropy, nats"}[name],
            metric_value=round(scores[name].mean, 4),
        )
        for title, scores in plan.scores.items()
        if title != "calibration"
        for name in PERPLEXITIES
        if name in scores
    ]


def _word(text: str) -> str:
    """A name from outside, of nothing but letters, digits and a few signs."""
    return re.sub(r"[^\w .:/+-]+", "_", text).strip() or "unnamed"


def _of_dense(plan: Plan) -> dict[str, Any]:
    """The front matter of the dense model's card, where it is here and can be read."""
    here = _folder(plan)
    card = here / "README.md" if here is not None else None
    if card is None or not card.is_file():
        return {}
    match = re.match(r"---\r?\n(.*?)\r?\n---", card.read_text(encoding="utf8", errors="replace"), re.DOTALL)
    try:
        values = yaml.safe_load(match[1]) if match is not None else {}
    except yaml.YAMLError:
        return {}
    return values if isinstance(values, dict) else {}


def _folder(plan: Plan) -> Path | None:
    """The dense model's own folder; None where it is elsewhere, or a file among others' (a GGUF)."""
    try:
        source = locate(plan.model.path)
    except SecateurError:
        return None
    path = Path(source.folder)
    return path if source.gguf is None and path.is_dir() else None

"""What the hub wants to know of a checkpoint, as the front matter of its model card; and the dense model's licence."""

import re
import shutil
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData

from ...fitness.model.configuration import locate
from ...fitness.model.pooling import MODULES, modules_of
from ...space.errors import SecateurError
from ..plan import Plan
from .task import Task

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}")
METRICS = {
    "kl": "KL to the dense model, nats",
    "cross_entropy": "cross-entropy, nats",
    "embedding": "cosine distance of embeddings to the dense model's",
}
POOLING_FILES = (MODULES, "config_sentence_transformers.json", "sentence_bert_config.json")
LICENCES = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*")
FROM_CARD = ("license", "license_name", "license_link", "language")
"""What a card carries over from that of the dense model."""


def front_matter(plan: Plan, task: Task) -> str:
    """YAML between two lines of dashes: base model, library, task, tags, metrics on held-out text, licence."""
    own = _of_dense(plan)
    name = Path(plan.model.path).name.removeprefix("package:") or "model"
    base = plan.model.path if HUB_NAME.fullmatch(plan.model.path) else own.get("base_model")
    data = ModelCardData(
        base_model=base if isinstance(base, str) and HUB_NAME.fullmatch(base) else None,
        library_name="transformers",
        pipeline_tag=task.pipeline,
        tags=["secateur", "pruned", *(["sparse"] if plan.pruner else [])],
        model_name=_word(f"{name}-{plan.name}"),
        eval_results=_results(plan, task) or None,
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


def carry_pooling(plan: Plan, folder: Path) -> None:
    """Copies what sentence-transformers reads beside a model's weights: how it pools, and what follows.

    Raises:
        SecateurError: a module lies outside the model's folder, or has its weights as a pickle.
    """
    here = _folder(plan)
    if here is None or not (here / MODULES).is_file():
        return
    files = [here / name for name in POOLING_FILES]
    for path in modules_of(here):
        part = here / path
        if not part.resolve().is_relative_to(here.resolve()):
            raise SecateurError(f"model '{here}': {MODULES}: '{path[:100]}' is outside the model's folder")
        found = [file for file in part.iterdir() if file.is_file()] if part.is_dir() else []
        kept = [file for file in found if file.suffix in (".json", ".safetensors")]
        if any(file.suffix in (".bin", ".pt") for file in found) and all(file.suffix == ".json" for file in kept):
            raise SecateurError(
                f"model '{here}': the weights of its module '{path[:100]}' are a pickle, which is never opened or "
                "passed on; save them as safetensors, or take the module out of modules.json"
            )
        files += kept
    for file in files:
        if file.is_file() and file.resolve().is_relative_to(here.resolve()):
            (folder / file.relative_to(here)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / file.relative_to(here))


def _results(plan: Plan, task: Task) -> list[EvalResult]:
    """Mean losses on held-out texts."""
    return [
        EvalResult(
            task_type=task.pipeline,
            dataset_type=_word(title),
            dataset_name=_word(title),
            metric_type=name,
            metric_name=METRICS[name],
            metric_value=round(scores[name].mean, 4),
        )
        for title, scores in plan.scores.items()
        if title != "calibration"
        for name in METRICS
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

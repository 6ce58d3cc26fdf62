"""The smaller checkpoint: a folder that transformers loads.

Whole blocks gone (and zeros from sparsity): the stock architecture, renumbered. Single sublayers gone: the schema
that transformers itself has for this (`per_layer_config` with `skip`), under a `model_type` of its own so that no stock
class loads it with random blocks in the gaps, with a short modeling file in the folder.
"""

import importlib.util
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn

from ...fitness import dropped
from ...fitness.level_store import LevelStore
from ...fitness.materialise import fill, kept_blocks, materialised, skips, smaller_config, smaller_weights
from ...space.anatomy import Anatomy
from ...space.costs import BlockState
from ...space.errors import SecateurError
from ..plan import Plan

MODELING = "modeling_secateur"


def export_hf(
    plan: Plan, model: nn.Module, tokenizer: Any, anatomy: Anatomy, store: LevelStore | None, out: Path
) -> None:
    """Writes checkpoint, tokenizer, plan and model card to `out`, which must not exist; whole or not at all.

    Raises:
        SecateurError: `out` exists or cannot be written, or the plan removes everything.
    """
    if out.exists():
        raise SecateurError(f"{out} exists; --out names another folder")
    states = plan.states(anatomy)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    except OSError as error:
        raise SecateurError(f"cannot write {out}: {error}") from error
    try:
        if skips(states):
            _save_skipping(model, anatomy, states, store, temporary)
        else:
            smaller: Any = materialised(model, anatomy, states, store)
            smaller.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        plan.write(temporary / "plan.json")
        (temporary / "README.md").write_text(_card(plan, states), encoding="utf8")
        temporary.chmod(0o755)
        os.replace(temporary, out)
    except (OSError, SafetensorError) as error:
        raise SecateurError(f"cannot write {out}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _save_skipping(
    model: nn.Module, anatomy: Anatomy, states: Sequence[BlockState], store: LevelStore | None, folder: Path
) -> None:
    dense: Any = model
    source = modeling_source(anatomy, type(dense.config).__name__, type(dense).__name__)
    (folder / f"{MODELING}.py").write_text(source, encoding="utf8")
    classes = _imported(folder / f"{MODELING}.py")
    values = smaller_config(dense.config, states).to_dict()
    for name in ("model_type", "architectures", "transformers_version"):
        values.pop(name, None)
    width = len(str(len(kept_blocks(states)) - 1))
    per_layer = {f"{index:0{width}d}": {"skip": names} for index, names in skips(states).items()}
    config = classes.Config(**values, per_layer_config=per_layer)
    smaller = classes.Model(config)
    fill(smaller, model, smaller_weights(model, anatomy, states, store))
    smaller.save_pretrained(folder)
    file = folder / "config.json"
    written = json.loads(file.read_text())
    written["architectures"] = [classes.Model.__name__]
    written["auto_map"] = {
        "AutoConfig": f"{MODELING}.{classes.Config.__name__}",
        "AutoModelForCausalLM": f"{MODELING}.{classes.Model.__name__}",
    }
    file.write_text(json.dumps(written, indent=2, sort_keys=True) + "\n")


def modeling_source(anatomy: Anatomy, config_class: str, model_class: str) -> str:
    """The modeling file of a family: the stand-ins that search used, and two small classes around the stock ones."""
    branches = {sublayer.kind: list(sublayer.stand_ins) for sublayer in anatomy.blocks[0].sublayers}
    return f'''{Path(dropped.__file__).read_text(encoding="utf8")}

# -- what follows is specific to {anatomy.family}; written by secateur --

from transformers import {config_class}, {model_class}  # noqa: E402

BLOCKS = "{anatomy.blocks_path}"
BRANCHES = {branches!r}


def skipped(config, index):
    """Names of the sublayers that layer `index` does without; transformers before 5.14 keeps a plain dictionary."""
    entries = getattr(config, "per_layer_config", None)
    if isinstance(entries, dict):
        return next((entry.get("skip", []) for key, entry in entries.items() if int(key) == index), [])
    return list(entries[index].skip) if entries is not None else []


class Secateur{config_class}({config_class}):
    model_type = "secateur_{anatomy.family}"


class Secateur{model_class}({model_class}):
    config_class = Secateur{config_class}

    def __init__(self, config):
        super().__init__(config)
        for index, block in enumerate(self.get_submodule(BLOCKS)):
            for kind in skipped(config, index):
                for path, role in BRANCHES[kind]:
                    stand_in(block, path, role)


Config, Model = Secateur{config_class}, Secateur{model_class}
'''


def _imported(path: Path) -> Any:
    """The modeling file as a module, from where it was written."""
    name = f"secateur_export_{path.parent.name.replace('.', '_').replace('-', '_')}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # transformers looks classes' modules up by name while it saves.
    sys.modules[name] = module
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = writes
    return module


def _card(plan: Plan, states: Sequence[BlockState]) -> str:
    removed = [layer.index for layer in plan.layers if layer.removed]
    rows = []
    for layer in plan.layers:
        if layer.removed:
            rows.append(f"| {layer.index} | removed | removed | |")
            continue
        parts = [("dropped" if not part.kept else f"{part.kept}/{part.of}") for part in (layer.attention, layer.mlp)]
        sparsity = ", ".join(f"{name} {value}" for name, value in layer.sparsity.items())
        rows.append(f"| {layer.index} | {parts[0]} | {parts[1]} | {sparsity} |")
    costs = [f"| {n} | {v:,} | {v / max(1, plan.dense_costs[n]):.4f}x |" for n, v in plan.costs.items()]
    scores = [
        f"| {text} | {name} | {score.mean:.4f} ± {score.standard_error:.4f} | {score.sequences} |"
        for text, row in plan.scores.items()
        for name, score in row.items()
    ]
    remote = bool(skips(states))
    note = (
        "Sublayers are missing, so the modeling file in this folder is needed: `trust_remote_code=True`.\n"
        if remote
        else "Plain transformers loads it.\n"
    )
    zeros = "Sparse weights are stored as zeros: the file is no smaller for them.\n" if plan.pruner else ""
    argument = ", trust_remote_code=True" if remote else ""
    return "\n".join(
        [
            f"# {Path(plan.model.path).name}, compressed by Secateur (plan '{plan.name}')",
            "",
            f"Made from `{plan.model.path}` ({plan.model.family}, weights {plan.model.digest}). "
            f"Removed layers: {removed or 'none'}. {zeros}{note}",
            "```python",
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            f'model = AutoModelForCausalLM.from_pretrained("."{argument})',
            'tokenizer = AutoTokenizer.from_pretrained(".")',
            "```",
            "",
            "## Costs",
            "",
            "| cost | value | of dense |",
            "|---|---|---|",
            *costs,
            "",
            "## Scores (mean ± standard error over sequences; lower is better)",
            "",
            "| text | score | value | sequences |",
            "|---|---|---|---|",
            *scores,
            "",
            "## Layers (indices of the dense model)",
            "",
            "| layer | attention | mlp | sparsity |",
            "|---|---|---|---|",
            *rows,
            "",
            f"Recipe digest {plan.recipe_digest}, seed {plan.seed}; the recipe is in plan.json.",
            "",
        ]
    )

"""What is mutated: a workplace with a tiny model, texts, recipes, a finished run, its plans and other tools' files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tests.gguf_file import write_gguf
from tests.tiny import save_text, save_tiny, tiny_recipe

GENES = [
    {"kind": "attention", "levels": [2, 1, 0]},
    {"kind": "mlp", "levels": "4 levels", "multiple_of": 8},
    {"kind": "block"},
    {"kind": "sparsity", "per": "sublayer", "levels": [0.25, 0.5, "2:4"]},
]
FORMATS = ("profile", "evopress-levels", "llm-compressor", "torchao", "alphapruning", "plan", "evopress-drops")


def recipes(folder: Path) -> dict[str, dict[str, Any]]:
    """Recipes by name that each run in a second or two."""
    model, text, held = folder / "model", folder / "text.txt", folder / "held.txt"
    plain = tiny_recipe(model, text, held, effort={"evaluations": 12})
    return {
        "greedy": plain,
        "mixed": {**plain, "genes": GENES, "strategy": {"name": "random"}, "budgets": {"block_parameters": "0.8x"}},
        "front": {
            **plain,
            "genes": GENES[:3],
            "budgets": {},
            "objectives": ["kl", "parameters"],
            "strategy": {"name": "nsga2", "population": 8, "sequences": 2},
            "effort": {"evaluations": 60},
        },
        "lines": {**plain, "calibration": {"source": str(folder / "text.jsonl"), "sequences": 6, "length": 16}},
        "tokens": {**plain, "calibration": {"source": str(folder / "ids.npy"), "sequences": 6, "length": 16}},
        "table": {**plain, "calibration": {"source": str(folder / "text.parquet"), "sequences": 6, "length": 16}},
        "trained": {
            **plain,
            "strategy": {"name": "random"},
            "training": {
                "candidates": 2,
                "stages": [{"tokens": 32, "survivors": 1}],
                "sequences": 2,
                "text": {"source": str(held), "sequences": 4, "length": 16, "windows_per_document": 2},
            },
        },
    }


def build(folder: Path, run: Callable[..., int]) -> None:
    """Makes the workplace; `run` carries out a command of the program and returns its status."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    save_tiny(folder / "model")
    text = save_text(folder / "text.txt", seed=1).read_text()
    save_text(folder / "held.txt", seed=2)
    documents = text.split("\n\n")
    (folder / "text.jsonl").write_text("\n".join(json.dumps({"text": one, "n": 1}) for one in documents))
    pq.write_table(pa.table({"text": documents, "n": list(range(len(documents)))}), folder / "text.parquet")
    np.save(folder / "ids.npy", np.random.default_rng(0).integers(3, 96, 3000))
    for name, recipe in recipes(folder).items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
    for name in ("mixed", "front"):
        assert run("search", folder / f"{name}.yaml", "--out", folder / f"run-{name}") == 0
    (folder / "peers").mkdir()
    for form in FORMATS:
        run("export", folder / "run-mixed", "--to", form, "--out", folder / "peers" / form)
    for name, content in {"drop.json": "[1, 2]", "drop.txt": "none\nattn\nnone\nmlp\n"}.items():
        (folder / "peers" / name).write_text(content)
    drop = tiny_recipe(folder / "model", folder / "text.txt", genes=[{"kind": "mlp", "levels": [48, 32, 16]}])
    drop |= {"widths": {"repair": None}, "budgets": {"block_parameters": "0.8x"}}
    (folder / "narrow.yaml").write_text(yaml.safe_dump(drop))
    assert run("search", folder / "narrow.yaml", "--out", folder / "run-narrow") == 0
    tasks = folder / "tasks"
    tasks.mkdir()
    rows = [{"q": f"word{i} word{i + 1}", "a": ["word3", "word4"], "gold": i % 2} for i in range(8)]
    (tasks / "data.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    task = {
        "task": "fuzzed",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tasks / "data.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{q}}",
        "doc_to_choice": "{{a}}",
        "doc_to_target": "gold",
        "metric_list": [{"metric": "acc"}],
    }
    (tasks / "fuzzed.yaml").write_text(yaml.safe_dump(task))
    write_gguf(folder / "model.gguf")

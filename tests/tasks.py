"""A downstream task over local data."""

import json
from pathlib import Path

import yaml


def task_folder(folder: Path) -> Path:
    """A multiple-choice task over local data, in lm-eval's format."""
    folder.mkdir()
    rows = [
        {"query": f"word{n} word{n + 1}", "choices": [f"word{n + 2}", f"word{(7 * n) % 90}"], "gold": n % 2}
        for n in range(40)
    ]
    (folder / "guess.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": "guess",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"validation": str(folder / "guess.jsonl")}},
        "output_type": "multiple_choice",
        "validation_split": "validation",
        "doc_to_text": "{{query}}",
        "doc_to_target": "gold",
        "doc_to_choice": "choices",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    (folder / "guess.yaml").write_text(yaml.safe_dump(task))
    return folder

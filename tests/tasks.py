"""A downstream task over local data."""

import json
from pathlib import Path
from typing import Any

import yaml


def task_folder(folder: Path, name: str = "guess", shots: int = 0) -> Path:
    """A multiple-choice task over local data, in lm-eval's format; `shots`: examples before each question."""
    folder.mkdir(exist_ok=True)
    rows = [
        {"query": f"word{n} word{n + 1}", "choices": [f"word{n + 2}", f"word{(len(name) + 7 * n) % 90}"], "gold": n % 2}
        for n in range(40)
    ]
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task: dict[str, Any] = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"validation": str(folder / f"{name}.jsonl")}},
        "output_type": "multiple_choice",
        "validation_split": "validation",
        "doc_to_text": "{{query}}",
        "doc_to_target": "gold",
        "doc_to_choice": "choices",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    if shots:
        task |= {"num_fewshot": shots, "fewshot_split": "validation"}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(task))
    return folder

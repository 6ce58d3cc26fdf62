"""The installed program on a model that is twice the memory it is given."""

import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import safe_open
from transformers import LlamaConfig

from secateur.files import read_text
from tests.large import checkpoint, texts, watched
from tests.program import forked

CONFIG = {"vocab_size": 520, "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 13}
HEADS = {"num_attention_heads": 8, "num_key_value_heads": 4, "bos_token_id": 1, "eos_token_id": 2}
GIVEN = 20_000_000


def recipe_of(folder: Path, name: str, **changes: Any) -> Path:
    values = {
        "model": {"path": str(folder / "model")},
        "calibration": {"source": str(folder / "calibration.txt"), "sequences": 4, "length": 32},
        "held_out": [{"source": str(folder / "held.txt"), "sequences": 2, "length": 32}],
        "genes": [{"kind": "attention"}, {"kind": "sparsity", "levels": [0.0, 0.5], "per": "sublayer"}],
        "budgets": {"linear_weights": "<= 0.6x"},
        "strategy": {
            "name": "evopress",
            "schedule": {"generations": 3, "offspring": 4, "survivors": [1], "tokens": [64]},
        },
        "baselines": [],
        "seed": 0,
        **changes,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of 40 MB in float32, in fourteen files, and one of nearly nothing."""
    folder = tmp_path_factory.mktemp("large")
    checkpoint(LlamaConfig(**CONFIG, **HEADS), folder / "model")
    texts(folder, 4, 32)
    small = folder / "small"
    small.mkdir()
    checkpoint(LlamaConfig(**{**CONFIG, **HEADS, "hidden_size": 32, "intermediate_size": 32}), small / "model")
    texts(small, 4, 32)
    return folder


def losses(run: Path) -> dict[tuple[str, str], list[Any]]:
    """Of every genome on every text, whatever parts they came in."""

    found: dict[tuple[str, str], list[Any]] = {}
    with sqlite3.connect(run / "journal.sqlite") as journal:
        rows = journal.execute("SELECT text, key, first, content FROM answers ORDER BY text, key, first").fetchall()
    for text, key, _, content in rows:
        found.setdefault((text, key), []).extend(json.loads(content)["losses"]["kl"])
    return found


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    """Of a checkpoint, in however many files."""
    found: dict[str, torch.Tensor] = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            found |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    return found


def test_a_model_of_forty_megabytes_is_searched_and_written_in_twenty(place: Path, tmp_path: Path) -> None:
    """What the same run on a model of nearly nothing takes is not the model's; the answers are those of the whole."""
    size = {"memory": GIVEN, "path": str(place / "model")}
    recipe, whole = recipe_of(place, "placed", model=size), recipe_of(place, "whole")
    base = watched(["search", str(recipe_of(place / "small", "base")), "--out", str(tmp_path / "base")], tmp_path / "a")
    placed = watched(["search", str(recipe), "--out", str(tmp_path / "placed")], tmp_path / "b")
    assert placed.returncode == 0, placed.output
    assert placed.peak - base.peak <= GIVEN
    same = watched(["search", str(whole), "--out", str(tmp_path / "whole")], tmp_path / "c")
    assert same.peak - base.peak > 2 * GIVEN
    found = losses(tmp_path / "placed")
    assert found == losses(tmp_path / "whole")
    assert len(found) > 10
    out = tmp_path / "hf"
    written = watched(["export", str(tmp_path / "placed"), "--to", "hf", "--out", str(out)], tmp_path / "b")
    assert written.returncode == 0, written.output
    assert written.peak - base.peak <= GIVEN
    other = watched(["export", str(tmp_path / "whole"), "--to", "hf", "--out", str(tmp_path / "other")], tmp_path / "c")
    assert other.returncode == 0, other.output
    parts, one = tensors_of(out), tensors_of(tmp_path / "other")
    assert len(list(out.glob("*.safetensors"))) > 1
    assert parts.keys() == one.keys()
    assert all(torch.equal(tensor, one[name]) for name, tensor in parts.items())
    assert read_text(out / "config.json", "config", 10**6) == read_text(tmp_path / "other" / "config.json", "", 10**6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": {"memory": "1MB"}}, r"model.memory: 1.00 MB are too few: [0-9.]+ MB would do; .* would take less"),
        ({"model": {"memory": "much"}}, r"model.memory: cannot read 'much'; write '12GB' or '800MiB'"),
        ({"model": {"memory": "20MB", "offload": "tape"}}, r"model.offload: .*"),
        (
            {"model": {"memory": "20MB"}, "latency": {"device": "cpu"}, "budgets": {"latency": "<= 0.8x"}},
            "latency.device: measuring latency needs the whole model on its device, and of the 20.0 MB there it alone "
            "takes 4[0-9.]+ MB; take device: estimate, with the device's peaks",
        ),
        (
            {
                "model": {"memory": "20MB"},
                "genes": [{"kind": "mlp", "levels": "4 levels"}],
                "budgets": {"block_parameters": "<= 0.8x"},
                "widths": {"order": "taylor"},
            },
            "widths.order: 'taylor', which passes backwards, needs the whole model .*; take another order.*",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(
    place: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    changes = {**changes, "model": {"path": str(place / "model"), **changes["model"]}}
    recipe = recipe_of(place, "refused", **changes)
    for command in (["space", recipe], ["search", recipe, "--out", tmp_path / "run"]):
        ended = forked(*command)
        assert ended.returncode == 2
        assert ended.stdout == ""
        [line] = " ".join(ended.stderr.split()).split("secateur: ")[1:]

        assert re.search(said, line), line
    assert not (tmp_path / "run").exists()


def test_space_says_what_will_be_held(place: Path) -> None:
    ended = forked("space", recipe_of(place, "placed", model={"path": str(place / "model"), "memory": GIVEN}))
    assert ended.returncode == 0
    for part in ("weights", "hidden states", "statistics", "teacher", "levels", "logits"):
        assert part in ended.stdout
    assert "does not fit as a whole" in ended.stdout


def test_tuning_what_does_not_fit_is_refused(place: Path, tmp_path: Path) -> None:
    model = {"path": str(place / "model"), "memory": GIVEN}
    drops = {"genes": [{"kind": "attention"}], "budgets": {"sublayers": "<= 24"}}
    recipe = recipe_of(place, "drops", model=model, **drops)
    ended = forked("search", recipe, "--out", tmp_path / "run")
    assert ended.returncode == 0, ended.stderr
    assert "blocks come in turns" in " ".join((ended.stdout + ended.stderr).split())
    tuned = forked("tune", tmp_path / "run", "--tokens", 64, "--out", tmp_path / "tuned")
    assert tuned.returncode == 2
    assert "tune: training needs the whole model on its device" in " ".join(tuned.stderr.split())
    assert not (tmp_path / "tuned").exists()

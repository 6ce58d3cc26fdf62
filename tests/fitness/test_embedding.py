"""Embeddings as a score: against the materialised model's own, in every family, pooled as its files say."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import secateur
from secateur.fitness.model.checkpoint import anatomy_of
from secateur.fitness.model.examined import model_digest
from secateur.fitness.model.pooling import POOLINGS, pooling_of
from secateur.fitness.subnets.materialise import materialised
from secateur.fitness.workplace import Loaded
from secateur.runs.record.folder import RunFolder
from secateur.space.errors import SecateurError
from secateur.space.space import Space
from tests.fitness.prepared import random_text
from tests.tiny import FAMILY_NAMES, mixed_genes, model_of, save_text, save_tiny, tiny_recipe

SEQUENCES = range(3)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("family", FAMILY_NAMES)
@pytest.mark.parametrize("pooling", ["mean", "lasttoken"])
def test_it_is_the_cosine_of_the_models_own_embeddings(family: str, pooling: str) -> None:
    model = model_of(family)
    shape, text = anatomy_of(model), random_text()
    space = Space(shape, mixed_genes(shape))
    loaded = Loaded(model, None, shape, model_digest(model), {"calibration": text}, "magnitude", pooling=pooling)
    bench = loaded.prepared(space)
    genome = space.canonical(space.dense.with_level(0, 1).with_level(3, 1).with_level(len(space.genes) - 1, 2))
    states = space.states(genome)
    evaluator = bench.evaluator(space, "calibration", ("embedding", "kl"))
    dense, smaller = evaluator([space.dense, genome], SEQUENCES)
    smaller, dense = sorted((dense, smaller), key=lambda one: one.genome == space.dense)
    assert max(map(abs, dense.losses["embedding"])) < 1e-6
    apart: Any = materialised(bench.model, shape, states, bench.weights)
    whole: Any = bench.model
    for sequence in SEQUENCES:
        ids = text.ids[sequence][None]
        with torch.inference_mode():
            one, other = (m.base_model(input_ids=ids).last_hidden_state[0].float() for m in (whole, apart))
        one, other = POOLINGS[pooling](one), POOLINGS[pooling](other)
        wanted = 1 - float(torch.nn.functional.cosine_similarity(one.double(), other.double(), dim=0))
        assert smaller.losses["embedding"][sequence] == pytest.approx(wanted, rel=1e-3, abs=1e-6)
    assert bench.provenance("calibration", ("embedding",))["scores"] == [f"embedding {pooling}"]


def with_pooling(folder: Path, values: dict[str, Any], path: str = "1_Pooling") -> Path:
    (folder / path).mkdir(parents=True, exist_ok=True)
    (folder / path / "config.json").write_text(json.dumps(values))
    modules = [{"type": "sentence_transformers.models.Transformer", "path": ""}]
    modules.append({"type": "sentence_transformers.models.Pooling", "path": path})
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


def test_pooling_is_what_the_files_say(tmp_path: Path) -> None:
    first = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    assert pooling_of(tmp_path) == "mean"
    assert pooling_of(with_pooling(tmp_path, first)) == "cls"
    assert pooling_of(with_pooling(tmp_path, {"pooling_mode": "lasttoken"})) == "lasttoken"
    for values, message in (
        ({**first, "pooling_mode_mean_tokens": True}, "pools by cls and mean; embeddings by mean"),
        ({"pooling_mode_weightedmean_tokens": True}, "pools by weightedmean_tokens; embeddings by"),
        ({}, "pools by nothing"),
    ):
        with pytest.raises(SecateurError, match=message):
            pooling_of(with_pooling(tmp_path, values))
    with pytest.raises(SecateurError, match="outside the model's folder"):
        pooling_of(with_pooling(tmp_path / "model", {}, "../other"))
    (tmp_path / "modules.json").write_text("{")
    with pytest.raises(SecateurError, match=r"modules\.json"):
        pooling_of(tmp_path)


def test_a_plan_is_searched_by_it(tmp_path: Path) -> None:
    """An encoder with its pooling beside it: no plan of that size is nearer to the dense model's embeddings."""
    model = save_tiny(tmp_path / "model", "bert")
    with_pooling(model, {"pooling_mode_cls_token": True})
    save_text(tmp_path / "text.txt", seed=1)
    save_text(tmp_path / "held.txt", seed=2)
    asked = tiny_recipe(model, tmp_path / "text.txt", tmp_path / "held.txt", score="embedding", baselines=["last-k"])
    run = secateur.run(asked | {"strategy": {"name": "exhaustive", "sequences": 4}}, tmp_path / "run")
    rows = {row.name: row for row in run.summary.rows}
    found = rows["found"].scores["calibration"]["embedding"].mean
    assert 0 < found < 1
    with RunFolder.open(run.path, writing=False) as folder:
        told = [one for text, one in folder.journal.evaluations() if text == "calibration" and one.status == "ok"]
    assert found == pytest.approx(min(one.loss for one in told if len(one.sequences) == 4), rel=1e-6)

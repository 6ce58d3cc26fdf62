"""Bytes of GGUF files: predicted are those that are written."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFValueType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secateur.fitness.bench import Bench
from secateur.fitness.model.checkpoint import anatomy_of
from secateur.fitness.model.examined import model_digest
from secateur.fitness.widths.preparation import WidthSettings
from secateur.fitness.workplace import Loaded
from secateur.operators.repair import repair
from secateur.operators.sampling import uniform
from secateur.plans.checkpoint.gguf import layout_of, write_gguf
from secateur.plans.checkpoint.vocabulary import Entry
from secateur.space.budget import Budget
from secateur.space.costs import Additions
from secateur.space.gene import Gene
from secateur.space.kinds.settings import Wishes
from secateur.space.kinds.table import KINDS
from secateur.space.space import Space
from tests.fitness.prepared import random_text
from tests.genes import structured_genes
from tests.tiny import model_of

STRING = GGUFValueType.STRING
VOCABULARY: list[Entry] = [
    ("tokenizer.ggml.model", "gpt2", STRING, None),
    ("tokenizer.ggml.tokens", [f"token {number}" for number in range(96)], GGUFValueType.ARRAY, STRING),
]
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": True},
    "llama untied": {"tie_word_embeddings": False, "attention_bias": True},
    "llama scaled": {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        }
    },
    "mistral": {"sliding_window": None},
    "qwen2": {},
    "qwen3": {"tie_word_embeddings": True},
}


def made(name: str, repair: str | None) -> tuple[Bench, Space]:
    """Twelve layers, so that some tensors' names become shorter where layers go."""
    family, changes = name.split()[0], FAMILIES[name]
    head: dict[str, Any] = {} if family == "qwen2" else {"head_dim": 16}
    model = model_of(family, hidden_size=64, intermediate_size=96, num_hidden_layers=12, **head, **changes)
    shape = anatomy_of(model)
    asked = [{"kind": "bits", "levels": ["Q8_0", "Q4_0"], "per": "sublayer", "layers": "0-5"}]
    asked += [{"kind": "bits", "levels": ["Q8_0"], "of": of} for of in ("embedding", "head")[: 2 - shape.tied]]
    genes: list[Gene] = []
    if family != "qwen3":
        genes += structured_genes(shape, "attention", range(1, 12), levels=(2, 1, 0))
    genes += structured_genes(shape, "mlp", range(12), levels=(96, 64, 32, 0))
    if family != "qwen3":
        genes += structured_genes(shape, "block", range(1, 12))
    for one in asked:
        genes += KINDS["bits"].genes(shape, KINDS["bits"].settings.model_validate(one), Wishes())
    additions = Additions(bias=repair == "bias")
    layout = layout_of(model.config.to_dict(), shape, additions, VOCABULARY)
    space = Space(shape, tuple(genes), additions=additions, layout=layout)
    loaded = Loaded(
        model,
        None,
        shape,
        model_digest(model),
        {"calibration": random_text()},
        None,
        WidthSettings("magnitude", repair),
        quantizer="nearest",
    )
    return loaded.prepared(space), space


@dataclass(repr=False)
class Made:
    """A model that is ready for every genome, and where its levels are; its text would be long."""

    bench: Bench
    space: Space
    cache: Path


@pytest.fixture(scope="module", params=[*((name, None) for name in FAMILIES), ("llama", "bias")], ids=str)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECATEUR_CACHE", str(cache))
        return Made(*made(*request.param), cache)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000))
def test_predicted_is_written(model: Made, tmp_path: Path, seed: int) -> None:
    path, space = tmp_path / "model.gguf", model.space
    for genome in (uniform(space, np.random.default_rng(seed)), space.dense, space.smallest):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SECATEUR_CACHE", str(model.cache))
            states = space.states(genome)
            write_gguf(model.bench.model, space.anatomy, states, model.bench.weights, path, VOCABULARY)
        assert space.costs(genome).file_bytes == path.stat().st_size


@given(seed=st.integers(0, 10_000), share=st.floats(0.5, 0.95))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_repaired_genomes_keep_a_budget_of_bytes(model: Made, seed: int, share: float) -> None:
    """And leave no room for a level more."""
    space = model.space
    dense, least = (space.costs(one).file_bytes or 0 for one in (space.dense, space.smallest))
    limit = round(least + share * (dense - least))
    space = space.with_budgets((Budget("file_bytes", limit, "file"),))
    rng = np.random.default_rng(seed)
    found = repair(uniform(space, rng), space, rng)
    assert space.feasible(found)
    for index, (level, on) in enumerate(zip(found.levels, space.active(found), strict=True)):
        if level and on:
            assert not space.feasible(space.canonical(found.with_level(index, level - 1)))

"""Searches over types of few bits from the recipe to the file that llama.cpp runs."""

import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

import secateur
from secateur.fitness.bits.encoding import library
from secateur.fitness.model.checkpoint import load_model
from secateur.plans.plan import read_plan
from secateur.plans.reading import read_states
from secateur.runs.asked.reading import make_recipe
from secateur.runs.problem import build_space
from secateur.space.bits import Bits
from secateur.space.errors import SecateurError
from tests.tiny import save_text, save_tiny, tiny_recipe

CHANGES: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 4, "head_dim": 16}
LEVELS = ["Q8_0", "Q5_0", "Q4_0"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bits")
    save_tiny(folder / "model", **CHANGES)
    save_text(folder / "calibration.txt", seed=1)
    save_text(folder / "held.txt", seed=2)
    return folder


def recipe(made: Path, **changes: Any) -> dict[str, Any]:
    asked: dict[str, Any] = {
        "genes": [
            {"kind": "attention"},
            {"kind": "bits", "per": "sublayer", "levels": LEVELS},
            {"kind": "bits", "of": "embedding", "levels": LEVELS},
        ],
        "budgets": {"weight_bytes": "<= 0.2x"},
        "quantizer": "nearest",
        "strategy": {"name": "surrogate", "sequences": 2},
        "effort": {"tokens": 4000},
        "baselines": ["uniform-bits"],
    }
    return tiny_recipe(made / "model", made / "calibration.txt", made / "held.txt", **(asked | changes))


@pytest.fixture(scope="module")
def run(made: Path) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECATEUR_CACHE", str(made / "cache"))
        return secateur.run(recipe(made), made / "run")


def test_the_answer_keeps_the_bytes_that_its_file_has(run: Any, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan's bytes are those of the file's tensors: packed ones as they are, the others in the model's type."""
    monkeypatch.setenv("SECATEUR_CACHE", str(made / "cache"))
    found = run.summary.rows[0]
    assert found.costs["weight_bytes"] <= 0.2 * run.summary.dense_costs["weight_bytes"]
    run.export("gguf", made / "gguf", vocabulary="none")
    tensors = gguf.GGUFReader(made / "gguf" / "model.gguf").tensors
    packed = [one for one in tensors if one.tensor_type.name in LEVELS]
    plan = read_plan(made / "gguf" / "plan.json")
    asked = [*plan.outside.values(), *(level for layer in plan.layers for level in layer.treated.values())]
    assert list(plan.outside) == ["model.embed_tokens"]
    assert sorted(one.tensor_type.name for one in packed) == sorted(level.removeprefix("bits:") for level in asked)
    assert sum(int(one.n_bytes) for one in tensors) == found.costs["weight_bytes"]


def test_llama_cpp_computes_what_the_checkpoint_does(run: Any, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same weights in a checkpoint, taken apart, and in a GGUF, packed; llama.cpp rounds activations to 8 bits."""
    llama_cpp = pytest.importorskip("llama_cpp")
    monkeypatch.setenv("SECATEUR_CACHE", str(made / "cache"))
    run.export("hf", made / "hf")
    run.export("gguf", made / "gguf2", vocabulary="none")
    ids = [5, 9, 33, 71, 20, 8, 44, 61, 12, 90, 3, 17]
    with torch.inference_mode():
        wanted = load_model(str(made / "hf"))(torch.tensor([ids])).logits[0].numpy()
    loaded = llama_cpp.Llama(str(made / "gguf2" / "model.gguf"), n_ctx=64, logits_all=True, verbose=False)
    loaded.eval(ids)
    got = np.array(loaded.scores[: len(ids)])
    loaded.close()
    assert np.abs(got - wanted).max() < 0.05 * np.abs(wanted).max()


def test_a_plan_is_read_back_as_the_genome(run: Any, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_CACHE", str(made / "cache"))
    run.export("plan", made / "plan")
    again = secateur.run(
        recipe(made, baselines=[str(next((made / "plan").glob("*.json")))], strategy={"name": "random"}),
        made / "again",
    )
    theirs = next(row for row in again.summary.rows if row.name not in ("found", "dense"))
    assert theirs.genome == run.summary.rows[0].genome


@pytest.mark.parametrize("form", ["plan", "json", "yaml", "csv"])
def test_bare_profiles_give_the_types_back(
    run: Any, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setenv("SECATEUR_CACHE", str(made / "cache"))
    run.export(form, tmp_path / form)
    [file] = (tmp_path / form).iterdir()
    space = build_space(make_recipe(recipe(made)))
    states = space.states(run.summary.rows[0].genome)
    assert read_states(file, space.anatomy) == states
    if form == "json":
        rows = json.loads(file.read_text())["layers"]
        assert not any(row["sparsity"] for row in rows)
        assert any(row.get("treated") for row in rows)


def test_whole_types_stand_beside_the_answer(run: Any, made: Path) -> None:
    space = build_space(make_recipe(recipe(made)))
    uniform = next(row for row in run.summary.rows if row.name == "uniform-bits")
    states = space.states(uniform.genome)
    assert len({level for state in states for level in state.treated.values()}) == 1
    assert all(isinstance(level, Bits) for state in states for level in state.treated.values())


def test_the_same_recipe_gives_the_same_answer(
    run: Any, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path / "cache"))
    again = secateur.run(recipe(made), tmp_path / "run")
    assert again.summary.rows[0].genome == run.summary.rows[0].genome
    shutil.rmtree(tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"genes": [{"kind": "bits", "levels": ["Q4_K_M"]}]}, "did you mean 'Q4_K'"),
        ({"genes": [{"kind": "bits", "levels": ["Q4_K"]}]}, "64 inputs are no multiple of 256"),
        ({"genes": [{"kind": "bits", "levels": []}]}, r"\[Q8_0, Q5_0, Q4_0\]"),
        ({"genes": [{"kind": "bits", "levels": ["IQ2_S or other"]}]}, "IQ2_S needs an importance matrix"),
        ({"quantizer": "best"}, "quantizer"),
        (
            {
                "genes": [
                    {"kind": "mlp", "levels": [256, 240]},
                    {"kind": "bits", "per": "sublayer", "levels": ["Q8_0"]},
                ]
            },
            "Q8_0 does not fit a width of 240 inputs; set 'multiple_of' to a multiple of 32",
        ),
        (
            {
                "genes": [
                    {"kind": "sparsity", "per": "sublayer", "levels": [0.5]},
                    {"kind": "bits", "per": "sublayer", "levels": ["Q8_0"]},
                ]
            },
            "covered by both",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str
) -> None:
    monkeypatch.setenv("SECATEUR_CACHE", str(made / "cache"))
    with pytest.raises(SecateurError, match=message):
        secateur.run(recipe(made, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_types_of_what_a_format_has_in_one_tensor_are_searched_together(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """llama.cpp's openelm has queries, keys and values as one."""
    monkeypatch.setenv("SECATEUR_CACHE", str(made / "cache"))
    save_tiny(tmp_path / "qwen3", "qwen3", tie_word_embeddings=True, **CHANGES)
    own: dict[str, Any] = {"model": {"path": str(tmp_path / "qwen3")}, "target": "gguf"}
    genes = [{"kind": "bits", "per": "linear", "levels": LEVELS}]
    with pytest.raises(SecateurError, match=r"nothing to decide for bits@\d.self_attn.\w_proj.*per: sublayer"):
        build_space(make_recipe(recipe(made, genes=genes, **own)))
    genes = [{"kind": "bits", "per": "sublayer", "levels": LEVELS}]
    assert len(build_space(make_recipe(recipe(made, genes=genes, **own))).genes) == 8


def test_levels_are_shown_by_their_types(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_CACHE", str(made / "cache"))
    labels = [labels for kind, _, labels, _ in secateur.describe(recipe(made)).kinds if kind == "bits"]
    assert labels == ["dense, Q8_0, Q5_0, Q4_0"]


@pytest.mark.skipif(library() is None, reason="needs ggml's library: make test has it")
def test_workers_make_the_same_of_types_that_need_the_library(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, Any] = {
        "genes": [{"kind": "bits", "per": "linear", "levels": ["Q8_0", "Q4_K or other", "Q3_K or other"]}],
        "quantizer": "importance",
    }
    found = []
    for workers in (1, 2):
        monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path / f"cache{workers}"))
        done = secateur.run(recipe(made, workers=workers, **changes), tmp_path / f"run{workers}")
        found.append((done.summary.rows[0].genome, done.summary.rows[0].scores))
    assert found[0][0] == found[1][0]
    assert str(found[0][1]) == str(found[1][1])


def test_latency_with_types_is_that_of_the_whole_file(made: Path, tmp_path: Path) -> None:
    """A table has shapes alone; what was chosen is written with its types and timed in llama.cpp, beside the dense
    file. Of types alone a table says nothing, and a latency that they are to keep is refused."""
    pytest.importorskip("llama_cpp")
    genes = [{"kind": "mlp", "levels": [256, 128, 64]}, {"kind": "bits", "per": "sublayer", "levels": ["Q8_0", "Q4_0"]}]
    timed = {"device": "llama.cpp", "prefill": 16, "decode": 8, "quick": True}
    asked = recipe(
        made, genes=genes, budgets={"latency": "<= 10s", "weight_bytes": "0.5x"}, latency=timed, baselines=[]
    )
    run = secateur.run(asked, tmp_path / "run")
    found = run.summary.rows[0]
    assert found.measured is not None
    assert found.measured.device == "llama.cpp"
    assert any(level for state in run.plan().layers for level in state.treated.values())
    with pytest.raises(
        (SecateurError, ValueError), match="does not change with zeros in dense matrices or with fewer bits"
    ):
        secateur.run(asked | {"genes": genes[1:]}, tmp_path / "other")

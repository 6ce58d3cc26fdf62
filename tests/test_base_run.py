"""Runs on top of a plan: prune, then quantize, and all that is told and written of it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import secateur
from secateur.fitness.model.checkpoint import load_model
from secateur.plans.plan import read_plan
from secateur.runs.problem import space_of
from secateur.runs.record.folder import RunFolder
from secateur.runs.report.rows import origin_of
from secateur.runs.stages.exporting import export_plan
from secateur.runs.stages.tasks import picked
from secateur.space.errors import SecateurError
from tests.tiny import save_text, save_tiny, tiny_recipe

BITS = {"kind": "bits", "per": "sublayer", "levels": ["int8", "int4", "int2"]}
QUANTIZED: dict[str, Any] = {
    "genes": [BITS, {"kind": "bits", "of": "embedding", "levels": BITS["levels"]}],
    "budgets": {"weight_bytes": "<= 0.2x"},
    "quantizer": "gptq",
    "strategy": {"name": "surrogate", "sequences": 2},
    "effort": {"tokens": 6000},
    "baselines": ["uniform-bits", "target-bpw"],
}
PRUNED: dict[str, Any] = {
    "genes": [{"kind": "attention"}, {"kind": "mlp", "levels": [48, 32, 16, 0]}],
    "budgets": {"block_parameters": "<= 0.6x"},
    "strategy": {"name": "surrogate", "sequences": 2},
    "effort": {"tokens": 6000},
    "baselines": [],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bases")
    save_tiny(folder / "model")
    save_tiny(folder / "other", seed=1)
    save_text(folder / "calibration.txt", seed=1)
    save_text(folder / "held.txt", seed=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECATEUR_CACHE", str(folder / "cache"))
        secateur.run(recipe(folder, **PRUNED), folder / "pruned").plan().write(folder / "pruned.json")
    return folder


@pytest.fixture(autouse=True)
def _cache(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_CACHE", str(made / "cache"))


def recipe(made: Path, model: str = "model", **changes: Any) -> dict[str, Any]:
    return tiny_recipe(made / model, made / "calibration.txt", made / "held.txt", **changes)


def test_pruned_then_quantized(made: Path, tmp_path: Path) -> None:
    """What is found has the pruned plan's structure, is scored against the dense model, and can be written when the
    base's file is gone."""
    (tmp_path / "base.json").write_text((made / "pruned.json").read_text())
    run = secateur.run(recipe(made, **QUANTIZED, base=str(tmp_path / "base.json")), tmp_path / "run")
    below, plan = read_plan(made / "pruned.json"), run.plan()
    assert [layer.kept for layer in plan.layers] == [layer.kept for layer in below.layers]
    assert any(layer.treated for layer in plan.layers)
    rows = {row.name: row for row in run.summary.rows}
    assert {"found", "uniform-bits", "base"} <= rows.keys()
    # The base is the pruned plan, number for number; shares are of the dense model.
    for text, scores in below.scores.items():
        assert rows["base"].scores[text]["kl"].mean == pytest.approx(scores["kl"].mean, abs=1e-9)
    assert run.summary.dense_costs["parameters"] == below.dense_costs["parameters"]
    assert rows["found"].costs["weight_bytes"] <= 0.2 * below.dense_costs["weight_bytes"]
    assert rows["base"].costs["parameters"] == below.costs["parameters"]
    (tmp_path / "base.json").unlink()
    assert plan.base is not None
    assert plan.base == below
    run.export("plan", tmp_path / "out")
    export_plan(read_plan(tmp_path / "out" / "plan.json"), "hf", tmp_path / "checkpoint")
    written = json.loads((tmp_path / "checkpoint" / "plan.json").read_text())
    assert written["base"]["name"] == below.name
    with RunFolder.open(tmp_path / "run", writing=False) as folder:
        again = space_of(folder)
    assert again.states(rows["found"].genome) == tuple(plan.states(again.anatomy))
    secateur.resume(run.path)
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert ">base<" in page


def test_a_model_with_zeros_of_its_own_is_counted_on_top(made: Path, tmp_path: Path) -> None:
    """What the report says of found and base is what they cost, not the dense model."""
    model = load_model(str(made / "model"))
    for name, parameter in model.named_parameters():
        if name.endswith("_proj.weight"):
            parameter.data[:, ::2] = 0
    shutil.copytree(made / "model", tmp_path / "model")
    model.save_pretrained(tmp_path / "model")  # type: ignore[operator]
    (tmp_path / "drop.json").write_text("[2]")
    genes = [{"kind": "attention"}, {"kind": "mlp"}]
    asked = tiny_recipe(tmp_path / "model", made / "calibration.txt", made / "held.txt", genes=genes)
    asked |= {"base": str(tmp_path / "drop.json"), "budgets": {"parameters": "0.8x"}}
    run = secateur.run(asked, tmp_path / "run")
    found, base = run.summary.rows[0], run.summary.rows[-1]
    assert base.name == "base"
    assert found.costs["parameters"] <= 0.8 * run.summary.dense_costs["parameters"]
    assert found.costs["parameters"] <= base.costs["parameters"] < run.summary.dense_costs["parameters"]
    assert base.costs["linear_weights"] < 0.8 * run.summary.dense_costs["linear_weights"]
    with RunFolder.open(run.path, writing=False) as folder:
        assert set(picked(folder, space_of(folder), ["found", origin_of(folder.recipe)])) == {"found", "base"}


def test_a_narrower_stream_below(made: Path, tmp_path: Path) -> None:
    """Alone, without any other width: bits on top of it."""
    stream = {"genes": [{"kind": "hidden", "levels": [32, 24]}], "budgets": {"parameters": "0.9x"}}
    below = secateur.run(recipe(made, **{**PRUNED, **stream}), tmp_path / "one").plan()
    assert below.hidden is not None
    below.write(tmp_path / "one.json")
    run = secateur.run(recipe(made, **{**QUANTIZED, "base": str(tmp_path / "one.json")}), tmp_path / "two")
    plan = run.plan()
    assert plan.hidden == below.hidden
    run.export("hf", tmp_path / "small")
    base = next(row for row in run.summary.rows if row.name == "base")
    assert base.scores["held"]["kl"].mean == pytest.approx(below.scores["held"]["kl"].mean, abs=1e-6)


def test_widths_of_some_layers_are_timed_in_all(made: Path, tmp_path: Path) -> None:
    """With repairs, which are made for the layers that have such widths."""
    (tmp_path / "drop.json").write_text("[1]")
    changes: dict[str, Any] = {
        "widths": {"order": "magnitude", "repair": "least-squares"},
        "genes": [{"kind": "mlp", "levels": [48, 16]}],
        "latency": {"device": "cpu", "quick": True, "prefill": 16, "decode": 0},
        "budgets": {"latency": "<= 10s", "parameters": "0.8x"},
        "base": str(tmp_path / "drop.json"),
    }
    run = secateur.run(recipe(made, **changes), tmp_path / "run")
    found = run.summary.rows[0]
    assert found.costs["latency"] < run.summary.dense_costs["latency"]


@pytest.mark.parametrize("first", ["zeros", "cuts"])
def test_zeros_and_cuts_one_after_the_other(made: Path, tmp_path: Path, first: str) -> None:
    """Either on top of the other, with repaired widths; what comes out keeps what was below, and is written."""
    made_so: dict[str, Any] = {"widths": {"order": "output-error", "repair": "least-squares"}, "baselines": []}
    asked: dict[str, dict[str, Any]] = {
        "zeros": {"genes": [{"kind": "sparsity", "per": "sublayer", "levels": [0.3, 0.5, "2:4"]}]},
        "cuts": {"genes": [{"kind": "attention"}, {"kind": "mlp", "levels": "step 8"}]},
    }
    then = next(name for name in asked if name != first)
    search: dict[str, Any] = {"strategy": {"name": "surrogate", "sequences": 2}, "effort": {"tokens": 5000}}
    half: dict[str, Any] = {"budgets": {"linear_weights": "0.75x"}}
    below = secateur.run(recipe(made, **made_so, **search, **asked[first], **half), tmp_path / "one").plan()
    below.write(tmp_path / "one.json")
    on_top: dict[str, Any] = {"base": str(tmp_path / "one.json"), "budgets": {"linear_weights": "0.5x"}}
    run = secateur.run(recipe(made, **made_so, **search, **asked[then], **on_top), tmp_path / "two")
    plan, found = run.plan(), run.summary.rows[0].costs
    assert found["linear_weights"] <= 0.5 * below.dense_costs["linear_weights"]
    for layer, before in zip(plan.layers, below.layers, strict=True):
        if first == "cuts":
            assert layer.kept == before.kept
        else:
            assert layer.sparsity.items() <= before.sparsity.items()
    checkpoint = run.export("hf", tmp_path / "small")
    weights = load_file(Path(checkpoint) / "model.safetensors")
    zeros = sum(int((one == 0).sum()) for name, one in weights.items() if name.endswith("_proj.weight"))
    assert zeros > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base": "nowhere.json"}, r"base: there is no file .*nowhere\.json"),
        ({"genes": [{"kind": "mlp", "levels": [48, 24]}]}, r"already, and gene mlp@\d+ decides on them"),
        ({"widths": {"order": "magnitude"}}, r"made in another way; write widths: \{order: output-error"),
        ({"model": "other"}, r"base: its model is not .*other, but one with other weights"),
        ({"budgets": {"weight_bytes": "0.2x", "perplexity": "<= 1.5x"}}, "shares are of the dense model"),
    ],
)
def test_what_does_not_fit_is_said_before_anything(
    made: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    asked = QUANTIZED | {"base": str(made / "pruned.json")} | changes
    model = asked.pop("model", "model")
    with pytest.raises((SecateurError, ValueError), match=message):
        secateur.run(recipe(made, model, **asked), tmp_path / "run")
    assert not (tmp_path / "run").exists()

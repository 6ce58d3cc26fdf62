"""The command line end to end on a tiny model: what works, and what is refused with one message and nothing left."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
import yaml
from safetensors.torch import load_file

import secateur
from secateur.__main__ import main
from secateur.plans.plan import SCHEMA_FILE, read_plan, schema
from secateur.runs.stages.exporting import import_plan
from secateur.space.errors import SecateurError
from tests.program import Ended, forked
from tests.test_kill_and_resume import record
from tests.tiny import save_tiny, tiny_recipe


def command(*arguments: object, cwd: Path | None = None, **environment: str) -> Ended:
    return forked(*arguments, cwd=cwd, environment=environment)


@dataclass(frozen=True)
class Refusal:
    returncode: int
    stderr: str


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> Refusal:
    """The command line in this process, for the many ways to be refused."""
    monkeypatch.setattr(sys, "argv", ["secateur", *map(str, arguments)])
    capsys.readouterr()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(SystemExit) as end:
            main()
    finally:  # it ends a process; this one goes on, and starts others that are to be stopped
        for number, handler in before.items():
            signal.signal(number, handler)
    return Refusal(int(end.value.code or 0), capsys.readouterr().err)


def write(path: Path, recipe: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(recipe))
    return path


MIXED = [
    {"kind": "attention", "levels": [2, 1, 0]},
    {"kind": "queries", "levels": "2 levels to 1"},
    {"kind": "mlp", "levels": "4 levels", "multiple_of": 8},
    {"kind": "block"},
    {"kind": "hidden", "levels": [1.0, 0.75], "multiple_of": 8},
    {"kind": "sparsity", "per": "sublayer", "levels": [0.25, 0.5, "2:4"]},
]


@pytest.fixture(scope="module")
def finished(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run over every kind of gene, with every baseline."""
    folder = tmp_path_factory.mktemp("finished")
    recipe = tiny_recipe(
        tiny / "model",
        tiny / "calibration.txt",
        tiny / "held.txt",
        genes=MIXED,
        budgets={"linear_weights": "0.7x", "block_parameters": "0.9x"},
        strategy={"name": "evopress", "initial": ["knapsack"], "warm": {"name": "knapsack", "sequences": 2}},
        effort={"tokens": 6000},
        baselines="all",
    )
    result = command(
        "search", write(folder / "r.yaml", recipe), "--out", folder / "run", SECATEUR_CACHE=str(folder / "c")
    )
    assert result.returncode == 0, result.stderr
    first = result.stdout.splitlines()[1]
    assert first.startswith("The found plan"), result.stdout
    return folder


def test_a_run_leaves_report_plans_and_journal(finished: Path) -> None:
    run = finished / "run"
    assert {path.name for path in run.iterdir()} == {".lock", "journal.sqlite", "plans", "recipe.yaml", "report"}
    names = {path.stem for path in (run / "plans").iterdir()}
    assert {"found", "knapsack", "greedy", "random", "flap", "uniform-width", "multipruner"} <= names
    html = (run / "report" / "index.html").read_text()
    assert html.count('class="plotly-graph-div"') == 3
    assert not re.search(r"""<(script|img|link|iframe)[^>]+(src|href)=["']?(https?:|//)""", html), "self-contained"
    assert all(
        (run / "report" / f"{name}.png").stat().st_size > 1000 for name in ("profile", "search", "comparison", "costs")
    )


def test_plans_keep_the_budgets_and_the_published_schema(finished: Path) -> None:
    assert json.loads(SCHEMA_FILE.read_text()) == schema(), "run python -m secateur.plans.plan"
    for path in (finished / "run" / "plans").iterdir():
        values = json.loads(path.read_text())
        jsonschema.validate(values, schema())
        assert all(values["costs"][cost] <= limit for cost, limit in values["budgets"].items())
        plan = read_plan(path)
        assert plan.scores["held"]["kl"].sequences == 5
        assert sum(layer.removed for layer in plan.layers) == sum(
            not layer.kept["groups"].kept and not layer.kept["channels"].kept for layer in plan.layers
        )


def test_report_can_be_rebuilt_without_the_model(finished: Path) -> None:
    page = finished / "run" / "report" / "index.html"
    before = page.read_text()
    page.unlink()
    (finished / "model-gone").mkdir(exist_ok=True)
    result = command("report", finished / "run", SECATEUR_CACHE=str(finished / "empty"))
    assert result.returncode == 0, result.stderr
    assert page.read_text() == before


def test_resuming_a_finished_run_evaluates_nothing(finished: Path) -> None:
    before = (finished / "run" / "journal.sqlite").read_bytes()
    result = command("resume", finished / "run", SECATEUR_CACHE=str(finished / "c"))
    assert result.returncode == 0, result.stderr
    assert (finished / "run" / "journal.sqlite").read_bytes() == before


LOAD = """
import sys, torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=sys.argv[2] == "remote").eval()
ids = torch.arange(3, 15)[None]
with torch.no_grad():
    logits = model(ids).logits
    cached = model.generate(ids, max_new_tokens=5, do_sample=False)
    plain = model.generate(ids, max_new_tokens=5, do_sample=False, use_cache=False)
assert torch.equal(cached, plain)
model.save_pretrained(sys.argv[1] + "-again")
save_file({"logits": logits}, sys.argv[3])
print(type(model).__name__, sum(p.numel() for p in model.parameters()))
"""


@pytest.mark.parametrize("family", ["llama", "gemma2", "opt", "gpt2", "gpt_neox", "qwen3", "phi3", "olmo2"])
@pytest.mark.parametrize("drops", ["blocks", "sublayers"])
def test_exported_checkpoints_load_in_a_fresh_process(family: str, drops: str, tmp_path: Path) -> None:
    from secateur.fitness.model.blocks import Blocks
    from secateur.fitness.model.checkpoint import anatomy_of, load_model, load_tokenizer
    from secateur.fitness.subnets.materialise import materialised
    from secateur.fitness.subnets.weights import Weights
    from secateur.plans.checkpoint.hf import export_hf
    from secateur.plans.layers import layers
    from secateur.plans.plan import Plan
    from secateur.space.space import Space
    from tests.tiny import mixed_genes

    save_tiny(tmp_path / "model", family)
    model = load_model(str(tmp_path / "model"))
    shape = anatomy_of(model)
    space = Space(shape, mixed_genes(shape))
    genome = space.from_json({"block@3": 0} if drops == "blocks" else {"attention@2": 0, "mlp@0": 0, "block@3": 0})
    states = space.states(genome)
    plan = Plan.model_validate(
        {
            "name": "test",
            "model": {"path": "m", "family": family, "digest": "d", "dtype": "float32", "layers": 4},
            "pruner": None,
            "layers": [layer.model_dump() for layer in layers(shape, states, None)],
            "costs": space.costs(genome).to_json(),
            "dense_costs": space.dense_costs.to_json(),
            "budgets": {},
            "scores": {},
            "texts": {},
            "genome": space.to_json(genome),
            "seed": 0,
            "recipe_digest": "r",
            "recipe": {},
        }
    )
    out = tmp_path / "out"
    export_hf(plan, model, load_tokenizer(str(tmp_path / "model")), shape, Weights(Blocks(model, shape)), out)
    mode = "plain" if drops == "blocks" else "remote"
    result = subprocess.run(
        [sys.executable, "-c", LOAD, str(out), mode, str(tmp_path / "logits.safetensors")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")},
    )
    assert result.returncode == 0, result.stderr
    name, count = result.stdout.split()
    assert int(count) == space.costs(genome).parameters
    assert name.startswith("Secateur") == (drops == "sublayers")
    expected = materialised(model, shape, states, Weights(Blocks(model, shape)))(torch.arange(3, 15)[None]).logits
    assert torch.equal(load_file(tmp_path / "logits.safetensors")["logits"], expected)
    config = json.loads((out / "config.json").read_text())
    if drops == "sublayers":
        assert config["model_type"] == f"secateur_{family}"
        assert config["per_layer_config"] == {"0": {"skip": ["mlp"]}, "2": {"skip": ["attention"]}}
        assert config["auto_map"]["AutoModelForCausalLM"].startswith("modeling_secateur.Secateur")
    assert "| 3 | removed | removed |" in (out / "README.md").read_text()
    assert {file.stat().st_mode & 0o777 for file in out.iterdir()} == {0o644}
    assert read_plan(out / "plan.json") == plan


def test_a_checkpoint_of_our_own_type_needs_us_or_its_code(tmp_path: Path) -> None:
    """Stock llama would load a checkpoint with dropped sublayers and fill the gaps at random, without a word."""
    from secateur.fitness.model.blocks import Blocks
    from secateur.fitness.model.checkpoint import anatomy_of, load_model
    from secateur.fitness.subnets.weights import Weights
    from secateur.plans.checkpoint.hf import save
    from secateur.space.space import Space
    from tests.tiny import mixed_genes

    model = load_model(str(save_tiny(tmp_path / "model")))
    shape = anatomy_of(model)
    space = Space(shape, mixed_genes(shape))
    (tmp_path / "out").mkdir()
    save(model, shape, space.states(space.from_json({"mlp@1": 0})), Weights(Blocks(model, shape)), tmp_path / "out")
    outcomes = {}
    for how, first in (("alone", ""), ("with secateur", "import secateur")):
        result = subprocess.run(
            [sys.executable, "-c", first + LOAD, str(tmp_path / "out"), "plain", str(tmp_path / "logits")],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")},
        )
        outcomes[how] = (result.returncode, result.stderr)
    assert outcomes["with secateur"][0] == 0, outcomes["with secateur"][1]
    assert outcomes["alone"][0] != 0
    assert "trust_remote_code" in outcomes["alone"][1]


def test_export_of_a_run(finished: Path, tmp_path: Path) -> None:
    cache = str(finished / "c")
    result = command("export", finished / "run", "--to", "hf", "--out", tmp_path / "hf", SECATEUR_CACHE=cache)
    assert result.returncode == 0, result.stderr
    plan = read_plan(tmp_path / "hf" / "plan.json")
    weights: dict[str, torch.Tensor] = {}
    for file in (tmp_path / "hf").glob("*.safetensors"):
        weights |= load_file(file)
    inside = [tensor for name, tensor in weights.items() if ".layers." in name and tensor.dim() == 2]
    assert sum(int((tensor != 0).sum()) for tensor in inside) == plan.costs["linear_weights"]
    result = command("export", finished / "run", "--to", "plan", "--pick", "greedy", "--out", tmp_path / "p")
    assert result.returncode == 0, result.stderr
    assert read_plan(tmp_path / "p" / "plan.json").name == "greedy"


def test_a_plan_file_goes_where_its_run_goes(finished: Path, tmp_path: Path) -> None:
    """Exported from the file as from the run; another tool's file comes back as a plan, and on to a third tool."""
    cache, file = str(finished / "c"), finished / "run" / "plans" / "found.json"
    listed = command("export", file, "--list")
    assert listed.returncode == 0, listed.stderr
    assert "no: layer" in listed.stdout
    for source, out in ((finished / "run", "a"), (file, "b")):
        for form in ("hf", "json"):
            result = command("export", source, "--to", form, "--out", tmp_path / out / form, SECATEUR_CACHE=cache)
            assert result.returncode == 0, result.stderr
    for name in ("hf/model.safetensors", "json/profile.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    model = read_plan(file).model.path
    plan = tmp_path / "imported.json"
    result = command("import", tmp_path / "a" / "json" / "profile.json", "--model", model, "--out", plan)
    assert result.returncode == 0, result.stderr
    known = {"parameters", "nonzero_parameters", "linear_weights"}
    assert {name: read_plan(plan).costs[name] for name in known} == {
        name: read_plan(file).costs[name] for name in known
    }
    half = import_plan(tmp_path / "a" / "json" / "profile.json", model, tmp_path / "half.json", "bfloat16")
    assert 2 * half.costs["weight_bytes"] == read_plan(plan).costs["weight_bytes"]
    with pytest.raises(SecateurError, match="--dtype bfloat; did you mean 'bfloat16'"):
        import_plan(plan, model, tmp_path / "no.json", "bfloat")
    result = command("export", plan, "--to", "yaml", "--out", tmp_path / "yaml")
    assert result.returncode == 0, result.stderr
    result = command("export", plan, "--to", "hf", "--out", tmp_path / "hf")
    assert result.returncode == 2
    assert "how much is kept and not what" in result.stderr
    result = command("import", plan, "--model", model, "--out", plan)
    assert result.returncode == 2
    assert "exists; --out names another file" in result.stderr


def test_a_gguf_of_a_run_has_the_sizes_of_its_plan_or_is_not_there(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gguf

    from secateur.plans.checkpoint import gguf as writing
    from secateur.runs.stages import exporting

    monkeypatch.setenv("SECATEUR_CACHE", str(finished / "c"))
    plan = read_plan(finished / "run" / "plans" / "found.json")
    with pytest.raises(SecateurError, match="--vocabulary none writes a file that takes token ids alone"):
        exporting.export_plan(plan, "gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    exporting.export_plan(plan, "gguf", tmp_path / "out", options={"vocabulary": "none"})
    reader = gguf.GGUFReader(tmp_path / "out" / "model.gguf")
    kept = [layer for layer in plan.layers if not layer.removed]
    assert reader.fields["deci.block_count"].contents() == len(kept)
    assert reader.fields["deci.attention.head_count_kv"].contents() == [layer.kept["groups"].kept for layer in kept]
    down = {tensor.name: tensor for tensor in reader.tensors if tensor.name.endswith("ffn_down.weight")}
    zeros = sum(int((tensor.data == 0).sum()) for tensor in down.values())
    assert (zeros > 0) == any(layer.sparsity or not layer.kept["channels"].kept for layer in kept)

    def broken(*arguments: Any) -> None:
        arguments[4].write_bytes(b"half")
        raise SecateurError("disk full")

    monkeypatch.setattr(writing, "write_gguf", broken)
    with pytest.raises(SecateurError, match="disk full"):
        exporting.export_plan(plan, "gguf", tmp_path / "half", options={"vocabulary": "none"})
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_plan_file_cannot_say_that_remote_code_may_run(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from secateur.runs import workplace
    from secateur.runs.stages import exporting

    asked = []

    def load(recipe: Any, *_: Any) -> None:
        asked.append(recipe.model.trust_remote_code)
        raise SecateurError("enough")

    monkeypatch.setattr(workplace, "workplace_of", load)
    values = json.loads((finished / "run" / "plans" / "found.json").read_text())
    values["recipe"]["model"]["trust_remote_code"] = True
    (tmp_path / "p.json").write_text(json.dumps(values))
    for trusted in (False, True):
        with pytest.raises(SecateurError, match="enough"):
            exporting.export_plan(read_plan(tmp_path / "p.json"), "hf", tmp_path / "out", trusted)
    assert asked == [False, True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "ggf", "--out", "x"], "--to ggf; did you mean 'gguf'?"),
        (["--to", "mergekit", "--out", "x"], "--to mergekit: layer "),
        (["--to", "json"], "say --to FORMAT and --out FOLDER, or --list"),
        (
            ["--to", "plan", "--out", "x", "--pick", "fond"],
            "--pick fond: this run has no such plan; did you mean 'found'?",
        ),
        (["--to", "plan", "--out", "run"], "run exists; --out names another folder"),
    ],
)
def test_refused_exports(arguments: list[str], message: str, finished: Path) -> None:
    result = command("export", finished / "run", *arguments, cwd=finished)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_export_needs_the_order_that_was_searched(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan names heads and channels by the journal's order; other weights must not go with it."""
    from secateur.fitness.bench import Bench

    genes = [{"kind": "mlp", "levels": "3 levels"}]
    recipe = tiny_recipe(tiny / "model", tiny / "calibration.txt", genes=genes, budgets={"block_parameters": "0.8x"})
    made = secateur.run(recipe, out=tmp_path / "run")
    orders = Bench.kept_orders

    def others(bench: Bench) -> dict[str, Any]:
        found = orders(bench)
        return {**found, "channels": [row[::-1] for row in found["channels"]]}

    monkeypatch.setattr(Bench, "kept_orders", others)
    with pytest.raises(SecateurError, match="come in another order than when the run was made"):
        made.export(to="hf", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention": {"kept": 3, "of": 2}}, "plan, layer 1: attention keeps 3 of 2, but the model has 2"),
        ({"mlp": {"kept": 8, "of": 64}}, "plan, layer 1: mlp keeps 8 of 64, but the model has 48"),
        ({"queries": {"kept": 0, "of": 2}}, "plan, layer 1: queries keeps 0 of 2"),
        ({"hidden": {"kept": 40, "of": 32}}, "plan: a residual width of 40 does not fit a model of 32"),
    ],
)
def test_plans_that_do_not_fit_the_model(change: dict[str, Any], message: str, finished: Path) -> None:
    from tests.tiny import anatomy_for

    values = json.loads((finished / "run" / "plans" / "found.json").read_text())
    if "hidden" in change:
        values |= change
    else:
        values["layers"][1] |= change
    (finished / "changed.json").write_text(json.dumps(values))
    with pytest.raises(SecateurError, match=message):
        read_plan(finished / "changed.json").states(anatomy_for())


def test_export_of_a_sparse_plan_needs_the_text_it_was_scored_with(tiny: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text((tiny / "calibration.txt").read_text())
    genes = [{"kind": "sparsity", "per": "block", "levels": [0.5]}]
    recipe = tiny_recipe(tiny / "model", text, genes=genes, budgets={"linear_weights": "0.8x"})
    made = secateur.run(recipe, out=tmp_path / "run")
    text.write_text((tiny / "held.txt").read_text())
    with pytest.raises(SecateurError, match="is not the one the run was made with"):
        made.export(to="hf", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_space_needs_no_weights(tiny: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_text((tiny / "model" / "config.json").read_text())
    recipe = write(
        tmp_path / "r.yaml", tiny_recipe(bare, tiny / "calibration.txt", genes=MIXED, strategy={"name": "knapsack"})
    )
    result = command("space", recipe)
    assert result.returncode == 0, result.stderr
    for wanted in (
        "24 genes",
        "attention",
        "0.25, 0.5, 2:4",
        "Budgets can be kept.",
        "kv_bytes",
        "Estimated time",
        "tokens",
    ):
        assert wanted in result.stdout


BAD: list[tuple[dict[str, Any], str]] = [
    ({"budget": {}}, "budget: unknown key; did you mean 'budgets'?"),
    ({"budgets": {"block_parameters": "0.01x"}}, "the least this space can reach"),
    ({"budgets": {"flops": "0.5x"}}, "unknown cost 'flops'"),
    ({"genes": [{"kind": "mlp", "levels": [40, 0], "multiple_of": 16}]}, "mlp, layer 0: level 40 is no multiple of"),
    (
        {"genes": [{"kind": "mlp", "levels": [0.5], "multiple_of": 64}]},
        "multiple_of 64 leaves no width between 48 channels",
    ),
    (
        {"genes": [{"kind": "mlp", "levels": [[24, 0], [12, 0]]}]},
        "mlp: 2 entries in 'levels' for 4 layers; write one list",
    ),
    ({"genes": [{"kind": "attention", "levels": [4, 2]}]}, "attention, layer 0: level 4, but there are 2 KV groups"),
    (
        {"genes": [{"kind": "mlp", "levels": [30]}, {"kind": "sparsity", "levels": ["2:4"], "per": "block"}]},
        "mlp.down_proj: the pattern 2:4 does not fit a width of 30 inputs",
    ),
    (
        {"genes": [{"kind": "hidden", "levels": ["all"]}]},
        "hidden: cannot read level 'all'; write a count, a share or 0",
    ),
    (
        {"genes": [{"kind": "mlp", "levels": [True]}]},
        "genes.0.levels: cannot read level True; write counts, shares, or one",
    ),
    ({"model": {"path": "./nowhere"}}, "there is no such folder"),
    ({"model": {"path": "package:no-such-package"}}, "is not installed"),
    ({"calibration": {"source": "gone.txt"}}, "there is no such file"),
    ({"calibration": {"source": "TEXT", "sequences": 5000, "length": 16}}, "too short: 5000 sequences"),
    ({"calibration": {"source": "TEXT", "sequences": 2, "length": 128}}, "more than the model's 64 positions"),
    ({"calibration": {"source": "TEXT", "length": 16, "positions": 17}}, "17 are more than the 15 with a next token"),
    ({"genes": [{"kind": "mlp", "layers": "3-7"}]}, "there is no layer 4"),
    ({"pruner": "wandaa"}, "did you mean 'wanda'?"),
    ({"model": {"path": "MODEL", "device": "cuda"}}, "torch sees no such device"),
    ({"strategy": {"name": "evopress", "schedule": "published-depth"}}, "a stage wants 32,768 tokens"),
    ({"strategy": {"name": "evopress", "initial": ["owl"]}, "effort": {"tokens": 9000}}, "has no sparsity genes"),
    ({"strategy": {"name": "knapsack"}, "effort": {"tokens": 90}}, "for its sweep of single changes"),
    (
        {
            "genes": [
                {"kind": "mlp", "per": "model", "levels": "step 1 to 1"},
                {"kind": "attention", "levels": [2, 1, 0]},
                {"kind": "block"},
            ],
            "strategy": {"name": "knapsack"},
        },
        "combinations of structured genes hang on",
    ),
    ({"strategy": {"name": "surrogate"}, "effort": {"tokens": 200}}, "surrogate needs"),
    ({"strategy": {"name": "surrogate", "initial": ["owl"]}, "effort": {"tokens": 9000}}, "has no sparsity genes"),
    ({"strategy": {"name": "surrogate", "risk": 1.5}}, "less than 1"),
    ({"strategy": {"name": "surrogate", "sizes": []}}, "sizes: must not be empty"),
    ({"strategy": {"name": "evopress", "race": 0.1, "minibatches": "fresh"}}, "set minibatches: nested"),
    ({"held_out": [{"source": "calibration.txt"}]}, "'calibration' is the name of the calibration text"),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[message[:30] for _, message in BAD])
def test_bad_input_is_one_message_and_leaves_nothing(
    changes: dict[str, Any],
    message: str,
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if "cuda" in str(changes) and torch.cuda.is_available():
        changes, message = {"model": {"path": "./nowhere"}}, "there is no such folder"
    recipe = {**tiny_recipe(tiny / "model", tiny / "calibration.txt"), **changes}
    text = yaml.safe_dump(recipe).replace("TEXT", str(tiny / "calibration.txt")).replace("MODEL", str(tiny / "model"))
    (tmp_path / "r.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    result = refused(monkeypatch, capsys, "search", tmp_path / "r.yaml", "--out", tmp_path / "run")
    assert result.returncode == 2
    assert result.stderr.startswith("secateur: ")
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert not (tmp_path / "run").exists(), "nothing half-written"


def test_unknown_family_names_the_known_ones(tmp_path: Path, tiny: Path) -> None:
    folder = tmp_path / "t5"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}')
    result = command("space", write(tmp_path / "r.yaml", tiny_recipe(folder, tiny / "calibration.txt")))
    assert result.returncode == 2
    assert "unknown model family 't5'" in result.stderr
    assert "gpt_neox" in result.stderr


def test_what_is_damaged_in_the_cache_is_made_again(tiny: Path, tmp_path: Path) -> None:
    """Truncated, and with single bits flipped: of levels, repairs, orders, bases and the teacher's answers."""
    recipe = tiny_recipe(tiny / "model", tiny / "calibration.txt", genes=MIXED, budgets={"block_parameters": "0.8x"})
    recipe |= {"strategy": {"name": "random"}, "effort": {"evaluations": 30}}
    file, cache = write(tmp_path / "r.yaml", recipe), tmp_path / "cache"

    def losses(name: str, message: bool) -> object:
        result = command("search", file, "--out", tmp_path / name, SECATEUR_CACHE=str(cache))
        assert result.returncode == 0, result.stderr
        assert ("it is made again" in result.stderr) == message, result.stderr
        return record(tmp_path / name)[0]

    expected, rng = losses("first", False), random.Random(0)
    kinds = {victim.suffixes[-2] if victim.suffixes[-2:-1] else victim.name for victim in cache.rglob("*.safetensors")}
    assert len(kinds) > 3, kinds
    for round_ in range(2):
        for victim in cache.rglob("*.safetensors"):
            content = bytearray(victim.read_bytes())
            if round_:
                content = content[: rng.randrange(len(content))]
            else:
                content[-1 - rng.randrange(8)] ^= 1 << rng.randrange(8)
            victim.write_bytes(content)
        assert losses(f"again-{round_}", True) == expected


def test_a_read_only_folder(tiny: Path, tmp_path: Path) -> None:
    """A file in the folder's place: root may write anywhere else."""
    (tmp_path / "taken").write_text("")
    recipe = write(tmp_path / "r.yaml", tiny_recipe(tiny / "model", tiny / "calibration.txt"))
    for out in (tmp_path / "taken" / "run", Path("/proc/secateur-run")):
        result = command("search", recipe, "--out", out)
        assert result.returncode == 2
        assert "cannot write" in result.stderr or "exists and is not empty" in result.stderr
    result = command("search", recipe, "--out", tmp_path / "run", SECATEUR_CACHE="/proc/none")
    assert result.returncode == 2
    assert "SECATEUR_CACHE" in result.stderr


def test_progress_is_lines_with_the_time_where_there_is_no_terminal(finished: Path, tmp_path: Path) -> None:
    cache = str(finished / "c")
    result = command("search", finished / "r.yaml", "--out", tmp_path / "run", SECATEUR_CACHE=cache)
    assert "\x1b" not in result.stdout + result.stderr
    lines = result.stderr.splitlines()
    assert "searching with evopress" in result.stderr
    assert all(re.match(r"\d\d:\d\d:\d\d \w", line) for line in lines if not line.startswith("run ")), lines
    again = command("resume", tmp_path / "run", SECATEUR_CACHE=cache)
    assert "searching" not in again.stderr, "what has come to its end is not searched again"
    assert result.stdout.endswith(again.stdout)


def test_report_shows_its_tables_where_nothing_can_be_written(finished: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished / "run", tmp_path / "run")
    shutil.rmtree(run / "report")
    (run / "report").write_text("in the way")
    result = command("report", run)
    assert result.returncode == 0
    assert result.stdout.startswith("The found plan")
    assert "the pages are as they were: cannot write" in result.stderr
    assert (run / "report").read_text() == "in the way"


def test_from_python_in_ten_lines(tiny: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(tiny / "model", tiny / "calibration.txt", tiny / "held.txt", baselines=["random"])
    run = secateur.run(recipe, out=tmp_path / "run")
    assert run.summary.finished
    assert run.plan().costs["block_parameters"] <= 0.6 * run.plan().dense_costs["block_parameters"]
    assert run.export(to="hf", out=tmp_path / "smaller").is_dir()
    assert secateur.resume(tmp_path / "run").summary.verdict == run.summary.verdict
    with pytest.raises(SecateurError, match="is a run already"):
        secateur.run(recipe, out=tmp_path / "run")


def test_import_is_light() -> None:
    program = "import secateur, sys; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"

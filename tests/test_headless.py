"""Models without a head, as those that make embeddings: every family, and whole runs on them."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModel

import secateur
from benchmarks import encoder
from secateur.fitness.model.checkpoint import anatomy_of, load_model
from secateur.fitness.model.configuration import load_config
from secateur.fitness.model.examined import model_digest
from secateur.fitness.subnets.materialise import materialised
from secateur.fitness.subnets.subnet import Subnet
from secateur.fitness.text import TextRequest
from secateur.fitness.workplace import Loaded, Workplace
from secateur.space.errors import SecateurError
from secateur.space.families.table import FAMILIES, anatomy
from secateur.space.genome import Genome
from secateur.space.space import Space
from tests.fitness.prepared import random_text
from tests.program import forked
from tests.tiny import EVERY_FAMILY, VOCABULARY, mixed_genes, model_of, save_text, save_tiny, tiny_recipe

IDS = torch.randint(3, VOCABULARY, (1, 12), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_every_family_without_its_head(family: str) -> None:
    """Anatomy, costs, the blocks one by one, subnets and smaller models are those of transformers' base model."""
    model = model_of(family, headless=True)
    shape = anatomy_of(model)
    assert shape.headless
    assert shape == anatomy(model.config.to_dict())
    space = Space(shape, mixed_genes(shape))
    assert space.dense_costs.parameters == sum(p.numel() for p in model.parameters())
    whole = anatomy(model_of(family, tie_word_embeddings=False).config.to_dict())
    lost = whole.vocabulary * (24 if family == "opt" else whole.hidden_size)
    lost += whole.hidden_size**2 if FAMILIES[family].encoder else 0
    assert shape.head_macs == whole.head_macs - lost

    bench = Loaded(model, None, shape, model_digest(model), {"calibration": random_text()}, "magnitude").prepared(space)
    random.seed(0)
    genome = space.canonical(Genome(tuple(random.randrange(len(gene.levels)) for gene in space.genes)))
    states = space.states(genome)
    smaller: Any = materialised(model, shape, states, bench.weights)
    assert sum(p.numel() for p in smaller.parameters()) == space.costs(genome).parameters
    wanted, dense = smaller(IDS).last_hidden_state[0], model(IDS).last_hidden_state[0]

    def through() -> torch.Tensor:
        hidden = bench.blocks.embed(IDS)
        for index in range(len(states)):
            hidden = subnet.run(index, hidden)
        return bench.blocks.outcome(hidden)

    with Subnet(bench.blocks, bench.weights) as subnet:
        assert torch.allclose(through(), dense, atol=1e-5)
        subnet.apply(states)
        assert torch.allclose(through(), wanted, atol=1e-5)


LOAD = """
import sys, torch, secateur
from transformers import AutoModel
model, info = AutoModel.from_pretrained(sys.argv[1], output_loading_info=True)
assert not info["missing_keys"] and not info["unexpected_keys"], info
print(type(model).__name__, sum(p.numel() for p in model.parameters()))
torch.save(model(torch.tensor([[5, 6, 7, 8]])).last_hidden_state, sys.argv[2])
"""


@pytest.mark.parametrize("family", ["bert", "mistral"])
def test_a_run_on_one(family: str, tmp_path: Path) -> None:
    """Search, report and checkpoint, which a fresh process loads, as it does with the code that lies beside it."""
    folder = save_tiny(tmp_path / "model", family, headless=True)
    pooling(folder)
    text, held_out = save_text(tmp_path / "a.txt", seed=1), save_text(tmp_path / "b.txt", seed=2)
    genes: list[dict[str, Any]] = [
        {"kind": "attention", "levels": [4, 2, 0] if family != "mistral" else [2, 1, 0]},
        {"kind": "mlp", "levels": "4 levels", "multiple_of": 8},
        {"kind": "sparsity", "per": "sublayer", "levels": [0.5]},
    ]
    changes = {"genes": genes, "score": "embedding", "baselines": ["uniform-width", "shortgpt"]}
    made = secateur.run(tiny_recipe(folder, text, held_out, **changes), tmp_path / "run")
    rows = {row.name: row for row in made.summary.rows}
    assert rows["found"].costs["block_parameters"] <= 0.6 * rows["dense"].costs["block_parameters"]
    assert rows["found"].scores["b"].keys() == {"embedding", "hidden_error"}
    assert rows["dense"].scores["b"]["embedding"].mean == pytest.approx(0, abs=1e-6)
    assert rows["found"].scores["b"]["embedding"].mean > 0
    assert made.summary.judged == "embedding"
    assert made.summary.finished

    shown = forked("report", tmp_path / "run", environment={"COLUMNS": "200"})
    assert shown.returncode == 0, shown.stderr
    assert "embedding" in shown.stdout
    assert "hidden_error" in shown.stdout
    assert "perplexity" not in shown.stdout
    assert "KL" not in shown.stdout
    page = words_of(tmp_path / "run" / "report" / "index.html")
    assert "embedding, b" in page
    assert "perplexity" not in page
    assert "KL" not in page

    out = made.export(to="hf", out=tmp_path / "out")
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(out), str(tmp_path / "said.pt")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[1]) == rows["found"].costs["parameters"]
    said = torch.load(tmp_path / "said.pt", weights_only=True)
    code = AutoModel.from_pretrained(out, trust_remote_code=True)
    assert torch.equal(code(torch.tensor([[5, 6, 7, 8]])).last_hidden_state, said)
    card = (out / "README.md").read_text()
    assert "AutoModel.from_pretrained" in card
    assert "pipeline_tag: feature-extraction" in card
    assert json.loads((out / "1_Pooling" / "config.json").read_text())["pooling_mode_cls_token"] is True
    assert (out / "modules.json").is_file()


def words_of(page: Path) -> str:
    """Of a report, without what its charts are drawn by."""
    parts = page.read_text().split("<script")
    return "".join(part.partition("</script>")[2] if number else part for number, part in enumerate(parts))


def test_a_front_and_a_comparison_speak_of_embeddings(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model", "bert", headless=True)
    text, held_out = save_text(tmp_path / "a.txt", seed=1), save_text(tmp_path / "b.txt", seed=2)
    for score in ("embedding", "hidden_error"):
        changes: dict[str, Any] = {
            "budgets": {},
            "objectives": [score, "parameters"],
        }
        recipe = tiny_recipe(folder, text, held_out, **changes, strategy="random")
        for number in range(2):
            secateur.run({**recipe, "effort": {"evaluations": 30 + 10 * number}}, tmp_path / f"{score}-{number}")
        shown = forked("report", tmp_path / f"{score}-0", environment={"COLUMNS": "200"}).stdout
        assert f"{score}" in shown
        assert "KL" not in shown
        page = words_of(tmp_path / f"{score}-0" / "report" / "index.html")
        assert "KL" not in page
        assert "ppl" not in page
        compared = forked("compare", tmp_path / f"{score}-0", tmp_path / f"{score}-1", environment={"COLUMNS": "200"})
        assert f"held-out {score}" in compared.stdout, compared.stderr


def pooling(folder: Path) -> None:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))


def test_levels_of_bits_too(tmp_path: Path) -> None:
    """Linears and the embedding, which is all that a model without a head has outside its blocks; bytes as counted."""
    folder = save_tiny(tmp_path / "model", "bert", headless=True)
    text, held_out = save_text(tmp_path / "a.txt", seed=1), save_text(tmp_path / "b.txt", seed=2)
    levels = ["int8-g16", "int4-g16"]
    genes = [
        {"kind": "bits", "per": "sublayer", "levels": levels},
        {"kind": "bits", "of": "embedding", "levels": levels},
    ]
    changes = {"genes": genes, "budgets": {"weight_bytes": "0.4x"}, "quantizer": "gptq", "score": "embedding"}
    recipe = tiny_recipe(folder, text, held_out, **changes, baselines=["uniform-bits", "target-bpw"])
    made = secateur.run(recipe, tmp_path / "run")
    assert made.summary.finished
    assert {row.name for row in made.summary.rows} == {"found", "uniform-bits", "target-bpw", "dense"}
    assert made.summary.rows[0].costs["weight_bytes"] <= 0.4 * made.summary.dense_costs["weight_bytes"]
    rounded = AutoModel.from_pretrained(made.export("hf", tmp_path / "out"))
    different = [
        name
        for name, value in model_of("bert", headless=True).named_parameters()
        if not torch.equal(value, rounded.get_parameter(name))
    ]
    assert "embeddings.word_embeddings.weight" in different
    assert len(different) == 1 + 6 * 4
    with pytest.raises(SecateurError, match="this model has no head; leave of: head out"):
        secateur.describe({**recipe, "genes": [{"kind": "bits", "of": "head", "levels": levels}]})


WIDTHS: dict[str, Any] = {"genes": [{"kind": "mlp", "levels": "4 levels", "multiple_of": 8}]}
SEARCHED: dict[str, Any] = {"strategy": "surrogate", "effort": {"tokens": 4000}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "score: kl is of the tokens that a model predicts, and model '.*' has no head; write embedding or hidden"),
        ({"score": "perplexity"}, "score: cross_entropy is of the tokens"),
        ({"score": "lm-eval:piqa"}, "score: lm-eval:piqa is of the tokens"),
        ({"objectives": ["kl", "parameters"], "budgets": {}, **SEARCHED}, "score: kl is of the tokens"),
        (
            {"score": "embedding", "budgets": {"parameters": "0.8x", "kl": "1"}, **SEARCHED},
            "score: kl is of the tokens",
        ),
        ({"score": "embedding", "genes": [{"kind": "hidden", "levels": [32, 24]}]}, "hidden"),
        (
            {"score": "embedding", **WIDTHS, "widths": {"order": "taylor"}},
            "widths: taylor goes by the loss of the tokens",
        ),
        ({"score": "embedding", "target": "llama.cpp"}, "its tool loads language models, and this one has no head"),
    ],
)
def test_what_takes_a_head_is_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    folder, text = save_tiny(tmp_path / "model", "bert", headless=True), save_text(tmp_path / "a.txt")
    with pytest.raises(SecateurError, match=said):
        secateur.describe(tiny_recipe(folder, text, **changes))


def test_training_tuning_and_tasks_are_refused(tmp_path: Path) -> None:
    folder, text = save_tiny(tmp_path / "model", "mistral", headless=True), save_text(tmp_path / "a.txt")
    recipe = tiny_recipe(folder, text, score="embedding", strategy={"name": "greedy"})
    stages = {"stages": [{"tokens": 64, "survivors": 1}], "candidates": 2, "what": "full", "sequences": 4}
    with pytest.raises(SecateurError, match=r"training: is by the tokens .* has no head"):
        secateur.describe({**recipe, "training": stages, "score": "kl"})
    secateur.run(recipe, tmp_path / "run")
    tuning = ("tune", tmp_path / "run", "--tokens", "100", "--out", tmp_path / "tuned")
    for words in (tuning, ("eval", tmp_path / "run", "--tasks", "piqa")):
        ended = forked(*words)
        assert ended.returncode == 2
        assert "has no head" in ended.stderr
        assert "Traceback" not in ended.stderr
    ended = forked("export", tmp_path / "run", "--to", "gguf", "--out", tmp_path / "x.gguf")
    assert ended.returncode == 2
    assert "this one has no head" in ended.stderr
    assert not (tmp_path / "x.gguf").exists()
    out = tmp_path / "out"
    assert forked("export", tmp_path / "run", "--to", "hf", "--out", out).returncode == 0
    ended = forked("eval", out, "--tasks", "piqa")
    assert ended.returncode == 2
    assert "has no head" in ended.stderr


def test_a_head_that_is_missing_is_told_with_what_would_work(tmp_path: Path) -> None:
    """Of a checkpoint that claims to predict tokens, as files of embedding models sometimes do."""
    folder = save_tiny(tmp_path / "model", "bert", headless=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["BertForMaskedLM"]}))
    with pytest.raises(SecateurError, match=r"missing in its files: cls.*architectures: \[BertModel\]"):
        secateur.run(tiny_recipe(folder, save_text(tmp_path / "a.txt")), tmp_path / "run")


def test_a_head_that_is_there_is_kept(tmp_path: Path) -> None:
    """Of checkpoints that claim to have none: perplexities can be had."""
    for family in ("bert", "mistral"):
        folder = save_tiny(tmp_path / family, family, **({"tie_word_embeddings": False} if family == "mistral" else {}))
        config = json.loads((folder / "config.json").read_text())
        base = {"bert": "BertModel", "mistral": "MistralModel"}[family]
        (folder / "config.json").write_text(json.dumps(config | {"architectures": [base]}))
        assert not anatomy(load_config(str(folder))).headless
        assert load_model(str(folder))(IDS).logits.shape[-1] == VOCABULARY


def test_an_encoder_without_a_pooler(tmp_path: Path) -> None:
    """As many are published: nothing is made up for it, neither in the search nor in what comes out."""
    folder = save_tiny(tmp_path / "model", "bert", headless=True)
    model = AutoModel.from_pretrained(folder, add_pooling_layer=False)
    model.save_pretrained(folder)
    text, held_out = save_text(tmp_path / "a.txt", seed=1), save_text(tmp_path / "b.txt", seed=2)
    for name, changes in (("drops", {}), ("widths", {**WIDTHS, "budgets": {"block_parameters": "0.8x"}})):
        made = secateur.run(tiny_recipe(folder, text, held_out, score="embedding", **changes), tmp_path / name)
        assert made.summary.dense_costs["parameters"] == sum(p.numel() for p in model.parameters())
        out = made.export("hf", tmp_path / f"{name}-out")
        with safe_open(out / "model.safetensors", framework="pt") as tensors:
            assert not [one for one in tensors.keys() if "pooler" in one]  # noqa: SIM118 - not a dict
        loaded = AutoModel.from_pretrained(out)
        assert torch.isfinite(loaded(IDS).last_hidden_state).all()


def test_modules_that_cannot_go_along_are_told(tmp_path: Path) -> None:
    folder, text = save_tiny(tmp_path / "model", "bert", headless=True), save_text(tmp_path / "a.txt")
    pooling(folder)
    made = secateur.run(tiny_recipe(folder, text, score="embedding"), tmp_path / "run")
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "config.json").write_text("{}")
    (folder / "2_Dense" / "pytorch_model.bin").write_bytes(b"pickle")
    modules = json.loads((folder / "modules.json").read_text())
    for path, said in (
        ("2_Dense", "are a pickle, which is never opened or passed on"),
        ("../x", "outside the model's"),
    ):
        more = {"idx": 2, "name": "2", "path": path, "type": "sentence_transformers.models.Dense"}
        (folder / "modules.json").write_text(json.dumps([*modules, more]))
        with pytest.raises(SecateurError, match=said):
            made.export("hf", tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_a_decoder_whose_head_is_its_embedding_keeps_it(tmp_path: Path) -> None:
    """Saved as its base model nothing of it is missing: perplexities can be had."""
    folder = save_tiny(tmp_path / "model", "gpt2", headless=True, tie_word_embeddings=True)
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["GPT2Model"]
    assert not anatomy(load_config(str(folder))).headless
    assert load_model(str(folder))(IDS).logits.shape[-1] == VOCABULARY


def test_the_first_recipe_for_one_is_by_embeddings(tmp_path: Path) -> None:
    folder, text = save_tiny(tmp_path / "model", "bert", headless=True), save_text(tmp_path / "a.txt", 200)
    for goal, asked in (("quality", "score: embedding"), ("front", "objectives: [embedding, parameters]")):
        out = tmp_path / f"{goal}.yaml"
        ended = forked("init", folder, text, "--for", goal, "--out", out)
        assert ended.returncode == 0, ended.stderr
        assert asked in out.read_text()


def test_texts_are_whole_sequences_between_the_encoders_own_tokens(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model", "bert", headless=True)
    recipe = tiny_recipe(folder, save_text(tmp_path / "a.txt"), score="embedding")
    request = TextRequest("calibration", str(tmp_path / "a.txt"), "text", "train", 4, 16, 2)
    tokenizer, texts, _ = Workplace(str(folder), (request,)).read_texts()
    [text] = texts.values()
    assert text.targets is None
    assert text.ids[:, 0].eq(tokenizer.cls_token_id).all()
    assert text.ids[:, -1].eq(tokenizer.sep_token_id).all()
    assert not text.ids.eq(tokenizer.mask_token_id).any()
    calibration = {**recipe["calibration"], "positions": 4}
    with pytest.raises(SecateurError, match="scored on whole sequences; leave 'positions' out"):
        secateur.run({**recipe, "calibration": calibration}, tmp_path / "run")


@pytest.mark.real
def test_the_real_one_narrowed_still_finds_its_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """all-MiniLM-L6-v2 with four fifths of its blocks: what a sentence's nearest were, most of them are."""
    monkeypatch.setattr(encoder, "SENTENCES", 50)
    recipe = encoder.recipe(encoder.CUTS, {"block_parameters": "0.8x"}, 12_000, 0)
    recipe["prepare"] = {**recipe["prepare"], "sequences": 128}
    recipe["held_out"] = recipe["held_out"][:1]
    made = secateur.run({**recipe, "baselines": ["uniform-width"]}, tmp_path / "run")
    out = made.export("hf", tmp_path / "out")
    _, found = encoder.against_dense(encoder.embedded(out))
    out = made.export("hf", tmp_path / "uniform", pick="uniform-width")
    _, uniform = encoder.against_dense(encoder.embedded(out))
    assert found.mean() > max(0.6, uniform.mean())
    assert made.summary.rows[0].against is None
    sizes = [sum(p.numel() for p in AutoModel.from_pretrained(path).parameters()) for path in (encoder.model(), out)]
    assert sizes == [made.summary.dense_costs["parameters"], made.summary.rows[1].costs["parameters"]]

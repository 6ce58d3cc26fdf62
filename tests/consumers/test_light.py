"""Exports carried out by the tools they are for, on a small model, and the outcome compared with the plan."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from secateur.fitness.bits.grids import rounded, taken_apart
from secateur.fitness.model.blocks import Blocks
from secateur.fitness.model.checkpoint import anatomy_of, load_model
from secateur.fitness.subnets.materialise import materialised, smaller_weights
from secateur.fitness.subnets.weights import Weights
from secateur.plans.features import Subject
from secateur.plans.formats.table import FORMATS, files
from secateur.space.anatomy import Block
from secateur.space.grids import Grid
from secateur.space.state import BlockState, dense_state
from secateur.space.treatments import Sparsity
from tests.consumers.environment import Consumer
from tests.consumers.table import Proof
from tests.genes import state_of, without
from tests.plans import plan_source, write_files
from tests.tiny import save_text, save_tiny

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("dense"), num_attention_heads=8)


def source(folder: Path, change: Callable[[Block, BlockState], BlockState]) -> Subject:
    """The plan that `change(block, dense state)` makes."""
    shape = anatomy_of(load_model(str(folder)))
    return plan_source(shape, [change(block, dense_state(block)) for block in shape.blocks], str(folder))


def exported(name: str, plan: Subject, folder: Path) -> Path:
    write_files(files(FORMATS[name], plan), folder)
    return folder


def dense_weights(folder: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = load_file(folder / "model.safetensors")
    return weights


def linears(plan: Subject) -> list[str]:
    """Full names in module order."""
    return [plan.anatomy.block_prefix(b.index) + linear.name for b in plan.anatomy.blocks for linear in b.linears]


def zeros(weights: Mapping[str, Tensor], plan: Subject) -> list[float]:
    """Share of zeros of every linear, in module order."""
    return [float((weights[f"{name}.weight"] == 0).float().mean()) for name in linears(plan)]


def wanted_zeros(plan: Subject) -> list[float]:
    return [
        level.share
        for block, state in zip(plan.anatomy.blocks, plan.states, strict=True)
        for level in state.levels(block)
    ]


def check_patterns(weights: Mapping[str, Tensor], plan: Subject) -> None:
    """N of every M along the inputs are kept."""
    levels = [
        level for block, state in zip(plan.anatomy.blocks, plan.states, strict=True) for level in state.levels(block)
    ]
    for name, level in zip(linears(plan), levels, strict=True):
        if isinstance(level, Sparsity) and level.of:
            kept = (weights[f"{name}.weight"] != 0).reshape(-1, level.of).sum(1)
            assert (kept == level.keep).all(), name


def sparse(block: Block, _: BlockState) -> BlockState:
    """Another share in every linear; one left dense, two with patterns."""
    levels = [Sparsity(40 + 10 * index + 4 * block.index) for index in range(len(block.linears))]
    levels[1] = Sparsity()
    if block.index == 1:
        levels[4:6] = [Sparsity(keep=2, of=4), Sparsity(keep=1, of=4)]
    return state_of(block, levels)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("torch-prune", marks=pytest.mark.consumer("torchao")),
        pytest.param("torchao", marks=pytest.mark.consumer("torchao")),
    ],
)
def test_as_many_zeros_as_the_plan_says(
    name: str, consumer: Consumer, model_folder: Path, tmp_path: Path, proofs: list[Proof]
) -> None:
    plan = source(model_folder, sparse)
    export = exported(name, plan, tmp_path / "export")
    consumer.run(HERE / "apply_export.py", model_folder, export, tmp_path / "pruned.safetensors")
    pruned, before = load_file(tmp_path / "pruned.safetensors"), dense_weights(model_folder)
    for name_of, share, wanted in zip(linears(plan), zeros(pruned, plan), wanted_zeros(plan), strict=True):
        assert abs(share - wanted) * before[f"{name_of}.weight"].numel() <= 1, name_of
    check_patterns(pruned, plan)
    for key, value in before.items():
        kept = pruned[key] != 0 if key.removesuffix(".weight") in linears(plan) else torch.ones_like(value).bool()
        assert torch.equal(pruned[key][kept], value[kept]), f"{key}: what is left is what was there"
    tool = f"torch.nn.utils.prune {torch.__version__}" if name == "torch-prune" else f"torchao {consumer.version(name)}"
    proofs.append(Proof(name, tool, "zeros of every linear, N:M along its inputs", "equal, to a whole weight"))


@pytest.mark.consumer("llm-compressor")
def test_llm_compressor_makes_as_many_zeros(
    consumer: Consumer, model_folder: Path, tmp_path: Path, proofs: list[Proof]
) -> None:
    plan = source(model_folder, sparse)
    recipe = exported("llm-compressor", plan, tmp_path / "export") / "recipe.yaml"
    text, out = save_text(tmp_path / "text.txt"), tmp_path / "out"
    consumer.run(HERE / "run_llm_compressor.py", model_folder, recipe, text, out)
    pruned, before = load_file(out / "model.safetensors"), dense_weights(model_folder)
    # SparseGPT prunes blocks of columns, each to a whole number.
    assert zeros(pruned, plan) == pytest.approx(wanted_zeros(plan), abs=0.01)
    check_patterns(pruned, plan)
    assert torch.equal(pruned["lm_head.weight"], before["lm_head.weight"])
    version = f"llm-compressor {consumer.version('llmcompressor')}, transformers {consumer.version('transformers')}"
    proofs.append(Proof("llm-compressor", version, "zeros of every linear after oneshot, N:M", "to 1 %"))


ROUNDED = ("int8", "int4-g16", "fp8", "int8-sym")


@pytest.mark.consumer("llm-compressor")
def test_llm_compressor_rounds_as_the_plan_says(
    consumer: Consumer, model_folder: Path, tmp_path: Path, proofs: list[Proof]
) -> None:
    """Another grid in every linear, one left as it is, each weight to the nearest: the checkpoint that it saves packed,
    read by transformers, computes what our own weights do. Its scales are in single precision, ours in half."""
    model = load_model(str(model_folder))
    live = dict(model.named_parameters())

    def change(block: Block, state: BlockState) -> BlockState:
        levels = {}
        for place, linear in enumerate(block.linears[:-1]):
            grid = Grid.read(ROUNDED[(place + block.index) % len(ROUNDED)])
            weight = live[f"model.layers.{block.index}.{linear.name}.weight"].data
            weight.copy_(taken_apart(rounded(weight, grid), linear.inputs, grid))
            levels[linear.name] = grid
        return state.with_treated(levels)

    plan = source(model_folder, change)
    assert plan.plan is not None
    made = plan.plan.model_copy(update={"recipe": {"quantizer": "nearest"}})
    recipe = exported("llm-compressor", replace(plan, plan=made), tmp_path / "export") / "recipe.yaml"
    text, out, ids = save_text(tmp_path / "text.txt"), tmp_path / "out", torch.arange(3, 51).reshape(4, 12)
    consumer.run(HERE / "run_llm_compressor.py", model_folder, recipe, text, out)
    names = set(load_file(out / "model.safetensors"))
    assert "model.layers.0.mlp.down_proj.weight" in names
    assert {"model.layers.0.self_attn.k_proj.weight_packed", "model.layers.0.self_attn.k_proj.weight_scale"} <= names
    save_file({"ids": ids.contiguous()}, tmp_path / "ids.safetensors")
    files_of = (tmp_path / "ids.safetensors", tmp_path / "logits.safetensors")
    answer = json.loads(consumer.run(HERE / "run_transformers.py", out, *files_of))
    theirs, dense = load_file(files_of[1])["logits"], load_model(str(model_folder))
    with torch.inference_mode():
        ours, before = model(ids).logits, dense(ids).logits
    off, rounding = float((theirs - ours).norm()), float((before - ours).norm())
    assert off < rounding / 5
    version = f"llm-compressor {consumer.version('llmcompressor')}, transformers {answer['version']}"
    what = "logits of its packed checkpoint, integers of 8 and 4 bits and fp8 in turns"
    result = f"{100 * off / rounding:.0f} % of what rounding changes"
    proofs.append(Proof("llm-compressor", version, what, result))


def on_grids(folder: Path, levels: Sequence[str]) -> tuple[Subject, dict[str, Tensor]]:
    """A plan with another grid in every linear, the last of each block as it is; and what it makes of their weights."""
    before, after = dense_weights(folder), {}

    def change(block: Block, state: BlockState) -> BlockState:
        found = {}
        for place, linear in enumerate(block.linears[:-1]):
            grid = Grid.read(levels[(place + block.index) % len(levels)])
            name = f"model.layers.{block.index}.{linear.name}"
            rows = rounded(before[f"{name}.weight"].float(), grid)
            found[linear.name], after[name] = grid, taken_apart(rows, linear.inputs, grid)
        return state.with_treated(found)

    return source(folder, change), after


@pytest.mark.consumer("torchao")
def test_torchao_rounds_as_the_plan_says(
    consumer: Consumer, model_folder: Path, tmp_path: Path, proofs: list[Proof]
) -> None:
    """Its scales are in single precision, ours in half: now and then a weight half way between falls elsewhere."""
    plan, wanted = on_grids(model_folder, ("int8", "int4-g16", "fp8", "int3-g16-sym", "int2-g8"))
    export = exported("torchao-config", plan, tmp_path / "export")
    consumer.run(HERE / "run_torchao.py", model_folder, export, tmp_path / "rounded.safetensors")
    found, before = load_file(tmp_path / "rounded.safetensors"), dense_weights(model_folder)
    errors, elsewhere = [], []
    for name, value in wanted.items():
        whole = before[f"{name}.weight"]
        ours, theirs = (one - whole for one in (value, found[name]))
        errors.append(float(theirs.norm() / ours.norm()))
        elsewhere.append(float(((found[name] - value).abs() > ours.abs().max()).float().mean()))
    assert max(errors) < 1.03
    assert max(elsewhere) < 0.04
    for name, value in found.items():
        if name not in wanted:
            assert torch.equal(value, before[f"{name}.weight"]), name
    version = f"torchao {consumer.version('torchao')}, transformers {transformers.__version__}"
    what = "weights of every linear, integers of 8, 4, 3 and 2 bits and fp8 in turns"
    told = f"errors within 3 % of ours, {100 * max(elsewhere):.0f} % of weights on another step at most"
    proofs.append(Proof("torchao-config", version, what, told))


@pytest.mark.consumer("modelopt")
def test_modelopt_rounds_as_the_plan_says(
    consumer: Consumer, model_folder: Path, tmp_path: Path, proofs: list[Proof]
) -> None:
    """As many steps in every group; its scales are of the largest weight, ours half a step less."""
    plan, wanted = on_grids(model_folder, ("int8-sym", "int4-g16-sym", "fp8"))
    export = exported("modelopt", plan, tmp_path / "export")
    consumer.run(HERE / "run_modelopt_quantize.py", model_folder, export, tmp_path / "rounded.safetensors")
    found, before = load_file(tmp_path / "rounded.safetensors"), dense_weights(model_folder)
    for block, state in zip(plan.anatomy.blocks, plan.states, strict=True):
        for linear in block.linears:
            name, level = f"model.layers.{block.index}.{linear.name}", state.level(linear.name)
            whole = before[f"{name}.weight"]
            if not isinstance(level, Grid):
                assert torch.equal(found[name], whole), name
                continue
            groups = found[name].reshape(len(whole), level.groups(linear.inputs), -1).flatten(0, 1)
            assert max(len(group.unique()) for group in groups) <= 2**level.width, name
            theirs, ours = (float((one - whole).norm()) for one in (found[name], wanted[name]))
            assert theirs < 1.3 * ours, name
    version = f"ModelOpt {consumer.version('nvidia-modelopt')}, transformers {consumer.version('transformers')}"
    proofs.append(Proof("modelopt", version, "steps in every group, and errors", "no more steps, errors within 30 %"))


@pytest.mark.consumer("torch-pruning")
def test_torch_pruning_makes_the_shapes_of_the_plan(
    consumer: Consumer, model_folder: Path, tmp_path: Path, proofs: list[Proof]
) -> None:
    """MLP channels and query heads, and what is left of q_proj and o_proj belongs to the same heads."""

    def narrower(block: Block, dense: BlockState) -> BlockState:
        kept = dense.kept
        return dense.with_kept(queries=kept["queries"] - block.index % 3, channels=kept["channels"] - 5 * block.index)

    plan = source(model_folder, narrower)
    assert {state.kept["queries"] for state in plan.states} == {2, 3, 4}
    export = exported("torch-pruning", plan, tmp_path / "export")
    consumer.run(HERE / "apply_export.py", model_folder, export, tmp_path / "pruned.safetensors")
    pruned, before = load_file(tmp_path / "pruned.safetensors"), dense_weights(model_folder)
    for block, state in zip(plan.anatomy.blocks, plan.states, strict=True):
        prefix = plan.anatomy.block_prefix(block.index)
        for linear in block.linears:
            shape = tuple(pruned[f"{prefix}{linear.name}.weight"].shape)
            assert shape == linear.shape(state.sizes(block)), prefix + linear.name
        names = (f"{prefix}self_attn.q_proj.weight", f"{prefix}self_attn.o_proj.weight")
        first, last = (_heads(before[names[0]], block), _heads(before[names[1]].T, block))
        kept = [_found(head, first) for head in _heads(pruned[names[0]], block)]
        assert kept == [_found(head, last) for head in _heads(pruned[names[1]].T, block)]
        groups = [head // block.dimensions["queries"] for head in kept]
        assert groups == [group for group in range(block.dimensions["groups"]) for _ in range(state.kept["queries"])]
    version = f"Torch-Pruning {consumer.version('torch-pruning')}"
    proofs.append(Proof("torch-pruning", version, "shapes of every linear, heads of q_proj and o_proj", "equal"))


def _heads(rows: Tensor, block: Block) -> list[Tensor]:
    return list(rows.reshape(-1, block.segments["query"].unit, rows.shape[1]))


def _found(head: Tensor, among: list[Tensor]) -> int:
    [index] = [index for index, one in enumerate(among) if torch.equal(one, head)]
    return index


@pytest.mark.consumer("mergekit")
def test_mergekit_makes_the_checkpoint_that_we_write(
    consumer: Consumer, model_folder: Path, tmp_path: Path, proofs: list[Proof]
) -> None:
    def without_two(block: Block, dense: BlockState) -> BlockState:
        return without(block, "attention", "mlp") if block.index in (1, 2) else dense

    plan = source(model_folder, without_two)
    recipe = exported("mergekit", plan, tmp_path / "export") / "mergekit.yaml"
    consumer.run("-m", "mergekit.scripts.run_yaml", recipe, tmp_path / "merged")
    merged, before = load_model(str(tmp_path / "merged")), load_model(str(model_folder))
    layers = before.get_submodule("model.layers")
    assert isinstance(layers, nn.ModuleList)
    before.get_submodule("model").layers = nn.ModuleList([layers[0], layers[3]])
    wanted = dict(before.named_parameters())
    for name, value in merged.named_parameters():
        assert torch.equal(value, wanted.pop(name)), name
    assert not wanted
    version = f"mergekit {consumer.version('mergekit')}"
    proofs.append(Proof("mergekit", version, "every tensor of the merged checkpoint", "bit-equal"))


@pytest.mark.consumer("modelopt")
def test_modelopt_builds_the_model_of_the_plan(
    consumer: Consumer, model_folder: Path, tmp_path: Path, proofs: list[Proof]
) -> None:
    """Its class takes the weights of our smaller model name by name, and computes what that does."""

    def changed(block: Block, dense: BlockState) -> BlockState:
        channels = {1: 0, 2: 30, 3: 0}.get(block.index, dense.kept["channels"])
        return without(block, *(["attention"] if block.index in (2, 3) else []), channels=channels)

    plan = source(model_folder, changed)
    export = exported("block_configs", plan, tmp_path / "export")
    model = load_model(str(model_folder))
    weights = Weights(Blocks(model, plan.anatomy))
    ids = torch.randint(0, 90, (2, 11), generator=torch.manual_seed(0))
    wanted = materialised(model, plan.anatomy, plan.states, weights)(ids).logits
    # It numbers layers as the dense model does, and a layer that is gone is one of no-ops.
    kept = {f"model.layers.{new}.": f"model.layers.{old}." for new, old in enumerate(plan.kept)}
    values = {
        next((name.replace(new, old) for new, old in kept.items() if name.startswith(new)), name): value.contiguous()
        for name, value in smaller_weights(model, plan.anatomy, plan.states, weights).items()
    }
    save_file(values, tmp_path / "weights.safetensors")
    save_file({"ids": ids}, tmp_path / "ids.safetensors")
    files_of = (tmp_path / name for name in ("weights.safetensors", "ids.safetensors", "out.safetensors"))
    consumer.run(HERE / "run_modelopt.py", model_folder, export, *files_of)
    got = load_file(tmp_path / "out.safetensors")["logits"]
    assert torch.allclose(got, wanted, atol=1e-5)
    version = f"ModelOpt {consumer.version('nvidia-modelopt')}, transformers {consumer.version('transformers')}"
    proofs.append(Proof("block_configs", version, "logits of Puzzletron's model with our weights", "equal to 1e-5"))

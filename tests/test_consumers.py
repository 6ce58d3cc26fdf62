"""Exports carried out by the tools they are for, on a small model, and the outcome compared with the plan."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from secateur.fitness.checkpoint import anatomy_of, load_model
from secateur.runs.export.features import Source
from secateur.runs.export.formats import FORMATS, files
from secateur.space.costs import BlockState, dense_state
from secateur.space.gene import Sparsity
from tests.plans import plan_source, write_files
from tests.tiny import save_tiny


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dense")
    save_tiny(folder, "llama")
    return folder


def source(folder: Path, change: Any) -> Source:
    """The plan that `change(block, dense state)` makes."""
    shape = anatomy_of(load_model(str(folder)))
    return plan_source(shape, [change(block, dense_state(block)) for block in shape.blocks], str(folder))


def applied(name: str, plan: Source, folder: Path) -> ModuleType:
    """The snippet of an export as a module, from the folder it was written to."""
    write_files(files(FORMATS[name], plan), folder)
    spec = importlib.util.spec_from_file_location(f"apply_{folder.name}", folder / "apply.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def loaded(folder: Path, **options: Any) -> nn.Module:
    model: nn.Module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)
    return model


def zeros(model: nn.Module, plan: Source) -> list[float]:
    """Share of zeros of every linear, in module order."""
    names = [plan.anatomy.block_prefix(b.index) + linear.name for b in plan.anatomy.blocks for linear in b.linears]
    return [float((model.get_parameter(f"{name}.weight") == 0).float().mean()) for name in names]


def sparse(block: Any, dense: BlockState) -> BlockState:
    """Another share in every linear; one left dense, two with patterns."""
    levels = [Sparsity(40 + 10 * index + 4 * block.index) for index in range(len(block.linears))]
    levels[1] = Sparsity()
    if block.index == 1:
        levels[4:6] = [Sparsity(keep=2, of=4), Sparsity(keep=1, of=4)]
    return BlockState(dense.attention, dense.queries, dense.mlp, dense.hidden, tuple(levels))


def test_torch_prune_makes_as_many_zeros_as_the_plan_says(model_folder: Path, tmp_path: Path) -> None:
    plan = source(model_folder, sparse)
    model = loaded(model_folder)
    before = {name: value.clone() for name, value in model.named_parameters()}
    pruned = applied("torch-prune", plan, tmp_path / "export").prune(model)
    wanted = [level.share for state in plan.states for level in state.sparsity]
    # Rounded to whole weights of the tensor.
    assert zeros(pruned, plan) == pytest.approx(wanted, abs=0.002)
    for name, value in pruned.named_parameters():
        if name.endswith("_proj.weight"):
            kept = value != 0
            assert torch.equal(value[kept], before[name][kept]), "what is left is what was there"
        else:
            assert torch.equal(value, before[name]), f"{name} was not in the plan"

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.fitness.model.blocks import Blocks
from secateur.fitness.model.checkpoint import anatomy_of
from secateur.fitness.text import Sequences
from secateur.fitness.zeros.level_store import PRUNERS, LevelStore, as_matrix, needs_text, plane_name
from secateur.fitness.zeros.nested import NESTED, Statistics, death_steps, kept, pattern_ranks
from secateur.fitness.zeros.preparation import block_statistics, prepare
from secateur.fitness.zeros.updating import UPDATING, admm, pack_survivors, sparsegpt, unpack_survivors
from secateur.space.errors import SecateurError
from secateur.space.treatments import Sparsity
from tests.tiny import LEVELS, VOCABULARY, model_of

TEXT = Sequences(
    "random", torch.randint(3, VOCABULARY, (6, 16), generator=torch.Generator().manual_seed(0)), frozenset()
)


def statistics_of(inputs: int, seed: int = 0) -> tuple[Statistics, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rows = (
        torch.randn(200, inputs, generator=generator) @ torch.randn(inputs, inputs, generator=generator) / inputs**0.5
    )
    rows = rows.double()
    return Statistics((rows**2).sum(0), len(rows), rows.T @ rows), rows


@given(st.integers(1, 9), st.integers(1, 40), st.sampled_from(["row", "matrix"]), st.integers(0, 1000))
def test_one_byte_serves_every_step(outputs: int, inputs: int, group: str, seed: int) -> None:
    score = torch.rand(outputs, inputs, generator=torch.Generator().manual_seed(seed))
    plane = death_steps(score, group)  # type: ignore[arg-type]
    assert plane.dtype == torch.uint8
    alive = torch.ones_like(score, dtype=torch.bool)
    for steps in range(0, 200, 7):
        level = Sparsity(steps=steps)
        mask = kept(plane, level)
        assert int((~mask).sum()) == level.zeros(outputs, inputs)
        assert not bool((mask & ~alive).any()), "masks nest"
        alive = mask
        if mask.any() and not mask.all():
            if group == "row":
                for row in range(outputs):
                    dead = score[row][~mask[row]]
                    assert not len(dead) or not mask[row].any() or dead.max() <= score[row][mask[row]].min()
            else:
                assert score[~mask].max() <= score[mask].min()


@given(st.sampled_from([(2, 4), (1, 4), (4, 8), (3, 5)]), st.integers(1, 5), st.integers(1, 4), st.integers(0, 99))
def test_patterns_keep_the_best_of_every_group(pattern: tuple[int, int], outputs: int, groups: int, seed: int) -> None:
    keep, of = pattern
    score = torch.rand(outputs, groups * of, generator=torch.Generator().manual_seed(seed))
    mask = kept(pattern_ranks(score, of), Sparsity(keep=keep, of=of)).reshape(outputs, groups, of)
    assert bool((mask.sum(2) == keep).all())
    best = score.reshape(outputs, groups, of).topk(keep, dim=2).indices
    assert bool(mask.gather(2, best).all())


def test_scores_follow_their_papers() -> None:
    weight = torch.tensor([[1.0, -2.0, 4.0], [-3.0, 0.5, 1.0]])
    statistics = Statistics(torch.tensor([4.0, 1.0, 0.25]).double(), 10)
    norms = torch.tensor([2.0, 1.0, 0.5])
    assert torch.allclose(NESTED["magnitude"].score(weight, None), weight.abs())
    assert torch.allclose(NESTED["wanda"].score(weight, statistics), weight.abs() * norms)
    size = weight.abs()
    relative = size / size.sum(0, keepdim=True) + size / size.sum(1, keepdim=True)
    assert torch.allclose(NESTED["ria"].score(weight, statistics), relative * norms.sqrt())


@pytest.mark.parametrize("prune", [sparsegpt, admm], ids=["sparsegpt", "admm"])
@pytest.mark.parametrize("text", [0.25, 0.5, 0.7, "2:4", "4:8", "6:12"])
def test_updating_pruners_have_exact_counts_and_beat_the_bare_mask(prune: object, text: float | str) -> None:
    level = Sparsity.parse(text)
    torch.manual_seed(1)
    weight = torch.randn(24, 192)
    statistics, rows = statistics_of(192)
    pruned = prune(weight, statistics, level)  # type: ignore[operator]
    assert int((pruned == 0).sum()) == level.zeros(24, 192)
    if level.of:
        groups = (pruned != 0).reshape(24, -1, level.of).sum(2)
        assert bool((groups == level.keep).all())
    plane = pattern_ranks if level.of else None
    score = NESTED["wanda"].score(weight, statistics)
    mask = kept(plane(score, level.of) if plane else death_steps(score, "row"), level)
    error = ((weight - pruned).double() @ rows.T).norm()
    bare = ((weight * ~mask).double() @ rows.T).norm()
    assert error < bare


def test_sparsegpt_is_optimal_brain_surgery_for_one_weight() -> None:
    """With one weight to remove from one row, the best single removal and its exact compensation."""
    torch.manual_seed(3)
    weight = torch.randn(1, 6)
    statistics, _ = statistics_of(6)
    pruned = sparsegpt(weight, statistics, Sparsity(steps=34))
    assert statistics.gram is not None
    gram = statistics.gram + 0.01 * statistics.gram.diagonal().mean() * torch.eye(6).double()
    column = int((pruned == 0).nonzero()[0, 1])
    # Columns before the removed one stay; those after solve the least-squares problem given that.
    free = list(range(column + 1, 6))
    expected = weight.double().clone()
    expected[0, column] = 0
    if free:
        delta = weight[0, column].double() * torch.linalg.solve(gram[free][:, free], gram[free, column])
        expected[0, free] += delta
    assert torch.allclose(pruned.double(), expected, atol=1e-5)


@given(st.integers(1, 7), st.integers(1, 13), st.integers(0, 99))
def test_survivors_round_trip(outputs: int, inputs: int, seed: int) -> None:
    torch.manual_seed(seed)
    weight = torch.randn(outputs, inputs) * (torch.rand(outputs, inputs) > 0.5)
    values, bits = pack_survivors(weight)
    assert bits.dtype == torch.uint8
    assert len(bits) == -(-outputs * inputs // 8)
    assert torch.equal(unpack_survivors(values, bits, (outputs, inputs)), weight)


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3", "opt"])
@pytest.mark.parametrize("pruner", PRUNERS)
def test_a_store_gives_exact_zeros_in_the_layout_of_the_module(family: str, pruner: str, tmp_path: Path) -> None:
    model = model_of(family)
    shape = anatomy_of(model)
    blocks = Blocks(model, shape)
    prepare(blocks, pruner, LEVELS, range(4), TEXT, tmp_path)
    store = LevelStore(tmp_path, pruner, blocks)
    store.check(LEVELS, range(4))
    for index, block in enumerate(shape.blocks):
        for position, linear in enumerate(block.linears):
            dense = blocks.modules[index].get_parameter(f"{linear.name}.weight")
            for level in LEVELS:
                weight = store.weight(index, position, level)
                assert weight.shape == dense.shape
                matrix = as_matrix(linear, weight)
                assert int((matrix == 0).sum()) == level.zeros(linear.outputs, linear.inputs)
                if pruner in NESTED:
                    assert torch.equal(weight[weight != 0], dense[weight != 0])
            assert store.weight(index, position, Sparsity()).data_ptr() == dense.data_ptr()


def test_statistics_are_those_of_each_linears_own_input() -> None:
    model = model_of("llama")
    blocks = Blocks(model, anatomy_of(model))
    hidden = [blocks.embed(row[None]) for row in TEXT.ids]
    got = block_statistics(blocks, blocks.anatomy.blocks[0], hidden, gram=True)
    for linear in blocks.anatomy.blocks[0].linears:
        rows: list[torch.Tensor] = []
        handle = (
            blocks.modules[0]
            .get_submodule(linear.name)
            .register_forward_pre_hook(lambda module, inputs, rows=rows: rows.append(inputs[0][0].double()))
        )
        for states in hidden:
            blocks.run(0, states)
        handle.remove()
        every = torch.cat(rows)
        assert torch.allclose(got[linear.name].square_sum, (every**2).sum(0))
        gram = got[linear.name].gram
        assert gram is not None
        # Each sequence's share is computed in single precision.
        assert torch.allclose(gram, every.T @ every, rtol=1e-5, atol=1e-4)
        assert got[linear.name].count == 6 * 16


def test_one_plane_serves_new_levels_without_work(tmp_path: Path) -> None:
    model = model_of("llama")
    blocks = Blocks(model, anatomy_of(model))
    prepare(blocks, "wanda", [Sparsity.parse(0.5)], range(4), TEXT, tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    prepare(blocks, "wanda", [Sparsity.parse(0.305), Sparsity.parse(0.9)], range(4), TEXT, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == times
    assert {path.name for path in times} == {f"block-{i:03d}.steps.safetensors" for i in range(4)}
    bytes_used = sum(path.stat().st_size for path in times)
    weights = sum(linear.weights for block in blocks.anatomy.blocks for linear in block.linears)
    assert bytes_used < weights * 1.1 + 4096 * 4


def test_a_preparation_goes_on_at_the_first_missing_file(tmp_path: Path) -> None:
    model = model_of("llama")
    blocks = Blocks(model, anatomy_of(model))
    for pruner in ("wanda", *UPDATING):
        whole, cut = tmp_path / f"{pruner}-whole", tmp_path / f"{pruner}-cut"
        prepare(blocks, pruner, LEVELS[:2], range(4), TEXT, whole)
        prepare(blocks, pruner, LEVELS[:2], range(4), TEXT, cut)
        victims = sorted(cut.glob("block-00[23].*"))
        for path in victims:
            path.unlink()
        done: list[tuple[int, int]] = []
        prepare(blocks, pruner, LEVELS[:2], range(4), TEXT, cut, lambda *progress, done=done: done.append(progress))
        assert done == [(0, 2), (1, 2), (2, 2)]
        for path in whole.iterdir():
            assert path.read_bytes() == (cut / path.name).read_bytes()


def test_truncated_and_missing_files_are_named(tmp_path: Path) -> None:
    model = model_of("llama")
    shape = anatomy_of(model)
    blocks = Blocks(model, shape)
    prepare(blocks, "magnitude", LEVELS[:1], range(4), None, tmp_path)
    victim = tmp_path / "block-002.steps.safetensors"
    content = victim.read_bytes()
    for damaged in (content[:-10], content[:20], b""):
        victim.write_bytes(damaged)
        with pytest.raises(SecateurError, match=r"block-002.steps.safetensors is missing, truncated or damaged"):
            LevelStore(tmp_path, "magnitude", blocks).check(LEVELS[:1], range(4))


def test_killed_while_preparing_leaves_only_whole_files(tmp_path: Path) -> None:
    program = f"""
import torch
from pathlib import Path
from tests.fitness.test_pruners import TEXT
from tests.tiny import model_of, LEVELS
from secateur.fitness.model.blocks import Blocks
from secateur.fitness.model.checkpoint import anatomy_of
from secateur.fitness.zeros.preparation import prepare
model = model_of("llama")
print("ready", flush=True)
for number in range(1000):
    folder = Path({str(tmp_path)!r}) / str(number)
    prepare(Blocks(model, anatomy_of(model)), "sparsegpt", LEVELS[:2], range(4), TEXT, folder)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(1.0)
        os.kill(process.pid, signal.SIGKILL)
    files = sorted(tmp_path.glob("*/block-*.safetensors"))
    assert files
    model = model_of("llama")
    shape = anatomy_of(model)
    blocks = Blocks(model, shape)
    for folder in tmp_path.iterdir():
        prepare(blocks, "sparsegpt", LEVELS[:2], range(4), TEXT, folder)
        LevelStore(folder, "sparsegpt", blocks).check(LEVELS[:2], range(4))


def test_unknown_pruner() -> None:
    with pytest.raises(SecateurError, match="pruner 'wand'; did you mean 'wanda'"):
        needs_text("wand")
    assert not needs_text("magnitude")
    assert json.dumps(sorted(PRUNERS)) == '["admm", "magnitude", "ria", "sparsegpt", "wanda"]'
    assert plane_name("admm", Sparsity.parse("2:4")) == "level-2of4"

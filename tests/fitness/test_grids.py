"""Grids of integers: bytes, three ways to round, and the same in every form of a subnet."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.fitness.bench import Bench
from secateur.fitness.bits.errors import stored_errors
from secateur.fitness.bits.grids import gptq, hqq, nearest, packed, rounded, taken_apart, unpacked
from secateur.fitness.bits.planes import packed_bytes, seen_bytes
from secateur.fitness.bits.rows import name_of, pruned, rows_of, weights_of
from secateur.fitness.model.checkpoint import anatomy_of
from secateur.fitness.model.examined import model_digest
from secateur.fitness.subnets.materialise import materialised
from secateur.fitness.training import Training
from secateur.fitness.widths.preparation import WidthSettings
from secateur.fitness.workplace import Loaded
from secateur.fitness.zeros.nested import Statistics
from secateur.fitness.zeros.preparation import block_statistics
from secateur.fitness.zeros.updating import DAMPING, sparsegpt
from secateur.space.both import Both
from secateur.space.errors import SecateurError, StorageError
from secateur.space.genome import Genome
from secateur.space.grids import Grid
from secateur.space.kinds.bits import read
from secateur.space.kinds.settings import Wishes
from secateur.space.kinds.table import KINDS
from secateur.space.space import Space
from secateur.space.treatments import treatment
from tests.fitness.prepared import IDS, random_text, through_blocks, width_genes
from tests.tiny import model_of

GRIDS = [
    "int8",
    "int8-sym",
    "int4-g32",
    "int4-g16-sym",
    "int3-g16",
    "int3",
    "int2-g8",
    "int5-g64",
    "int4-g64-half",
    "fp8",
]
SIZES: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "head_dim": 16}


def matrix(rows: int = 12, columns: int = 192, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) / 20


def gram(columns: int = 192, seed: int = 1) -> torch.Tensor:
    """Of inputs that go with each other, and differ in size."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(columns, columns, generator=generator) / 8 + torch.eye(columns)
    inputs = torch.randn(600, columns, generator=generator) @ mixing * torch.linspace(0.1, 2, columns)
    return inputs.T @ inputs


def seen_error(rows: torch.Tensor, whole: torch.Tensor, grid: Grid, of: torch.Tensor) -> float:
    error = taken_apart(rows, whole.shape[1], grid) - whole
    return float(((error @ of) * error).sum())


@settings(max_examples=60)
@given(st.integers(2, 8), st.integers(1, 5), st.integers(1, 9), st.booleans(), st.integers(0, 1000))
def test_what_is_packed_is_taken_out_again(width: int, rows: int, groups: int, symmetric: bool, seed: int) -> None:
    """Any numbers; as many bytes as the level says."""
    grid = Grid(width, 8 if groups > 1 else 0, symmetric)
    inputs = 8 * groups if groups > 1 else 13
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 2**width, (rows, inputs), generator=generator).float()
    scales = torch.rand(rows, grid.groups(inputs), generator=generator).half().float()
    points = torch.randint(0, 2**width, scales.shape, generator=generator).float()
    points = torch.full_like(points, 2 ** (width - 1)) if symmetric else points
    bytes_ = packed(codes, scales, points, grid)
    assert bytes_.shape == (rows, grid.bytes(1, inputs, 4))
    for found, wanted in zip(unpacked(bytes_, inputs, grid), (codes, scales, points), strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("text", GRIDS)
def test_levels_are_read_as_they_are_written(text: str) -> None:
    level = read(text)
    assert isinstance(level, Grid)
    assert str(level) == f"grid:{text}"
    assert treatment(str(level)) == level
    assert 0 < level.share < 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("int9", "2 to 8 bits"),
        ("int4-g4", "a group has 8 to"),
        ("int4-128", "write int8, int4-g128"),
        ("fp4", "no grid"),
        ("Q9_0", "no type"),
    ],
)
def test_what_is_no_level(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(text)


@pytest.mark.parametrize("text", GRIDS)
def test_nearest_is_the_nearest(text: str) -> None:
    """No weight is further off than half a step, and zero stays zero."""
    grid, whole = Grid.read(text), matrix()
    whole[:, ::7] = 0
    rows = rounded(whole, grid)
    found = taken_apart(rows, 192, grid)
    assert grid.half or torch.all(found[whole == 0] == 0)
    if grid.float8:
        scale = (whole.abs().amax(1, keepdim=True) / 448).half().float()
        assert torch.equal(found, (whole / scale).to(torch.float8_e4m3fn).float() * scale)
        return
    _, scales, _ = unpacked(rows, 192, grid)
    size = grid.group or 192
    steps = scales.repeat_interleave(size, dim=1)
    # At the ends of a grid, whose zero point is rounded, a weight may be half a step more away.
    assert torch.all((found - whole).abs() <= (0.6 if grid.symmetric or grid.half else 1.01) * steps)


def test_rows_of_zeros_stay_zeros() -> None:
    for text in GRIDS:
        for way in ("nearest", "hqq", "gptq"):
            if way != "hqq" or text.endswith("-half"):
                rows = rows_of(text, torch.zeros(3, 192), way, gram() if way == "gptq" else None)
                assert torch.equal(weights_of(text, rows, 192), torch.zeros(3, 192))


@pytest.mark.parametrize("text", ["int4-g32", "int3-g16", "int2-g8", "int3", "int8", "int4-g16-sym", "fp8"])
def test_gptq_is_column_by_column_with_the_rest_made_up(text: str) -> None:
    """Against the plain rule: round a column, and change those after it to the best that is left (Frantar et al. 2022,
    eqs. 1 to 3), with an inverse that is taken anew for every column."""
    grid, whole, of = Grid.read(text), matrix(), gram()
    rows = gptq(whole, of, grid)
    damped = of.double() + DAMPING * of.double().diagonal().mean() * torch.eye(192, dtype=torch.float64)
    left, size = whole.double().clone(), grid.group or 192
    wanted = torch.zeros_like(left)
    for column in range(192):
        if column % size == 0:
            scales, points = nearest(left[:, column : column + size].float(), grid)
        value = left[:, column : column + 1]
        if grid.float8:
            found = (value.float() / scales).to(torch.float8_e4m3fn).float() * scales
        else:
            found = ((value.float() / scales + points).round().clamp(0, 2**grid.width - 1) - points) * scales
        wanted[:, column] = found[:, 0].double()
        inverse = torch.linalg.inv(damped[column:, column:])
        left[:, column:] -= (value - found) * inverse[0] / inverse[0, 0]
    codes = taken_apart(rows, 192, grid)
    # A group's scale may be set before the last columns of its block are changed; else all is the same.
    same = (codes.double() - wanted).abs() <= 1e-6
    assert same.double().mean() > 0.98
    assert seen_error(rows, whole, grid, of) < seen_error(rounded(whole, grid), whole, grid, of)


@pytest.mark.parametrize("text", ["int4-g32-half", "int3-g16-half", "int2-g64-half", "int2-half"])
def test_hqq_has_smaller_errors_in_its_norm(text: str) -> None:
    grid = Grid.read(text)
    whole = matrix()
    whole[::3, ::17] *= 8

    def norm(rows: torch.Tensor) -> float:
        return float((taken_apart(rows, 192, grid) - whole).abs().pow(0.7).sum())

    assert norm(rounded(whole, grid, hqq)) < norm(rounded(whole, grid))


def bench_of(
    levels: list[str], quantizer: str, family: str = "llama", widths: WidthSettings | None = None, **more: Any
) -> tuple[Bench, Space]:
    model = model_of(family, **{**SIZES, **more})
    shape = anatomy_of(model)
    asked = KINDS["bits"].settings.model_validate({"kind": "bits", "levels": levels, "per": "sublayer"})
    genes = KINDS["bits"].genes(shape, asked, Wishes())
    outer = KINDS["bits"].settings.model_validate({"kind": "bits", "levels": levels, "of": "embedding"})
    genes += KINDS["bits"].genes(shape, outer, Wishes())
    if widths is not None:
        genes += width_genes(shape, widths.hidden)
    space = Space(shape, genes)
    loaded = Loaded(model, None, shape, model_digest(model), {"calibration": random_text()}, None, widths)
    return replace(loaded, quantizer=quantizer).prepared(space), space


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("quantizer", ["nearest", "hqq", "gptq"])
@pytest.mark.parametrize(
    ("family", "widths"),
    [
        ("llama", None),
        ("llama", WidthSettings("output-error", "least-squares")),
        ("llama", WidthSettings("magnitude", None)),
        ("llama", WidthSettings("magnitude", None, "magnitude")),
        ("llama", WidthSettings("magnitude", None, "pca")),
        ("gpt2", None),
    ],
)
def test_applied_is_materialised(family: str, quantizer: str, widths: WidthSettings | None) -> None:
    changes = {"n_embd": 64, "n_inner": 128, "n_layer": 2, "n_head": 4} if family == "gpt2" else {}
    half = "-half" * (quantizer == "hqq")
    levels = [f"int8{half}", f"int4-g32{half}", f"int3-g16{half}"]
    bench, space = bench_of(levels, quantizer, family, widths, **changes)
    mixed = space.canonical(space.dense.with_level(0, 2).with_level(1, 3).with_level(4, 1))
    for genome in (space.smallest, mixed):
        states = space.states(genome)
        applied = through_blocks(bench, states)
        smaller = materialised(bench.model, space.anatomy, states, bench.weights)
        assert torch.equal(applied, smaller(IDS).logits[0].float())
    files = [file.name for file in (bench.compressors["grid"].folder).iterdir()]  # type: ignore[attr-defined]
    assert any(".gptq." in name for name in files) == (quantizer == "gptq")


@pytest.mark.parametrize("quantizer", ["nearest", "gptq"])
def test_rows_are_those_of_the_whole_matrix_and_what_was_seen(quantizer: str) -> None:
    bench, space = bench_of(["int4-g32"], quantizer)
    states = space.states(space.smallest)
    for block, hidden in bench.blocks.inputs(bench.preparing.ids):
        found = block_statistics(bench.blocks, block, hidden, gram=True)
        for position, linear in enumerate(block.linears):
            whole, of = bench.blocks.dense(block.index)[f"{linear.name}.weight"], found[linear.name].gram
            assert of is not None
            grid = Grid.read("int4-g32")
            rows = gptq(whole, of.float(), grid) if quantizer == "gptq" else rounded(whole, grid)
            wanted = taken_apart(rows, linear.inputs, grid)
            assert torch.equal(bench.weights.linear(block.index, position, states[block.index]), wanted)


def test_narrower_rows_are_made_from_what_their_inputs_were() -> None:
    """As if the narrower matrix and the products of the inputs that are kept had been given."""
    bench, space = bench_of(["int4-g16"], "gptq", widths=WidthSettings("magnitude", None))
    genome = space.from_json({"mlp@1": 64, "bits@1.mlp": "grid:int4-g16"})
    states = space.states(genome)
    [(block, hidden)] = [pair for pair in bench.blocks.inputs(bench.preparing.ids) if pair[0].index == 1]
    of = block_statistics(bench.blocks, block, hidden, gram=True)["mlp.down_proj"].gram
    assert of is not None
    whole = bench.blocks.dense(1)["mlp.down_proj.weight"]
    rows = gptq(whole[:, :64], of.float()[:64, :64], Grid.read("int4-g16"))
    position = [linear.name for linear in block.linears].index("mlp.down_proj")
    assert torch.equal(bench.weights.linear(1, position, states[1]), taken_apart(rows, 64, Grid.read("int4-g16")))


def test_costs_are_what_the_store_holds(tmp_path: Path) -> None:
    bench, space = bench_of(["int8-sym", "int4-g32", "int3-g16"], "nearest")
    from safetensors.torch import load_file

    files = list((tmp_path / "cache" / "levels").rglob("*.safetensors"))
    assert sum(tensor.nbytes for file in files for tensor in load_file(file).values()) == packed_bytes(space)
    small, dense = space.costs(space.smallest), space.costs(space.dense)
    linears = [linear for block in space.anatomy.blocks for linear in block.linears]
    linears += space.anatomy.blocks[0].outside
    saved = sum(4 * one.weights - Grid.read("int3-g16").bytes(one.outputs, one.inputs, 4) for one in linears)
    assert dense.weight_bytes - small.weight_bytes == saved
    assert len(bench.compressors) == 1


@pytest.mark.parametrize("hidden", [None, "magnitude", "pca"])
def test_what_was_seen_is_predicted_as_it_is_kept(tmp_path: Path, hidden: str | None) -> None:
    from safetensors.torch import load_file

    _, space = bench_of(["int4-g32"], "gptq", widths=WidthSettings("magnitude", None, hidden))
    files = [file for file in (tmp_path / "cache" / "levels").rglob("*.safetensors") if ".gptq." in file.name]
    stored = sum(tensor.nbytes for file in files for tensor in load_file(file).values())
    assert stored == seen_bytes(space, "gptq", rotated=hidden == "pca")
    assert seen_bytes(space, "nearest") == 0


@pytest.mark.parametrize(
    ("levels", "quantizer", "message"),
    [
        (["int4-g32"], "importance", "importance does not make int4-g32; write quantizer: gptq, hqq or nearest"),
        (["Q8_0"], "gptq", "gptq does not make Q8_0; write quantizer: importance or nearest"),
        (["int4-g128"], "nearest", "no multiple of 128"),
        (["int4-g16-sym"], "hqq", "hqq moves zero points .* those of int4-g16-sym lie on it; write int4-g64-half"),
        (["int4-g16"], "hqq", "those of int4-g16 lie on it"),
    ],
)
def test_what_cannot_be_made(levels: list[str], quantizer: str, message: str) -> None:
    with pytest.raises(SecateurError, match=message):
        bench_of(levels, quantizer)


def test_a_held_level_is_what_it_was_and_lets_gradients_through() -> None:
    bench, _ = bench_of(["int4-g32"], "nearest")
    trained = matrix(8, 64).requires_grad_()
    level = Grid.read("int4-g32")
    held = bench.compressors["grid"].hold(level, trained, trained.detach())
    assert torch.allclose(held, taken_apart(rounded(trained.detach(), level), 64, level))
    held.sum().backward()  # type: ignore[no-untyped-call]
    assert trained.grad is not None
    assert torch.equal(trained.grad, torch.ones(8, 64))
    other, _ = bench_of(["int4-g32"], "gptq")
    with pytest.raises(SecateurError, match="quantizer: nearest"):
        other.compressors["grid"].hold(level, matrix(8, 64), matrix(8, 64))


BOTH = ["0.5+int4-g32", "2:4+int8-sym", "0.25+int3-g16", "1:4+int4-g16-sym", "0.5+fp8"]


@pytest.mark.parametrize("text", BOTH)
def test_zeros_and_a_grid_are_read_and_cost_what_the_grid_does(text: str) -> None:
    level = read(text)
    assert isinstance(level, Both)
    assert treatment(str(level)) == level
    assert read(str(name_of(level, 192))) == level
    assert level.bytes(12, 192, 4) == level.grid.bytes(12, 192, 4)
    assert level.zeros(12, 192) == level.zeros_of.zeros(12, 192) > 0
    assert level.share > level.grid.share


@pytest.mark.parametrize(
    ("text", "message"), [("0+int4-g32", "no zeros"), ("0.5+int4-g32-half", "leave -half out"), ("0.5+Q8_0", "no grid")]
)
def test_what_is_no_level_of_both(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(text)


@pytest.mark.parametrize("text", BOTH)
@pytest.mark.parametrize("way", ["nearest", "gptq"])
def test_both_have_their_zeros_and_their_grid(text: str, way: str) -> None:
    """No fewer zeros than asked for, patterns in place, and every other weight on the grid that is stored."""
    level, whole, of = read(text), matrix(), gram()
    assert isinstance(level, Both)
    rows = rows_of(f"{level.zeros_of}+{text.partition('+')[2]}", whole, way, of if way == "gptq" else None)
    found = weights_of(text, rows, 192)
    assert int((found == 0).sum()) >= level.zeros(12, 192)
    if level.zeros_of.of:
        groups = (found != 0).reshape(12, -1, level.zeros_of.of).sum(-1)
        assert int(groups.max()) <= level.zeros_of.keep
    assert torch.equal(found, taken_apart(rows, 192, level.grid))
    if way == "nearest":
        kept = found != 0
        assert torch.all((found - whole)[kept].abs() <= (whole.abs().max() if level.grid.float8 else 0.2))


@pytest.mark.parametrize("text", BOTH)
def test_one_pass_is_better_than_one_after_the_other(text: str) -> None:
    """What is pruned and what is rounded make up for each other; against pruning by SparseGPT and rounding then."""
    level, whole, of = read(text), matrix(), gram()
    assert isinstance(level, Both)
    together = rows_of(text, whole, "gptq", of)
    statistics = Statistics(of.diagonal().double(), 600, of.double(), torch.zeros(192, dtype=torch.float64))
    pruned = sparsegpt(whole, statistics, level.zeros_of)
    apart = rounded(pruned, level.grid)
    assert seen_error(together, whole, level.grid, of) < seen_error(apart, whole, level.grid, of)


def test_without_anything_to_round_one_pass_is_sparsegpt() -> None:
    """On a grid so fine that rounding does nothing, masks are SparseGPT's."""
    level, whole, of = read("0.5+int8-g8"), matrix(), gram()
    assert isinstance(level, Both)
    found = weights_of("0.5+int8-g8", rows_of("0.5+int8-g8", whole, "gptq", of), 192)
    statistics = Statistics(of.diagonal().double(), 600, of.double(), torch.zeros(192, dtype=torch.float64))
    wanted = sparsegpt(whole, statistics, level.zeros_of)
    assert ((found == 0) == (wanted == 0)).float().mean() > 0.98
    assert float((found - wanted).norm() / wanted.norm()) < 0.1


@pytest.mark.parametrize("quantizer", ["nearest", "gptq"])
def test_both_applied_is_materialised(quantizer: str) -> None:
    bench, space = bench_of(
        ["int8", "0.5+int4-g32", "2:4+int8-sym"], quantizer, "llama", WidthSettings("magnitude", None)
    )
    for genome in (space.smallest, space.canonical(space.dense.with_level(0, 2).with_level(1, 1).with_level(4, 1))):
        states = space.states(genome)
        smaller = materialised(bench.model, space.anatomy, states, bench.weights)
        assert torch.equal(through_blocks(bench, states), smaller(IDS).logits[0].float())
    costs, dense = space.costs(space.smallest), space.costs(space.dense)
    assert costs.nonzero_parameters < costs.parameters
    assert dense.nonzero_parameters == dense.parameters


def test_what_is_trained_keeps_its_zeros_and_its_grid() -> None:
    bench, _ = bench_of(["0.5+int4-g32"], "nearest")
    level, began = read("0.5+int4-g32"), matrix(8, 64)
    assert isinstance(level, Both)
    trained = (began + matrix(8, 64, seed=3) / 4).requires_grad_()
    held = bench.compressors["both"].hold(level, trained, began)
    kept = ~pruned(began, level.zeros_of)
    assert torch.all(held[~kept] == 0)
    wanted = taken_apart(rounded(torch.where(kept, trained.detach(), 0.0), level.grid), 64, level.grid)
    assert torch.allclose(held, wanted)
    held.sum().backward()  # type: ignore[no-untyped-call]
    assert trained.grad is not None
    assert torch.equal(trained.grad, kept.float())


@pytest.mark.parametrize("what", ["lora", "full"])
@pytest.mark.parametrize("widths", [None, WidthSettings("magnitude", None, "pca")])
def test_training_begins_with_what_was_searched(tmp_path: Path, what: Any, widths: WidthSettings | None) -> None:
    """For every sort of level: steps of nothing leave the loss as it is. (A symmetric grid that is taken anew from what
    has been rounded is another one.)"""
    names = ["int8-sym", "int4-g16", "0.5+int4-g16-sym", "int3-g16-half", "int3-g16-sym", "int2-g16-sym"]
    bench, space = bench_of(names, "nearest", widths=widths)
    rates = Training(what=what, optimiser="sgd", learning_rate=1e-30, batch=2)
    trainer = bench.trainer(space, rates, "calibration", tmp_path / "states")
    for number in range(1, len(names) + 1):
        levels = [number if gene.treatments and gene.site != "embedding" else 1 for gene in space.genes]
        genome = space.canonical(Genome(tuple(levels)))
        evaluator = bench.evaluator(space, "calibration", ("kl",))
        [before] = evaluator([genome], range(4))
        after = evaluator.changed(genome, range(4), lambda one: trainer(one, (32,)))
        assert after.loss == pytest.approx(before.loss, rel=1e-4)


def test_the_smallest_weights_have_a_scale() -> None:
    """Down to the smallest that half precision holds."""
    for text in ("int8", "int8-sym", "int4-g32"):
        grid, whole = Grid.read(text), matrix() / 200
        small = taken_apart(rounded(whole, grid), 192, grid)
        usual = taken_apart(rounded(whole * 200, grid), 192, grid) / 200
        assert float((small - whole).norm()) < 1.3 * float((usual - whole).norm())


def test_norms_are_trained_beside_any_rounding(tmp_path: Path) -> None:
    """What was rounded by GPTQ stays as it is, bit for bit, and the loss falls."""
    bench, space = bench_of(["int4-g16", "int2-g16"], "gptq")
    trainer = bench.trainer(space, Training(what="norms", learning_rate=3e-3, batch=2), "calibration", tmp_path / "s")
    evaluator = bench.evaluator(space, "calibration", ("kl",))
    [before] = evaluator([space.smallest], range(4))
    changed = trainer(space.smallest, (16 * 32,))
    assert all(tensor.dim() == 1 for tensor in changed.values())
    assert evaluator.changed(space.smallest, range(4), lambda _: changed).loss < before.loss


@pytest.mark.parametrize("widths", [None, WidthSettings("magnitude", None)])
def test_errors_are_weighed_by_what_gptq_has_seen(widths: WidthSettings | None) -> None:
    """The diagonal of the inputs' products, kept with or without widths."""
    bench, space = bench_of(["int4-g16"], "gptq", widths=widths)
    state = space.states(space.smallest)[1]
    [(block, hidden)] = [pair for pair in bench.blocks.inputs(bench.preparing.ids) if pair[0].index == 1]
    found = block_statistics(bench.blocks, block, hidden, gram=True)
    whole = space.states(space.dense.with_level(3, 1))[1]
    for position, linear in enumerate(block.linears):
        if linear.name in whole.treated:
            importance = bench.weights.importance(1, position, whole)
            assert importance is not None
            gram = found[linear.name].gram
            assert gram is not None
            assert torch.allclose(importance, gram.diagonal().float())
    assert state.treated
    errors = stored_errors(space, bench.weights)
    assert all(row[1] > 0 for row, gene in zip(errors, space.genes, strict=True) if "bits" in gene.features)


def test_what_is_damaged_ends_the_run() -> None:
    bench, space = bench_of(["int4-g16"], "gptq")
    folder = bench.compressors["grid"].folder  # type: ignore[attr-defined]
    for file in folder.glob("*.gptq.safetensors"):
        file.write_bytes(b"nothing")
    again, _ = bench_of(["int4-g16"], "nearest")
    bench.compressors["grid"]._held.clear()  # type: ignore[attr-defined]
    bench.compressors["grid"]._planes = again.compressors["grid"]._planes  # type: ignore[attr-defined]
    with pytest.raises(StorageError, match="missing, truncated or damaged"):
        stored_errors(space, bench.weights)

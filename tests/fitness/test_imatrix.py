"""Importance matrices from files: the same levels as those measured, whatever order the model is put in."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import secateur
from secateur.fitness.bench import Bench
from secateur.fitness.bits.imatrix import read_importances
from secateur.fitness.model.checkpoint import anatomy_of
from secateur.fitness.model.examined import model_digest
from secateur.fitness.widths.preparation import WidthSettings
from secateur.fitness.workplace import Loaded
from secateur.fitness.zeros.preparation import block_statistics
from secateur.space.anatomy import Anatomy
from secateur.space.errors import SecateurError
from secateur.space.kinds.settings import Wishes
from secateur.space.kinds.table import KINDS
from secateur.space.space import Space
from tests.fitness.prepared import needs_library, random_text, width_genes
from tests.tiny import model_of, save_text, save_tiny, tiny_recipe

SIZES: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "head_dim": 16}
TOKENS = 8.0


def short(anatomy: Anatomy, index: int, position: int) -> str:
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, len(anatomy.blocks))
    found = names.get_name(anatomy.matrix_name(index, position))
    assert found is not None
    return str(found)


def written(path: Path, squares: dict[str, np.ndarray[Any, Any]], kind: str = "imatrix") -> Path:
    """As llama-imatrix writes it: sums over tokens, and how many."""
    writer = gguf.GGUFWriter(path, "imatrix")
    writer.add_type(kind)
    for name, values in squares.items():
        writer.add_tensor(f"{name}.weight.in_sum2", (values * TOKENS).astype(np.float32)[None])
        writer.add_tensor(f"{name}.weight.counts", np.array([[TOKENS]], dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def measured(model: Any, anatomy: Anatomy) -> dict[str, np.ndarray[Any, Any]]:
    """Of the model as it is on disk, before anything is put in order."""
    blocks = Loaded(model, None, anatomy, "", {"calibration": random_text()}).blocks
    found = {}
    for block, hidden in blocks.inputs(random_text().ids):
        statistics = block_statistics(blocks, block, hidden, gram=False)
        for position, linear in enumerate(block.linears):
            one = statistics[linear.name]
            found[short(anatomy, block.index, position)] = (one.square_sum / one.count).numpy()
    return found


def prepared(widths: WidthSettings | None, path: Path | None) -> tuple[Bench, Space]:
    model = model_of("llama", **SIZES)
    shape = anatomy_of(model)
    asked = KINDS["bits"].settings.model_validate({"kind": "bits", "levels": ["Q5_0", "Q4_0"], "per": "linear"})
    genes = KINDS["bits"].genes(shape, asked, Wishes())
    if widths is not None:
        genes += width_genes(shape, widths.hidden)
    space = Space(shape, genes)
    text = {"calibration": random_text()}
    given = read_importances(path, shape) if path is not None else None
    loaded = Loaded(model, None, shape, model_digest(model), text, None, widths)
    return replace(loaded, quantizer="importance", importances=given).prepared(space), space


@needs_library
@pytest.mark.parametrize(
    "widths",
    [
        None,
        WidthSettings("output-error", "least-squares"),
        WidthSettings("magnitude", None, "magnitude"),
    ],
)
def test_levels_are_those_of_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, widths: WidthSettings | None
) -> None:
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path / "cache"))
    model = model_of("llama", **SIZES)
    path = written(tmp_path / "imatrix.gguf", measured(model, anatomy_of(model)))
    (ours, space), (theirs, _) = prepared(widths, None), prepared(widths, path)
    assert ours.compressors["bits"].identity != theirs.compressors["bits"].identity
    narrow = space.canonical(space.smallest.with_level(0, 0))
    for genome in (space.smallest, narrow, space.dense.with_level(3, 1)):
        for block, state in zip(space.anatomy.blocks, space.states(genome), strict=True):
            for position, linear in enumerate(block.linears):
                if linear.name in state.treated:
                    one, other = (bench.weights.linear(block.index, position, state) for bench in (ours, theirs))
                    # Sums were taken in another order, which may decide of a block here and there.
                    assert float((one != other).float().mean()) < 0.03, linear.name


@needs_library
def test_a_rotated_stream_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path / "cache"))
    model = model_of("llama", **SIZES)
    path = written(tmp_path / "imatrix.gguf", measured(model, anatomy_of(model)))
    with pytest.raises(SecateurError, match="says nothing of a rotated residual stream"):
        prepared(WidthSettings("magnitude", None, "pca"), path)


def test_files_that_are_none_or_of_another_model(tmp_path: Path) -> None:
    model = model_of("llama", **SIZES)
    shape, other = anatomy_of(model), anatomy_of(model_of("llama", **{**SIZES, "intermediate_size": 256}))
    deeper = anatomy_of(model_of("llama", **{**SIZES, "num_hidden_layers": 3}))
    squares = measured(model, shape)
    path = written(tmp_path / "imatrix.gguf", squares)
    assert len(read_importances(path, shape).values) == 14
    with pytest.raises(SecateurError, match=r"blk\.0\.ffn_down has 128 inputs there, the model's 256"):
        read_importances(path, other)
    with pytest.raises(SecateurError, match=r"has nothing of blk\.2\.attn_q; it is of another model"):
        read_importances(path, deeper)
    for name, content, message in (
        ("none.gguf", None, "cannot be read as GGUF"),
        ("old.dat", b"\x05\0\0\0imatrix", "cannot be read as GGUF"),
        ("cut.gguf", path.read_bytes()[:900], "cannot be read as GGUF"),
        ("empty.gguf", b"", "cannot be read as GGUF"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(SecateurError, match=message):
            read_importances(tmp_path / name, shape)
    nothing = written(tmp_path / "zero.gguf", {**squares, "blk.0.attn_q": np.full(64, np.nan)})
    with pytest.raises(SecateurError, match=r"blk\.0\.attn_q has no squares added up"):
        read_importances(nothing, shape)
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_tensor("blk.0.attn_q.weight", np.zeros((4, 4), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(SecateurError, match="is no importance matrix"):
        read_importances(tmp_path / "model.gguf", shape)


@needs_library
def test_a_recipe_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a name beside the recipe; another file is another way to make levels, with which a run is not gone on."""
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    save_tiny(tmp_path / "model", **SIZES)
    model = model_of("llama", **SIZES)
    written(tmp_path / "imatrix.gguf", squares := measured(model, anatomy_of(model)))
    save_text(tmp_path / "calibration.txt", seed=1)
    genes = [{"kind": "bits", "per": "sublayer", "levels": ["Q8_0", "Q4_0"]}]
    asked = tiny_recipe(
        tmp_path / "model", tmp_path / "calibration.txt", genes=genes, budgets={"weight_bytes": "0.7x"}
    ) | {"importance": "imatrix.gguf", "strategy": {"name": "greedy", "sequences": 2}}
    run = secateur.run(asked, tmp_path / "run")
    assert secateur.resume(run.path).summary.rows[0].genome == run.summary.rows[0].genome
    written(tmp_path / "imatrix.gguf", {name: values[::-1].copy() for name, values in squares.items()})
    with pytest.raises(SecateurError, match="is not what this run began with"):
        secateur.resume(run.path)
    with pytest.raises(SecateurError, match="is not the file the run was made with"):
        run.export("hf", tmp_path / "small")
    with pytest.raises((SecateurError, ValueError), match="importance: is for bits genes with quantizer: importance"):
        secateur.run(asked | {"quantizer": "nearest"}, tmp_path / "other")

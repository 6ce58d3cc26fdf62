"""`target:` in a recipe: what is left of the space is what the consumer can carry out, whatever is combined."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secateur.operators.sampling import from_states, uniform
from secateur.plans.features import Subject
from secateur.plans.formats.table import FORMATS, refusal
from secateur.plans.targets import CONSUMERS, target_of
from secateur.runs.asked.reading import make_recipe
from secateur.runs.problem import build_space
from secateur.space.errors import SecateurError
from secateur.space.families.table import anatomy
from secateur.space.layout import stock_widths
from secateur.space.space import Space
from tests.tiny import config_of, save_tiny

NOTHING = ("no layer is dropped", "no linear has zeros", "no linear is on a grid", "nothing is stored")
"""What formats that only say what is done say of the dense model, and of the like."""
EVERYTHING: list[dict[str, Any]] = [
    {"kind": "attention", "levels": [2, 1, 0]},
    {"kind": "queries", "levels": [4, 3, 2, 1]},
    {"kind": "mlp", "levels": [1.0, 0.7, 0.4, 0]},
    {"kind": "block"},
    {"kind": "sparsity", "per": "sublayer", "levels": [0.5, "2:4"]},
]
STORED: dict[str, list[str]] = {
    **{name: ["Q8_0", "int8", "int4-g32"] for name in ("gptqmodel", "mlx", "llama-quantize")},
    **{name: ["int8-sym", "int4-g32-sym", "fp8"] for name in ("torchao-config", "modelopt")},
    "evopress-bits": ["int4-g32", "int3-g32"],
}
"""Levels of bits for formats that have no zeros: beside those there is no place for them."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(
        tmp_path_factory.mktemp("models") / "llama",
        num_attention_heads=8,
        head_dim=4,
        intermediate_size=160,
        num_hidden_layers=5,
    )


def recipe(model: Path, genes: list[dict[str, Any]], **changes: Any) -> Any:
    return make_recipe(
        {
            "model": {"path": str(model)},
            "calibration": {"source": "words.txt", "sequences": 4, "length": 16},
            "genes": genes,
            "strategy": {"name": "knapsack"},
            **changes,
        }
    )


def restricted(model: Path, target: str, genes: list[dict[str, Any]], **changes: Any) -> Space:
    return build_space(recipe(model, genes, target=target, **changes))


def fitting(model: Path, target: str) -> list[dict[str, Any]]:
    """Of all kinds of genes those of which the target leaves something."""
    left = []
    stored = [{"kind": "bits", "per": "sublayer", "levels": STORED[target]}] if target in STORED else []
    for gene in (*EVERYTHING, *stored):
        try:
            restricted(model, target, [gene])
        except SecateurError as error:
            assert f"target: {target} leaves nothing to decide for {gene['kind']} genes" in str(error)
        else:
            left.append(gene)
    return left


@pytest.mark.parametrize("target", [*FORMATS, *CONSUMERS])
def test_every_genome_can_be_carried_out(target: str, model: Path) -> None:
    genes = fitting(model, target)
    space = restricted(model, target, genes)
    assert {gene.kind.name for gene in space.genes} == {gene["kind"] for gene in genes}
    config = config_of("llama", num_attention_heads=8, head_dim=4, intermediate_size=160, num_hidden_layers=5).to_dict()
    shape = anatomy(config, "float32")
    rng = np.random.default_rng(0)
    for genome in [uniform(space, rng) for _ in range(150)]:
        states = space.states(genome)
        reason = refusal(target_of(target).form, Subject(shape, states, config, str(model)))
        assert reason is None or reason.startswith(NOTHING), space.to_json(genome)
        widths = {state.kept["channels"] for state in states if state.kept["channels"]}
        assert all(width % target_of(target).multiple == 0 for width in widths)
        if target_of(target).uniform:
            assert len({tuple(s.kept.values()) for s in states if not s.removed}) <= 1


def levels(space: Space) -> dict[str, tuple[Any, ...]]:
    """Levels by kind, of the second layer where there is a gene for each."""
    return {gene.kind.name: gene.levels for gene in space.genes if gene.site in ("1", "model", "1.mlp")}


def test_what_is_left(model: Path) -> None:
    everything = levels(restricted(model, "plan", EVERYTHING))
    assert everything["attention"] == (2, 1, 0)
    assert everything["mlp"] == (160, 112, 64, 0)
    cpp = levels(restricted(model, "llama.cpp", EVERYTHING))
    assert cpp["mlp"] == (160, 128, 64, 0), "multiples of 32"
    vllm = levels(restricted(model, "vllm", EVERYTHING))
    assert (vllm["attention"], vllm["mlp"]) == ((2, 1), (160, 112, 64)), "no layer without one of its sublayers"
    plain = restricted(model, "transformers-plain", EVERYTHING[1:])
    assert [gene.site for gene in plain.genes if gene.kind.name == "mlp"] == ["model"]
    assert levels(plain)["queries"] == (4, 2, 1), "6 heads do not go into a residual stream of 32, which Llama checks"
    pruning = levels(restricted(model, "torch-pruning", EVERYTHING[1:3]))
    assert pruning["queries"] == (4, 3, 2), "with one query head it does nothing, without a word"
    blocks = restricted(model, "mergekit", EVERYTHING[3:4])
    assert [gene.site for gene in blocks.genes] == ["1", "2", "3", "4"]


def test_widths_of_a_stock_class_go_together(tmp_path: Path) -> None:
    """Heads have to go into the residual width: levels that do so on the dense model alone are not enough."""
    sizes: dict[str, Any] = {"hidden_size": 96, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 12}
    folder = save_tiny(tmp_path / "wide", **sizes)
    genes: list[dict[str, Any]] = [
        {"kind": "attention", "levels": [4, 3, 2]},
        {"kind": "queries", "levels": [2, 1]},
        {"kind": "hidden", "levels": [96, 72, 64]},
        {"kind": "block"},
    ]
    space = restricted(folder, "transformers-plain", genes, widths={"hidden": "magnitude", "repair": None})
    assert {gene.kind.name: gene.levels for gene in space.genes if gene.site == "model"} == {
        "attention": (4, 3, 2),
        "queries": (2, 1),
        "hidden": (96, 72),
    }, "64 is no multiple of 6 heads, and 3 of 4 KV groups are 6"
    for genome in space.all():
        assert stock_widths(space.anatomy, space.states(genome)) is not None


REFUSED: list[tuple[str, list[dict[str, Any]], dict[str, Any], str]] = [
    ("mergekt", EVERYTHING[3:4], {}, "target: unknown 'mergekt'; did you mean 'mergekit'"),
    ("mergekit", EVERYTHING[2:3], {}, "leaves nothing to decide for mlp genes: layer 0 keeps 112 of 160 MLP channels"),
    ("mergekit", EVERYTHING[3:], {}, "leaves nothing to decide for sparsity genes"),
    ("llama.cpp", EVERYTHING[3:4], {"keep_first_attention": False}, "reads sizes off layer 0"),
    ("transformers-plain", EVERYTHING[2:3], {"widths": {"repair": "bias"}}, "no place for added biases"),
    ("transformers-plain", [{"kind": "mlp"}], {}, "nothing to decide for mlp genes: layer 0 keeps its attention alone"),
    ("gguf", [{"kind": "hidden", "levels": [0.5]}], {}, "nothing to decide for hidden genes"),
    ("llama.cpp", [{"kind": "mlp", "levels": [100]}], {}, "level 100 is no multiple of multiple_of 32"),
]


@pytest.mark.parametrize(("target", "genes", "changes", "message"), REFUSED)
def test_what_a_target_cannot_do_is_said_before_anything_runs(
    target: str, genes: list[dict[str, Any]], changes: dict[str, Any], message: str, model: Path
) -> None:
    with pytest.raises(SecateurError, match=message):
        restricted(model, target, genes, **changes)


def test_biases_have_no_place_in_openelm(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "qwen3", "qwen3")
    genes: list[dict[str, Any]] = [{"kind": "mlp", "levels": [32]}]
    assert restricted(folder, "llama.cpp", genes).genes
    with pytest.raises(SecateurError, match="added biases have no place in openelm"):
        restricted(folder, "llama.cpp", genes, widths={"repair": "bias"})


def test_one_width_for_all_layers(model: Path) -> None:
    """`per: model`; the gene matters as long as one of its blocks is there."""
    genes: list[dict[str, Any]] = [{"kind": "mlp", "per": "model", "levels": [1.0, 0.5]}, {"kind": "block"}]
    both = [*genes, {"kind": "mlp", "levels": [0]}]
    with pytest.raises(SecateurError, match="block 0: both mlp@model and mlp@0 decide on it"):
        build_space(recipe(model, both))
    halves: list[dict[str, Any]] = [genes[0] | {"layers": "0-2"}, genes[0] | {"layers": "3-4"}]
    assert [gene.key for gene in build_space(recipe(model, halves)).genes] == ["mlp@0-2", "mlp@3-4"]
    space = build_space(recipe(model, genes, keep_first_attention=False))
    assert [gene.key for gene in space.genes] == ["mlp@model", *(f"block@{index}" for index in range(5))]
    half = space.dense.with_level(0, 1)
    assert {state.kept["channels"] for state in space.states(half)} == {80}
    without_first = space.canonical(half.with_level(1, 1))
    assert [state.kept["channels"] for state in space.states(without_first)] == [0, 80, 80, 80, 80]
    refused: tuple[tuple[dict[str, Any], str], ...] = (
        ({"kind": "mlp", "per": "model"}, "give 'levels'"),
        ({"kind": "mlp", "per": "model", "levels": [0]}, "narrows them"),
        ({"kind": "sparsity", "per": "model", "levels": [0.5]}, "per: unknown 'model'; known: block"),
        ({"kind": "mlp", "per": "model", "levels": [[80], [60], [80], [80], [80]]}, "different levels"),
    )
    # Read back from states: what is gone says nothing of the width, and what differs counts in the mean.
    for genome in space.all():
        if genome.levels[1:] != (1,) * 5:
            assert from_states(space, space.states(genome)) == genome
    for wrong, message in refused:
        with pytest.raises(SecateurError, match=message):
            build_space(recipe(model, [wrong]))

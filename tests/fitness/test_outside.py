"""Embedding and head in fewer bits: costs, every form of a subnet, prefixes, slopes, files."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from secateur.fitness.bench import Bench
from secateur.fitness.bits.decoding import decode
from secateur.fitness.bits.encoding import encode
from secateur.fitness.bits.treatment import Quantised
from secateur.fitness.evaluator import SubnetEvaluator
from secateur.fitness.memory import Placement
from secateur.fitness.model.checkpoint import anatomy_of, load_model
from secateur.fitness.model.examined import model_digest
from secateur.fitness.slopes import SubnetSlopes
from secateur.fitness.subnets.materialise import materialised
from secateur.fitness.subnets.subnet import Subnet
from secateur.fitness.text import TextRequest
from secateur.fitness.widths.preparation import WidthSettings
from secateur.fitness.workplace import Loaded, Workplace
from secateur.operators.sampling import uniform
from secateur.plans.checkpoint.gguf import write_gguf
from secateur.plans.plan import bare_plan
from secateur.space.anatomy import Anatomy
from secateur.space.errors import SecateurError
from secateur.space.gene import Gene
from secateur.space.genome import Genome
from secateur.space.kinds.settings import Wishes
from secateur.space.kinds.table import KINDS
from secateur.space.space import Space
from tests.fitness.prepared import IDS, random_text, through_blocks
from tests.genes import hidden_gene, structured_genes
from tests.tiny import FAMILY_NAMES, anatomy_for, model_of, save_text, save_tiny

SIZES: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3}
OPT: dict[str, Any] = {"ffn_dim": 128, "word_embed_proj_dim": 32}
GPT2: dict[str, Any] = {"n_embd": 64, "n_inner": 128, "n_layer": 3, "n_head": 4}


def sizes_of(family: str, tied: bool) -> dict[str, Any]:
    own = GPT2 if family == "gpt2" else SIZES
    head = {"head_dim": 16} if family in ("llama", "mistral", "qwen3", "gemma2", "gemma3_text") else {}
    return {**own, **(OPT if family == "opt" else {}), **head, "tie_word_embeddings": tied}


def outer_genes(shape: Anatomy, levels: tuple[str, ...] = ("Q8_0", "Q4_0")) -> tuple[Gene, ...]:
    kind = KINDS["bits"]
    found: list[Gene] = []
    for of in ("embedding", "head")[: 1 if shape.tied else 2]:
        asked = kind.settings.model_validate({"kind": "bits", "levels": levels, "of": of})
        found += kind.genes(shape, asked, Wishes())
    return tuple(found)


def space_of(shape: Anatomy, *more: Gene) -> Space:
    layers = range(len(shape.blocks))
    asked = KINDS["bits"].settings.model_validate({"kind": "bits", "levels": ["Q8_0", "Q4_0"], "per": "block"})
    return Space(
        shape,
        (
            *structured_genes(shape, "attention", layers),
            *KINDS["bits"].genes(shape, asked, Wishes()),
            *outer_genes(shape),
            *more,
        ),
    )


def bench_of(model: Any, space: Space, widths: WidthSettings | None = None) -> Bench:
    text = {"calibration": random_text()}
    loaded = Loaded(model, None, space.anatomy, model_digest(model), text, None, widths, quantizer="nearest")
    return loaded.prepared(space)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_every_family_applied_is_materialised(family: str, tied: bool) -> None:
    model, other = (model_of(family, **sizes_of(family, tied)) for _ in range(2))
    shape = anatomy_of(model)
    assert shape.tied == (model.get_input_embeddings().weight is model.get_output_embeddings().weight)
    space = space_of(shape)
    bench = bench_of(model, space)
    rng = np.random.default_rng(0)
    for genome in [space.smallest, *(uniform(space, rng) for _ in range(3))]:
        states = space.states(genome)
        applied = through_blocks(bench, states)
        smaller = materialised(model, shape, states, bench.weights)
        assert torch.equal(applied, smaller(IDS).logits[0].float())
        for gene in space.genes[-1:] if shape.tied else space.genes[-2:]:
            level = gene.levels[genome.levels[space.genes.index(gene)]]
            [(block, position)] = gene.members
            name = f"{shape.matrix_name(block, position)}.weight"
            dense = model.get_parameter(name)
            wanted = decode(level.kind, encode(level.kind, dense)) if level else dense  # type: ignore[union-attr]
            assert torch.equal(smaller.get_parameter(name), wanted)
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_bytes_of_every_family_are_those_that_are_stored(family: str) -> None:
    """Of random genomes: packed rows as they are in the store, and everything else of the materialised model."""
    model = model_of(family, **sizes_of(family, tied=True))
    shape = anatomy_of(model)
    kind = KINDS["bits"]
    levels = [["Q8_0", "Q4_0"], ["int8", "int4-g32", "int3-g16-sym", "int2-g32-half", "fp8"]]
    asked = [{"levels": some, "per": "linear", "layers": [layer]} for layer, some in enumerate(levels)]
    asked += [{"levels": levels[1], "of": "embedding"}]
    genes = [
        gene
        for one in asked
        for gene in kind.genes(shape, kind.settings.model_validate({"kind": "bits", **one}), Wishes())
    ]
    space = Space(shape, (*structured_genes(shape, "attention", range(3)), *genes))
    bench = bench_of(model, space)
    rng = np.random.default_rng(5)
    for genome in [space.smallest, space.dense, *(uniform(space, rng) for _ in range(6))]:
        states = space.states(genome)
        smaller = materialised(model, shape, states, bench.weights)
        stored = sum(parameter.nbytes for parameter in smaller.parameters())
        for block, state in zip(shape.blocks, states, strict=True):
            for position, matrix in enumerate(block.matrices):
                level = state.level(matrix.name)
                if level:
                    compressor = bench.compressors[level.name]
                    assert isinstance(compressor, Quantised)
                    outputs, inputs = matrix.shape(state.sizes(block))
                    rows = compressor.packed((block.index, position), torch.empty(outputs, inputs), level, None)
                    stored += rows.nbytes - 4 * outputs * inputs
        assert space.costs(genome).weight_bytes == stored


@pytest.mark.parametrize("tied", [True, False])
def test_bytes_are_those_of_the_file(tmp_path: Path, tied: bool) -> None:
    model = model_of("llama", **sizes_of("llama", tied))
    space = space_of(anatomy_of(model))
    bench = bench_of(model, space)
    rng = np.random.default_rng(1)
    for number in range(4):
        genome = uniform(space, rng)
        genome = space.canonical(genome.with_level(0, 0))  # llama.cpp reads sizes off the first layer
        path = tmp_path / f"{number}.gguf"
        write_gguf(model, space.anatomy, space.states(genome), bench.weights, path)
        tensors = {one.name: one for one in gguf.GGUFReader(path).tensors}
        assert sum(int(one.n_bytes) for one in tensors.values()) == space.costs(genome).weight_bytes
        for gene, name in zip(space.genes[-1 if tied else -2 :], ("token_embd.weight", "output.weight"), strict=False):
            level = gene.levels[genome.levels[space.genes.index(gene)]]
            assert tensors[name].tensor_type.name == (level.kind if level else "F32")  # type: ignore[union-attr]


def test_costs_are_exact_and_older_keys_stay() -> None:
    shape = anatomy_for(**sizes_of("llama", False))
    space = space_of(shape)
    dense = space.costs(space.dense)
    genome = space.from_json({"bits@embedding": "bits:Q8_0", "bits@head": "bits:Q4_0"})
    costs = space.costs(genome)
    weights = shape.vocabulary * shape.hidden_size
    assert dense.weight_bytes - costs.weight_bytes == 8 * weights - weights // 32 * (34 + 18)
    assert (costs.parameters, costs.macs, costs.block_parameters) == (
        dense.parameters,
        dense.macs,
        dense.block_parameters,
    )
    bare = Space(shape, structured_genes(shape, "attention", range(3)))
    assert space.key(space.dense) == bare.key(bare.dense)
    keys = {space.key(space.dense.with_level(-1 % len(space.genes), level)) for level in range(3)}
    assert len(keys | {space.key(genome)}) == 4


def test_a_head_that_is_the_embedding_has_no_gene_of_its_own() -> None:
    shape = anatomy_for(**sizes_of("llama", True))
    settings = KINDS["bits"].settings
    asked = settings.model_validate({"kind": "bits", "levels": ["Q8_0"], "of": "head"})
    with pytest.raises(SecateurError, match="head of this model is its embedding; write of: embedding"):
        KINDS["bits"].genes(shape, asked, Wishes())
    with pytest.raises(ValueError, match="the embedding is one matrix: it takes no 'layers' and no 'per'"):
        settings.model_validate({"kind": "bits", "levels": ["Q8_0"], "of": "embedding", "per": "block"})
    asked = settings.model_validate({"kind": "bits", "levels": ["Q4_K"], "of": "embedding"})
    with pytest.raises(SecateurError, match=r"^model.embed_tokens: 64 inputs are no multiple of 256"):
        KINDS["bits"].genes(shape, asked, Wishes())


@pytest.mark.parametrize("tied", [True, False])
def test_prefixes_are_shared_as_far_as_they_are_the_same(tied: bool) -> None:
    """An embedding's level is shared by nobody with another, a head's costs no more than the last block."""
    model = model_of("llama", **sizes_of("llama", tied))
    space = space_of(anatomy_of(model))
    evaluate = bench_of(model, space).evaluator(space, "calibration", ("kl",))
    rng = np.random.default_rng(2)
    population = [space.dense, *(uniform(space, rng) for _ in range(8))]
    sequences = range(3)
    together = {one.genome: one for one in evaluate(population, sequences)}
    prefixes = {
        states[: depth + 1]
        for states in map(space.states, population)
        for depth in range(3)
        if not states[depth].removed
    }
    assert evaluate.layer_passes == len(prefixes) * len(sequences)
    for genome in population:
        assert next(evaluate([genome], sequences)).losses == together[space.canonical(genome)].losses
    # Around the head alone all is shared but the last block.
    heads = [space.dense.with_level(len(space.genes) - 1, level) for level in range(3)]
    before = evaluate.layer_passes
    list(evaluate(heads, sequences))
    assert evaluate.layer_passes - before == (3 * 3 if tied else 2 + 3) * len(sequences)


def test_blocks_that_come_in_turns_give_the_same(tmp_path: Path) -> None:
    save_tiny(tmp_path / "model", **sizes_of("llama", False))
    save_text(tmp_path / "text.txt", seed=1)
    found = []
    request = TextRequest("calibration", str(tmp_path / "text.txt"), "text", "train", 3, 16, 1)
    for placement in (Placement(), Placement(blocks=200_000)):
        place = Workplace(str(tmp_path / "model"), (request,), quantizer="nearest", placement=placement)
        loaded = place.load()
        space = space_of(loaded.anatomy)
        bench = loaded.prepared(space)
        assert (bench.shelf is not None) == (placement.blocks is not None)
        evaluate = bench.evaluator(space, "calibration", ("kl",))
        rng = np.random.default_rng(3)
        population = [space.dense, *(uniform(space, rng) for _ in range(6))]
        found.append({one.key: one.losses["kl"] for one in evaluate(population, range(3))})
    assert found[0].keys() == found[1].keys()
    for key, losses in found[0].items():
        assert losses == pytest.approx(found[1][key], abs=1e-6)


@pytest.mark.parametrize("order", ["magnitude", "pca"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_narrower_stream_has_them_too(order: str, tied: bool) -> None:
    model = model_of("llama", **sizes_of("llama", tied))
    shape = anatomy_of(model)
    space = space_of(shape, hidden_gene(shape, (64, 32), 32, order))
    bench = bench_of(model, space, WidthSettings("magnitude", None, order))
    states = space.states(space.smallest)
    applied = through_blocks(bench, states)
    smaller: Any = materialised(model, shape, states, bench.weights)
    assert torch.equal(applied, smaller(IDS).logits[0].float())
    embedding = smaller.get_input_embeddings().weight
    assert embedding.shape == (shape.vocabulary, 32)
    assert torch.allclose(decode("Q4_0", encode("Q4_0", embedding)), embedding, atol=1e-6)
    inside = tuple(gene for gene in space.genes if not gene.key.endswith(("embedding", "head")))
    whole = Space(shape, inside, additions=space.additions)
    saved = whole.costs(whole.smallest).weight_bytes - space.costs(space.smallest).weight_bytes
    assert saved == shape.vocabulary * (32 * 4 - 18) * (1 if tied else 2)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["llama", "gemma2", "granite"])
def test_slopes_are_those_of_autograd(family: str, tied: bool) -> None:
    """First order away from dense: the gradient of the whole matrix times what a level changes of it."""
    model = model_of(family, **sizes_of(family, tied))
    space = space_of(anatomy_of(model))
    bench = bench_of(model, space)
    genome = space.canonical(space.dense.with_level(3, 2))
    evaluate = bench.evaluator(space, "calibration", ("kl",))
    slopes = SubnetSlopes(space, bench.subnet, evaluate.teacher, "kl")
    found = next(slopes([genome], range(2)))
    assert not found.reason
    assert _first_orders(bench, space, genome, evaluate) == pytest.approx(
        [found.first[index][level] for index, level in _outer(space)], rel=1e-3, abs=1e-7
    )
    dense = next(slopes([space.dense], range(2)))
    for index, level in _outer(space):
        assert dense.first[index][level] == 0
        assert dense.second[index][level] > 0
    assert all(dense.second[index][2] > dense.second[index][1] for index, level in _outer(space))


def _outer(space: Space) -> list[tuple[int, int]]:
    genes = [index for index, gene in enumerate(space.genes) if gene.key in ("bits@embedding", "bits@head")]
    return [(index, level) for index in genes for level in (1, 2)]


def _first_orders(bench: Bench, space: Space, genome: Genome, evaluate: SubnetEvaluator) -> list[float]:
    from secateur.fitness.scores.built_in import mean_losses

    found = []
    model: Any = bench.model
    with Subnet(bench.blocks, bench.weights) as subnet:
        subnet.apply(space.states(genome))
        for index, level in _outer(space):
            [(block, position)] = space.genes[index].members
            weight = model.get_parameter(f"{space.anatomy.matrix_name(block, position)}.weight")
            change = (
                bench.weights.linear(block, position, space.states(genome.with_level(index, level))[block]) - weight
            )
            total = 0.0
            for sequence in range(2):
                with torch.enable_grad():
                    weight.requires_grad_()
                    logits = model(input_ids=evaluate.teacher.text.ids[sequence][None], use_cache=False).logits[0]
                    [loss] = mean_losses(["kl"], logits, sequence, evaluate.teacher)
                    [gradient] = torch.autograd.grad(loss, weight)
                    weight.requires_grad_(False)
                total += float((gradient * change).sum()) / 2
            found.append(total)
    return found


def test_plans_have_them() -> None:
    shape = anatomy_for(**sizes_of("llama", False))
    space = space_of(shape)
    states = space.states(space.smallest)
    plan = bare_plan("p", "model", "float32", shape, states, 64)
    assert plan.outside == {"model.embed_tokens": "bits:Q4_0", "lm_head": "bits:Q4_0"}
    assert plan.states(shape) == states
    dense = bare_plan("p", "model", "float32", shape, space.states(space.dense), 64)
    assert "outside" not in dense.model_dump(mode="json")
    with pytest.raises(
        SecateurError, match=r"plan: outside: no matrix 'wte'; there are model.embed_tokens and lm_head"
    ):
        plan.model_copy(update={"outside": {"wte": "bits:Q8_0"}}).states(shape)


def test_a_checkpoint_holds_what_was_scored(tmp_path: Path) -> None:
    model = model_of("llama", **sizes_of("llama", True))
    space = space_of(anatomy_of(model))
    bench = bench_of(model, space)
    genome = space.from_json({"bits@embedding": "bits:Q4_0", "bits@1": "bits:Q8_0"})
    smaller: Any = materialised(model, space.anatomy, space.states(genome), bench.weights)
    smaller.save_pretrained(tmp_path / "saved")
    read = load_model(str(tmp_path / "saved"))
    assert torch.equal(read(IDS).logits, smaller(IDS).logits)

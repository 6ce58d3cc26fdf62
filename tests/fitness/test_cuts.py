"""What cuts of sublayers add to the loss, against autograd on gates of single tokens, in every family."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from secateur.fitness.bench import Bench
from secateur.fitness.cuts import cuts_of
from secateur.fitness.model.checkpoint import anatomy_of
from secateur.fitness.model.examined import model_digest
from secateur.fitness.slopes import SubnetSlopes
from secateur.fitness.text import predicted
from secateur.fitness.widths.preparation import WidthSettings
from secateur.fitness.workplace import Loaded
from secateur.space.genome import Genome
from secateur.space.space import Space
from tests.fitness.prepared import random_text
from tests.genes import hidden_gene, sparsity_genes, structured_genes
from tests.tiny import FAMILY_NAMES, LEVELS, model_of

ALONE, SECOND = 1, 2
"""A block whose MLP is dropped, so that its attention is all it adds, and one whose MLP is looked at."""
NORMED = ("gemma2", "gemma3_text", "olmo2", "bert", "roberta")
"""What a branch adds is normalised there, which is no linear change of it."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path))


def bench_of(family: str, repair: str | None, pruner: str = "magnitude") -> tuple[Bench, Space]:
    model = model_of(family).double()
    shape = anatomy_of(model)
    layers = range(len(shape.blocks))
    groups = tuple(range(shape.blocks[0].dimensions["groups"], -1, -1))
    genes = (
        *structured_genes(shape, "attention", layers, levels=groups),
        *structured_genes(shape, "mlp", layers, levels="4 levels", multiple_of=4),
        *sparsity_genes(shape, LEVELS, layers, "sublayer"),
    )
    space = Space(shape, genes)
    text = random_text(masked=not shape.causal)
    widths = WidthSettings("output-error", repair)
    loaded = Loaded(model, None, shape, model_digest(model), {"calibration": text}, pruner, widths)
    return loaded.prepared(space), space


def index_of(space: Space, key: str) -> int:
    return next(index for index, gene in enumerate(space.genes) if gene.key == key)


def gated(
    bench: Bench, space: Space, genome: Genome, changed: Genome, block: int, columns: int | None = None
) -> tuple[float, float]:
    """Both orders, from gates that add to each token what the change makes of the block's output.

    `columns`: in place of `changed`, only so many inputs of the block's last linear count.
    """
    ids = bench.calibration.ids[:1]
    positions, targets = predicted(bench.calibration, 0)
    subnet, blocks = bench.subnet, bench.blocks

    def through(which: Genome, hidden: torch.Tensor) -> torch.Tensor:
        with subnet:
            subnet.apply(space.states(which if columns is None else genome))
            if columns is None or which is genome:
                return subnet.run(block, hidden)
            module: Any = blocks.modules[block].get_submodule(space.anatomy.blocks[block].linears[-1].name)
            own = module.weight.data
            module.weight.data = torch.where(torch.arange(own.shape[1]) < columns, own, 0.0)
            found = subnet.run(block, hidden)
            module.weight.data = own
            return found

    with torch.no_grad(), subnet:
        hidden = blocks.embed(ids)
        subnet.apply(space.states(genome))
        for index in range(block):
            hidden = subnet.run(index, hidden)
    with torch.no_grad():
        change = through(changed, hidden) - through(genome, hidden)
    gates = torch.zeros(change.shape[:2], dtype=change.dtype, requires_grad=True)

    def gate(_: torch.nn.Module, __: object, output: object) -> object:
        if isinstance(output, tuple):
            return (output[0] + gates[:, :, None] * change, *output[1:])
        assert isinstance(output, torch.Tensor)
        return output + gates[:, :, None] * change

    with subnet:
        subnet.apply(space.states(genome))
        hook = blocks.modules[block].register_forward_hook(gate)
        loss = blocks.loss(ids, targets[None])
        [gradient] = torch.autograd.grad(loss, gates)
        hook.remove()
    # Gradients of a mean over positions.
    return float(gradient.sum()), float(gradient.square().sum() * len(positions))


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("family", FAMILY_NAMES)
@pytest.mark.parametrize("repair", [None, "least-squares", "bias"])
def test_both_orders_are_those_of_gates_on_tokens(family: str, repair: str | None) -> None:
    if repair and family not in ("llama", "gpt2", "opt", "qwen2"):
        pytest.skip("a repair is the same to every family")
    bench, space = bench_of(family, repair)
    alone, mlp = index_of(space, f"mlp@{ALONE}"), index_of(space, f"mlp@{SECOND}")
    attention = index_of(space, f"attention@{ALONE}")
    # Zeros by magnitude are chosen anew in a narrower matrix; where a cut is looked at, there are none.
    levels = [int(bool(gene.treatments) and gene.blocks[0] not in (ALONE, SECOND)) for gene in space.genes]
    levels[alone] = len(space.genes[alone].levels) - 1
    levels[mlp] = 1
    genome = space.canonical(Genome(tuple(levels)))
    teacher = bench.evaluator(space, "calibration", ("cross_entropy",)).teacher
    [found] = SubnetSlopes(space, bench.subnet, teacher, "cross_entropy")([genome], range(1))
    assert found.reason == ""
    looked = 0
    for gene, block in ((mlp, SECOND), (attention, ALONE)):
        last = len(space.genes[gene].levels) - 1
        for level in range(genome.levels[gene] + 1, last + 1):
            if family in NORMED and space.genes[gene].levels[level]:
                assert math.isnan(found.first[gene][level])
                continue
            changed = space.canonical(genome.with_level(gene, level))
            first, second = gated(bench, space, genome, changed, block)
            assert found.first[gene][level] == pytest.approx(first, rel=1e-3, abs=1e-7)
            assert found.second[gene][level] == pytest.approx(second, rel=1e-3, abs=1e-9)
            assert found.second[gene][level] > 0
            looked += 1
    assert looked >= (1 if family in NORMED else 2)
    assert math.isnan(found.first[mlp][0]), "what has been cut is not told of"
    assert all(math.isnan(value) for level, value in enumerate(found.first[alone]) if level != levels[alone])


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("pruner", ["magnitude", "sparsegpt"])
def test_zeros_stay_where_they_are(pruner: str) -> None:
    """And what is left of a treated matrix is its own, whatever a pruner has made of it."""
    bench, space = bench_of("llama", None, pruner)
    mlp = index_of(space, f"mlp@{SECOND}")
    genome = space.canonical(Genome(tuple(int(bool(gene.treatments)) * 2 for gene in space.genes)))
    teacher = bench.evaluator(space, "calibration", ("cross_entropy",)).teacher
    [found] = SubnetSlopes(space, bench.subnet, teacher, "cross_entropy")([genome], range(1))
    for level in (1, 2):
        width = space.genes[mlp].levels[level]
        assert isinstance(width, int)
        first, second = gated(bench, space, genome, space.dense, SECOND, width)
        assert found.first[mlp][level] == pytest.approx(first, rel=1e-3, abs=1e-7)
        assert found.second[mlp][level] == pytest.approx(second, rel=1e-3, abs=1e-9)


def test_cuts_are_of_what_is_there() -> None:
    """Those of a gene that others silence, of wider levels and of the stream are none."""
    model = model_of("llama")
    shape = anatomy_of(model)
    layers = range(len(shape.blocks))
    genes = (
        *structured_genes(shape, "block", layers),
        *structured_genes(shape, "mlp", layers, levels="4 levels", multiple_of=4),
        hidden_gene(shape, (32, 24, 20), 4, "magnitude"),
    )
    space = Space(shape, genes)
    dense = cuts_of(space, space.dense)
    own = {(cut.gene, cut.level) for cuts in dense.values() for cut in cuts}
    structured = [index for index in range(len(genes)) if index != space.everywhere]
    assert own == {(gene, level) for gene in structured for level in range(1, len(genes[gene].levels))}
    assert {sublayer for _, sublayer in dense} == {0, 1}
    gone = space.canonical(space.dense.with_level(index_of(space, "block@1"), 1))
    assert not any(block == 1 for block, _ in cuts_of(space, gone))
    assert cuts_of(space, space.smallest) == {}

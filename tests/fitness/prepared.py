"""Tiny models prepared for genomes of every gene at once."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from secateur.fitness.bench import Bench
from secateur.fitness.bits.encoding import library
from secateur.fitness.model.checkpoint import anatomy_of
from secateur.fitness.model.examined import model_digest
from secateur.fitness.text import NOT_MASKED, Sequences
from secateur.fitness.widths.preparation import WidthSettings
from secateur.fitness.workplace import Loaded
from secateur.space.anatomy import Anatomy
from secateur.space.costs import Additions
from secateur.space.gene import Gene
from secateur.space.space import Space
from tests.genes import hidden_gene, structured_genes
from tests.tiny import VOCABULARY, all_genes, model_of

CONTEXT = 12
IDS = torch.randint(3, VOCABULARY, (1, CONTEXT), generator=torch.Generator().manual_seed(7))


needs_library = pytest.mark.skipif(library() is None, reason="needs ggml's library: make test has it")


def width_genes(shape: Anatomy, hidden: str | None) -> tuple[Gene, ...]:
    """Of two layers with 2 KV groups and 128 channels; `hidden`: the order of a residual width of 64, if searched."""
    genes = structured_genes(shape, "attention", range(2), levels=(2, 1))
    genes += structured_genes(shape, "mlp", range(2), levels=(128, 64, 32))
    return genes if hidden is None else (*genes, hidden_gene(shape, (64, 32), 32, hidden))


def random_text(masked: bool = False) -> Sequences:
    ids = torch.randint(3, VOCABULARY, (6, 16), generator=torch.Generator().manual_seed(0))
    targets = torch.where(torch.arange(16) % 4 == 0, ids, NOT_MASKED) if masked else None
    return Sequences("random", ids, frozenset(), targets)


def prepared(
    family: str,
    settings: WidthSettings,
    pruner: str = "wanda",
    watch: Any = lambda what, done, total: None,
    zeroed: float = 0.0,
    **changes: Any,
) -> tuple[Bench, Space]:
    """A bench whose model is ready for every genome of the space; its cache is where SECATEUR_CACHE says.

    `zeroed`: the share of zeros that the model has by itself.
    """
    model = model_of(family, **changes)
    if zeroed:
        prune(model, zeroed)
    shape = anatomy_of(model)
    text = random_text(masked=not shape.causal)
    projection = settings.hidden == "pca" and shape.tied
    additions = Additions(bias=settings.repair == "bias", projection=projection)
    space = Space(shape, all_genes(shape, settings.hidden), context=CONTEXT, additions=additions)
    loaded = Loaded(model, None, shape, model_digest(model), {"calibration": text}, pruner, settings)
    bench = loaded.prepared(space, watch)
    zeros = bench.own_zeros()
    assert (zeros is not None) == bool(zeroed)
    return bench, replace(space, zeros=zeros)


def prune(model: Any, share: float) -> None:
    """Zeros as another tool leaves them: here and there in most matrices, of one a row and a column."""
    generator = torch.Generator().manual_seed(11)
    for number, parameter in enumerate(p for p in model.parameters() if p.dim() > 1):
        if number % 5 == 3:
            continue
        parameter[torch.rand(parameter.shape, generator=generator) < share] = 0
        if number % 5 == 1:
            parameter[1], parameter[:, 2] = 0, 0


def through_blocks(bench: Bench, states: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    """Logits (time, vocabulary) of a subnet applied to the live model."""
    with bench.subnet as subnet:
        subnet.apply(states)
        hidden = bench.blocks.embed(ids)
        for index in range(len(states)):
            hidden = subnet.run(index, hidden)
        return bench.blocks.logits(hidden).float()

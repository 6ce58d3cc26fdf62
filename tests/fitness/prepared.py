"""Tiny models prepared for genomes of every gene at once."""

from typing import Any

import torch

from secateur.fitness.bench import Bench
from secateur.fitness.checkpoint import anatomy_of, model_digest
from secateur.fitness.text import NOT_MASKED, Sequences
from secateur.fitness.widths import WidthSettings
from secateur.space.costs import Additions
from secateur.space.space import Space
from tests.tiny import VOCABULARY, all_genes, model_of

CONTEXT = 12
IDS = torch.randint(3, VOCABULARY, (1, CONTEXT), generator=torch.Generator().manual_seed(7))


def random_text(masked: bool = False) -> Sequences:
    ids = torch.randint(3, VOCABULARY, (6, 16), generator=torch.Generator().manual_seed(0))
    targets = torch.where(torch.arange(16) % 4 == 0, ids, NOT_MASKED) if masked else None
    return Sequences("random", ids, frozenset(), targets)


def prepared(
    family: str,
    settings: WidthSettings,
    pruner: str = "wanda",
    watch: Any = lambda what, done, total: None,
    **changes: Any,
) -> tuple[Bench, Space]:
    """A bench whose model is ready for every genome of the space; its cache is where SECATEUR_CACHE says."""
    model = model_of(family, **changes)
    shape = anatomy_of(model)
    text = random_text(masked=not shape.causal)
    projection = settings.hidden == "pca" and shape.tied
    additions = Additions(bias=settings.repair == "bias", projection=projection)
    space = Space(shape, all_genes(shape, settings.hidden), context=CONTEXT, additions=additions)
    bench = Bench(model, None, shape, model_digest(model), {"calibration": text}, pruner, settings)
    bench.prepare(space, watch)
    return bench, space


def through_blocks(bench: Bench, states: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    """Logits (time, vocabulary) of a subnet applied to the live model."""
    with bench.subnet as subnet:
        subnet.apply(states)
        hidden = bench.blocks.embed(ids)
        for index in range(len(states)):
            hidden = subnet.run(index, hidden)
        return bench.blocks.logits(hidden).float()

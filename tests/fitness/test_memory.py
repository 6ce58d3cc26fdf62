"""Models of which not all blocks are on the device at once: the same answers, each block brought once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from secateur.fitness.bench import Bench
from secateur.fitness.model.blocks import Blocks
from secateur.fitness.model.checkpoint import anatomy_of, load_model, open_model
from secateur.fitness.model.examined import NOWHERE, examine
from secateur.fitness.model.shelf import Shelf, held
from secateur.fitness.room import Room
from secateur.fitness.subnets.subnet import Subnet
from secateur.fitness.widths.preparation import WidthSettings
from secateur.fitness.workplace import Loaded
from secateur.operators.sampling import uniform
from secateur.space.costs import Additions
from secateur.space.genome import Genome
from secateur.space.space import Space
from tests.fitness.prepared import CONTEXT, prune, random_text
from tests.tiny import all_genes, model_of

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "model"


def saved(folder: Path, family: str, zeroed: float = 0.0, **changes: Any) -> Path:
    """A tiny model in many files."""
    model = model_of(family, **changes)
    if zeroed:
        prune(model, zeroed)
    model.save_pretrained(folder, max_shard_size="20KB")
    return folder


def loaded(
    folder: Path, settings: WidthSettings | None, pruner: str, blocks: int | None, offload: str = "disk"
) -> Loaded:
    """From a folder: the whole model, or `blocks` bytes of its blocks at once."""
    model, source = (load_model(str(folder)), NOWHERE) if blocks is None else open_model(str(folder))
    shape = anatomy_of(model)
    shelf = None
    if blocks is not None:
        where = held(shape, source, CPU) if offload == "cpu" else source
        shelf = Shelf(shape, Blocks(model, shape).modules, where, CPU, blocks)
    examined = examine(model, shape, str(folder), source)
    texts = {"calibration": random_text(masked=not shape.causal)}
    room = Room() if blocks is None else Room(hidden=2 * 12 * 6 * 16 * 32 * 4, assembled=0)
    digest, zeros = examined.digest, examined.zeros
    return Loaded(model, None, shape, digest, texts, pruner, settings, shelf=shelf, zeros=zeros, room=room)


def space_of(bench: Loaded, settings: WidthSettings) -> Space:
    additions = Additions(settings.repair == "bias", settings.hidden == "pca" and bench.anatomy.tied)
    return Space(bench.anatomy, all_genes(bench.anatomy, settings.hidden), context=CONTEXT, additions=additions)


def population(space: Space, count: int) -> list[Genome]:
    """Some that share nothing, and some that share most."""
    rng = np.random.default_rng(0)
    genomes = [uniform(space, rng) for _ in range(count // 2 - 2)]
    last = [place for place, gene in enumerate(space.genes) if gene.blocks == (3,)][: count - count // 2]
    near = [Genome(tuple(int(place == other) for other in range(len(space.genes)))) for place in last]
    return [space.dense, *genomes, space.smallest, *near]


def answers(bench: Bench, space: Space, genomes: list[Genome]) -> tuple[dict[Genome, Any], int]:
    evaluator = bench.evaluator(space, "calibration", ("kl", "cross_entropy"))
    found: dict[Genome, dict[str, tuple[float, ...]]] = {}
    for one in evaluator(genomes, range(6)):
        assert one.status == "ok", one.reason
        losses = found.setdefault(one.genome, dict.fromkeys(one.losses, ()))
        found[one.genome] = {name: losses[name] + values for name, values in one.losses.items()}
    return found, evaluator.layer_passes


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3", "bert"])
@pytest.mark.parametrize(
    ("order", "repair", "hidden", "pruner", "zeroed"),
    [
        ("output-error", "least-squares", "pca", "wanda", 0.0),
        ("obs", "admm", None, "sparsegpt", 0.3),
        ("magnitude", "bias", "magnitude", "magnitude", 0.0),
    ],
)
def test_answers_are_those_of_the_whole_model(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    order: str,
    repair: str,
    hidden: str | None,
    pruner: str,
    zeroed: float,
) -> None:
    settings = WidthSettings(order, repair, None if family in ("gpt2", "bert") else hidden)
    saved(folder, family, zeroed)
    benches = []
    for blocks in (None, 0):
        # Each with a cache of its own, so that the second prepares for itself.
        monkeypatch.setenv("SECATEUR_CACHE", str(folder / f"cache-{blocks}"))
        start = loaded(folder, settings, pruner, blocks)
        space = space_of(start, settings)
        bench = start.prepared(space)
        zeros = bench.own_zeros()
        genomes = population(space, 12)
        found, passes = answers(bench, space, genomes)
        counted = [zeros.in_block(2, space.states(one)[2]) for one in genomes] if zeros is not None else None
        benches.append((found, passes, bench.kept_orders(), bench.prepared_digest, counted))
    assert benches[0] == benches[1]


def test_a_block_comes_once_for_a_population(folder: Path) -> None:
    """In all its states, and the first of a batch that takes several walks too."""
    settings = WidthSettings("output-error", None)
    bench = loaded(saved(folder, "llama"), settings, "wanda", 0)
    space = space_of(bench, settings)
    ready, genomes = bench.prepared(space), population(space, 12)
    assert bench.shelf is not None
    answers(ready, space, genomes)
    before = bench.shelf.brought.copy()
    answers(ready, space, genomes)
    assert bench.shelf.brought - before == dict.fromkeys(range(4), 1)
    assert not any(parameter.is_meta for parameter in ready.blocks.dense(2).values())


def test_one_block_of_a_candidate_is_assembled_where_there_is_no_room_for_all(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a whole model: what a candidate has of its own would take as much again; the answers are the same."""
    settings = WidthSettings("output-error", None)
    bench = loaded(saved(folder, "llama"), settings, "wanda", None)
    space = space_of(bench, settings)
    ready, genomes = bench.prepared(space), population(space, 12)
    most, run = 0, Subnet.run

    def counted(subnet: Subnet, index: int, hidden: torch.Tensor) -> torch.Tensor:
        nonlocal most
        applied = sum(
            parameter.data_ptr() != dense.data_ptr()
            for block, module in enumerate(subnet.weights.blocks.modules)
            for name, dense in subnet.weights.dense(block).items()
            for parameter in [dict(module.named_parameters()).get(name, dense)]
            if block != index
        )
        most = max(most, applied)
        return run(subnet, index, hidden)

    monkeypatch.setattr(Subnet, "run", counted)
    together, passes = answers(ready, space, genomes)
    assert most > 0
    most, ready.room = 0, Room(assembled=0)
    assert answers(ready, space, genomes) == (together, passes)
    assert most == 0


def test_candidates_that_do_not_fit_side_by_side_go_in_turns(folder: Path) -> None:
    settings = WidthSettings("output-error", None)
    bench = loaded(saved(folder, "llama"), settings, "wanda", 0)
    space = space_of(bench, settings)
    ready, genomes = bench.prepared(space), population(space, 12)
    together, passes = answers(ready, space, genomes)
    ready.room = Room(hidden=2 * 5 * 6 * 16 * 32 * 4, assembled=0)
    apart, more = answers(ready, space, genomes)
    assert apart == together
    assert more > passes
    ready.room = Room(hidden=1, assembled=0)  # one candidate after another
    assert answers(ready, space, genomes)[0] == together


@pytest.mark.parametrize("offload", ["cpu", "disk"])
def test_as_many_blocks_stay_as_have_room(folder: Path, offload: str) -> None:
    """Of those that do not, the ones that a walk needs first are there again when the next begins."""
    shape = anatomy_of(load_model(str(saved(folder, "llama"))))
    sizes = shape.blocks[0].dense_sizes
    size = sum(4 * tensor.parameters(sizes) for sub in shape.blocks[0].sublayers for tensor in sub.parameters())
    bench = loaded(folder, None, "wanda", 3 * size, offload)
    assert bench.shelf is not None
    blocks = bench.blocks
    whole = load_model(str(folder))
    ids = random_text().ids[:2]
    for _ in range(3):
        hidden = blocks.embed(ids)
        for index in range(4):
            hidden = blocks.run(index, hidden)
    assert torch.equal(blocks.logits(hidden[:1]), whole(ids).logits[0])
    assert bench.shelf.brought == {0: 1, 1: 1, 2: 3, 3: 3}
    assert torch.equal(bench.model(ids).logits, whole(ids).logits)


def test_what_was_forgotten_to_be_brought_is_an_error_and_no_number(folder: Path) -> None:
    model, _ = open_model(str(saved(folder, "llama")))
    with pytest.raises(RuntimeError, match="meta"):
        model(random_text().ids[:1])

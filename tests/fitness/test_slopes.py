"""Slopes against autograd on the weights themselves, and against the loss of scored changes."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from secateur.fitness.bench import Bench
from secateur.fitness.model.checkpoint import anatomy_of
from secateur.fitness.model.examined import model_digest
from secateur.fitness.scores.built_in import score as scored
from secateur.fitness.slopes import REACH, SubnetSlopes
from secateur.fitness.text import predicted
from secateur.fitness.workplace import Loaded
from secateur.fitness.zeros.level_store import as_matrix
from secateur.space.errors import SecateurError
from secateur.space.genome import Genome
from secateur.space.slopes import PASSES, SLOPES, Slopes, joined
from secateur.space.space import Space
from secateur.space.treatments import Sparsity
from tests.fitness.prepared import random_text
from tests.genes import sparsity_genes, structured_genes
from tests.tiny import drop_space, mixed_genes, model_of

LEVELS = tuple(Sparsity.parse(round(0.1 * step, 1)) for step in range(1, 9))


def bench_of(family: str, pruner: str = "magnitude") -> tuple[Bench, Space]:
    model = model_of(family).double()
    shape = anatomy_of(model)
    layers = range(len(shape.blocks))
    genes = (*structured_genes(shape, "mlp", layers), *sparsity_genes(shape, LEVELS, layers, "sublayer"))
    space = Space(shape, genes)
    text = random_text(masked=not shape.causal)
    return Loaded(model, None, shape, model_digest(model), {"calibration": text}, pruner).prepared(space), space


def slopes_of(bench: Bench, space: Space, genome: Genome, sequences: range, score: str = "kl") -> Slopes:
    teacher = bench.evaluator(space, "calibration", (score,)).teacher
    [found] = SubnetSlopes(space, bench.subnet, teacher, score)([genome], sequences)
    return found


def some(space: Space) -> Genome:
    """Every sparsity gene somewhere else, one MLP dropped."""
    drops = sum(gene.kind.name == "mlp" for gene in space.genes)
    levels = [0] * drops + [(3 * index) % 9 for index in range(len(space.genes) - drops)]
    levels[1] = 1
    return space.canonical(Genome(tuple(levels)))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path))


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "roberta"])
@pytest.mark.parametrize("score", ["kl", "cross_entropy"])
def test_first_order_is_the_derivative_of_the_scored_loss(family: str, score: str) -> None:
    """A level's change of weights, applied a thirtieth of the way forth and back."""
    bench, space = bench_of(family)
    evaluator = bench.evaluator(space, "calibration", (score,))
    genome, used = some(space), range(5)
    found = slopes_of(bench, space, genome, used, score)
    assert found.reason == ""
    assert found.sequences == used
    assert found.tokens == PASSES * 5 * 16
    before = space.states(genome)
    looked = 0
    for gene, rows in list(enumerate(found.first))[-3:]:
        for level in (genome.levels[gene] - 1, genome.levels[gene] + 1):
            if not 0 <= level < len(rows):
                continue
            after = space.states(space.canonical(genome.with_level(gene, level)))
            losses = []
            for way in (0.03, -0.03):
                with bench.subnet as subnet:
                    subnet.apply(before)
                    for index, block in enumerate(space.anatomy.blocks):
                        for position, linear in enumerate(block.linears):
                            if before[index].level(linear.name) == after[index].level(linear.name):
                                continue
                            module: nn.Module = bench.blocks.modules[index].get_submodule(linear.name)
                            old = bench.weights.linear(index, position, before[index])
                            new = bench.weights.linear(index, position, after[index])
                            module.weight.data = old + way * (new - old)
                    evaluator.teacher.prepare(used)
                    hidden = bench.blocks.embed(bench.calibration.ids[:5])
                    for index in range(len(before)):
                        hidden = subnet.run(index, hidden)
                    values = scored((score,), hidden, used, evaluator.teacher)
                    losses.append(sum(row[score] for row in values) / 5)
                    # Back to what the subnet had pointed at, so that leaving undoes it.
                    subnet.restore()
            assert (losses[0] - losses[1]) / 0.06 == pytest.approx(rows[level], rel=2e-2, abs=6e-5)
            looked += 1
    assert looked >= 4


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize(("score", "dense"), [("cross_entropy", False), ("cross_entropy", True), ("kl", True)])
def test_second_order_is_the_mean_of_squared_gradients_of_tokens(family: str, score: str, dense: bool) -> None:
    """Against autograd on one copy of a linear's weight for each token; of a distance around the dense model it is the
    half of that, of the text's likelihood, and all there is."""
    bench, space = bench_of(family)
    genome = space.dense if dense else some(space)
    found = slopes_of(bench, space, genome, range(1), score)
    gene = max(index for index, one in enumerate(space.genes) if one.members[0][0] == 2 and one.kind.name == "sparsity")
    block, states = 2, space.states(genome)
    positions = [p for b, p in space.genes[gene].members if b == block]
    ids = bench.calibration.ids[:1]
    _, targets = predicted(bench.calibration, 0)
    last = len(LEVELS) if score == "kl" else REACH
    for level in (1, last) if dense else (genome.levels[gene] - 1, genome.levels[gene] + 1):
        if not 0 <= level < len(LEVELS) + 1:
            continue
        after = space.states(space.canonical(genome.with_level(gene, level)))
        wanted = 0.0
        for position in positions:
            linear = space.anatomy.blocks[block].linears[position]
            with bench.subnet as subnet:
                subnet.apply(states)
                module = bench.blocks.modules[block].get_submodule(linear.name)
                weight = as_matrix(linear, bench.weights.linear(block, position, states[block]))
                copies = weight.expand(16, *weight.shape).clone().requires_grad_()

                def own(_: nn.Module, inputs: tuple[torch.Tensor, ...], _output: torch.Tensor, w=copies, m=module):  # type: ignore[no-untyped-def]
                    bias = m.bias if getattr(m, "bias", None) is not None else 0.0
                    return torch.einsum("toi,sti->sto", w, inputs[0]) + bias

                hook = module.register_forward_hook(own)
                loss = bench.blocks.loss(ids, targets[None])
                [gradient] = torch.autograd.grad(loss, copies)
                hook.remove()
            change = as_matrix(linear, bench.weights.linear(block, position, after[block])) - weight
            # Gradients of a mean over positions, of which 16 are scored.
            wanted += 16 * float((gradient.square().sum(0) * change.square()).sum())
        halved = score == "kl"
        assert found.second[gene][level] == pytest.approx(wanted / 2 if halved else wanted, rel=1e-3)
        assert (found.first[gene][level] == 0.0) == halved
        assert found.second[gene][level] > 0


@pytest.mark.usefixtures("cache")
def test_what_is_not_known_and_what_stays() -> None:
    bench, space = bench_of("llama", "sparsegpt")
    before = {name: tensor.clone() for name, tensor in bench.model.state_dict().items()}
    genome = some(space)
    found = slopes_of(bench, space, genome, range(6))
    after = bench.model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in bench.model.parameters())
    active = space.active(genome)
    for index, gene in enumerate(space.genes):
        own = genome.levels[index]
        for level, (first, second) in enumerate(zip(found.first[index], found.second[index], strict=True)):
            near = abs(level - own) <= REACH if gene.kind.name == "sparsity" else level > own
            known = level == own or (active[index] and near)
            assert math.isnan(first) is not known
            assert math.isnan(second) is not known
            assert (found.added()[index][level] == math.inf) is not known
            if level == own:
                assert first == second == 0.0
    whole, parts = found, [slopes_of(bench, space, genome, part) for part in (range(2), range(2, 6))]
    for one, other in zip(whole.first[-1], joined(parts).first[-1], strict=True):
        assert one == pytest.approx(other, rel=1e-4, nan_ok=True)


@pytest.mark.usefixtures("cache")
def test_a_model_that_overflows_has_no_slopes_and_says_why() -> None:
    bench, space = bench_of("llama")
    teacher = bench.evaluator(space, "calibration", ("kl",)).teacher
    teacher.prepare(range(2))
    bench.model.get_parameter("model.norm.weight").data.fill_(math.inf)
    [found] = SubnetSlopes(space, bench.subnet, teacher, "kl")([some(space)], range(2))
    assert found.reason == "slopes are not finite"
    assert found.first == ()
    good = Slopes(found.genome, found.key, range(2, 4), ((0.0,),), ((0.0,),))
    assert joined([good, found]).reason == found.reason


@pytest.mark.usefixtures("cache")
def test_only_what_can_be_differentiated() -> None:
    bench, space = bench_of("llama")
    with pytest.raises(SecateurError, match="kl and cross_entropy"):
        slopes_of(bench, space, space.dense, range(1), "hidden_error")
    assert SLOPES.fits(space, "kl")
    assert not SLOPES.fits(space, "hidden_error")
    assert not SLOPES.fits(drop_space(), "kl")
    assert SLOPES.fits(Space(space.anatomy, mixed_genes(space.anatomy)), "cross_entropy")

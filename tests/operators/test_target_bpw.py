"""Types by the errors of single matrices: the allotment against all there are, and the errors against their formula."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.fitness.bits.decoding import decode
from secateur.fitness.bits.encoding import encode
from secateur.fitness.bits.errors import relative_error, stored_errors
from secateur.fitness.model.checkpoint import anatomy_of
from secateur.fitness.model.examined import model_digest
from secateur.fitness.workplace import Loaded
from secateur.operators.rules.target_bpw import allotted, hull, target_bpw
from secateur.operators.rules.uniform_bits import uniform_bits
from secateur.space.budget import Budget, parse_budgets
from secateur.space.errors import SecateurError
from secateur.space.kinds.settings import Wishes
from secateur.space.kinds.table import KINDS
from secateur.space.space import Space
from tests.fitness.prepared import random_text
from tests.genes import structured_genes
from tests.tiny import anatomy_for, model_of

LEVELS = ["Q8_0", "Q5_0", "Q4_0"]


@given(st.integers(0, 10_000))
def test_a_hull_lies_below_all_levels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes, errors = rng.permutation(np.arange(1, 9) * 10.0).tolist(), rng.random(8).tolist()
    found = hull(sizes, errors)
    assert found[0] == int(np.argmin(sizes))
    assert errors[found[-1]] == min(errors)
    below = np.interp(sizes, [sizes[one] for one in found], [errors[one] for one in found])
    assert all(low <= error + 1e-12 for low, error in zip(below, errors, strict=True))


@given(st.integers(0, 10_000), st.floats(0.0, 1.0))
def test_allotments_are_near_the_best_of_all(seed: int, share: float) -> None:
    """None on the hulls that keeps the room is better by more than the largest single step is worth."""
    rng = np.random.default_rng(seed)
    genes, levels = 4, 4
    sizes = [sorted((rng.random(levels) * 50 + 1).tolist(), reverse=True) for _ in range(genes)]
    errors = [sorted(rng.random(levels).tolist()) for _ in range(genes)]
    least, most = sum(map(min, sizes)), sum(map(max, sizes))
    room = least + share * (most - least)
    found = allotted(sizes, errors, room, [False] * genes)
    assert found is not None
    assert sum(size[level] for size, level in zip(sizes, found, strict=True)) <= room + 1e-9
    mine = sum(error[level] for error, level in zip(errors, found, strict=True))
    best = min(
        sum(error[level] for error, level in zip(errors, choice, strict=True))
        for choice in itertools.product(range(levels), repeat=genes)
        if sum(size[level] for size, level in zip(sizes, choice, strict=True)) <= room
    )
    step = max(error[-1] - error[0] for error in errors)
    assert mine <= best + step + 1e-9
    assert allotted(sizes, errors, least - 1e-6, [False] * genes) is None


def test_an_error_is_that_of_rows_without_the_farthest() -> None:
    generator = torch.Generator().manual_seed(0)
    whole, weights = torch.randn(200, 64, generator=generator), torch.rand(64, generator=generator)
    stored = decode("Q4_0", encode("Q4_0", whole))
    rows = sorted(
        sum(float(w) * (float(y) - float(x)) ** 2 for x, y, w in zip(one, other, weights, strict=True))
        / sum(float(w) * float(x) ** 2 for x, w in zip(one, weights, strict=True))
        for one, other in zip(whole, stored, strict=True)
    )
    assert relative_error(whole, stored, weights) == pytest.approx(200 * np.mean(rows[2:-2]), rel=1e-4)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path / "cache"))


def test_the_rule_fills_a_budget_of_bytes_better_than_one_type() -> None:
    model = model_of("llama", hidden_size=64, intermediate_size=128, num_hidden_layers=3, head_dim=16)
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.mul_(torch.linspace(0.01, 3, 128))
    shape = anatomy_of(model)
    kind = KINDS["bits"]
    asked = [
        {"levels": LEVELS, "per": "linear"},
        {"levels": LEVELS, "of": "embedding"},
        {"levels": LEVELS, "of": "head"},
    ]
    genes = [
        gene
        for one in asked
        for gene in kind.genes(shape, kind.settings.model_validate({"kind": "bits", **one}), Wishes())
    ]
    space = Space(shape, (*structured_genes(shape, "mlp", range(3)), *genes))
    loaded = Loaded(model, None, shape, model_digest(model), {"calibration": random_text()}, quantizer="nearest")
    errors = stored_errors(space, loaded.prepared(space).weights)
    assert all(row == [0.0, 0.0] for row in errors[:3])
    assert all(row == sorted(row) and row[1] > 0 for row in errors[3:])
    dense = space.costs(space.dense).weight_bytes
    for share in (0.16, 0.19, 0.24):
        limited = space.with_budgets((Budget("weight_bytes", int(share * dense), str(share)),))
        found, uniform = target_bpw(limited, errors), uniform_bits(limited)
        assert limited.feasible(found)
        total = [sum(errors[index][level] for index, level in enumerate(one.levels)) for one in (found, uniform)]
        assert total[0] <= total[1]
        assert limited.costs(found).weight_bytes >= 0.97 * share * dense or not any(found.levels[3:])
    with pytest.raises(SecateurError, match="no types of these genes keep the budgets"):
        target_bpw(space.with_budgets((Budget("weight_bytes", 1000, "1000"),)), errors)
    with pytest.raises(SecateurError, match="none of file_bytes or weight_bytes"):
        target_bpw(space.with_budgets((Budget("parameters", dense, "dense"),)), errors)


@pytest.mark.parametrize(
    ("levels", "budget", "wanted"),
    [
        (["int8", "int4-g16", "2:4+int4-g16"], 0.25, "grid:int4-g16"),
        (["int8", "0.5+int8", "int4-g16"], 0.45, "grid:int8"),
    ],
)
def test_of_two_that_take_as_much_the_uniform_type_has_no_zeros(levels: list[str], budget: float, wanted: str) -> None:
    shape = anatomy_for()
    asked = KINDS["bits"].settings.model_validate({"kind": "bits", "levels": levels, "per": "sublayer"})
    free = Space(shape, KINDS["bits"].genes(shape, asked, Wishes()))
    block = free.costs(free.dense).block_parameters * shape.bytes_per_parameter
    rest = free.costs(free.dense).weight_bytes - block
    space = free.with_budgets(parse_budgets({"weight_bytes": f"{rest + int(budget * block)}"}, free.dense_costs))
    states = space.states(uniform_bits(space))
    assert {str(level) for state in states for level in state.treated.values()} == {wanted}

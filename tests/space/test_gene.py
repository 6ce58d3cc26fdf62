import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.space.errors import SecateurError
from secateur.space.gene import Gene
from secateur.space.kinds.mlp import MLP
from secateur.space.kinds.sparsity import SPARSITY
from secateur.space.treatments import Sparsity, zeros_per_row


@given(st.integers(0, 199), st.integers(1, 300), st.integers(1, 20))
def test_unstructured_zeros_are_the_nearest_whole_number_per_row(steps: int, inputs: int, outputs: int) -> None:
    zeros = zeros_per_row(steps, inputs)
    assert abs(200 * zeros - steps * inputs) <= 100
    assert Sparsity(steps=steps).zeros(outputs, inputs) == outputs * zeros


@given(st.integers(1, 15), st.integers(2, 16), st.integers(1, 10), st.integers(1, 10))
def test_pattern_zeros(keep: int, of: int, outputs: int, groups: int) -> None:
    if keep < of:
        assert Sparsity(keep=keep, of=of).zeros(outputs, groups * of) == outputs * groups * (of - keep)


@pytest.mark.parametrize(("text", "share"), [(0.5, 0.5), ("50%", 0.5), ("2:4", 0.5), (0.005, 0.005), (0, 0.0)])
def test_parse(text: float | str, share: float) -> None:
    level = Sparsity.parse(text)
    assert level.share == pytest.approx(share)
    assert Sparsity.parse(level.to_json()) == level


@pytest.mark.parametrize("text", ["4:2", "0:4", "1:17", "half", 1.0, -0.1, 0.5001])
def test_parse_refuses(text: float | str) -> None:
    with pytest.raises(SecateurError, match=r"sparsity (level|pattern)"):
        Sparsity.parse(text)


def test_levels_go_from_dense_to_smallest() -> None:
    with pytest.raises(SecateurError, match="dense to smallest"):
        Gene(MLP, "0", (0, 48), ((0, -1),))
    with pytest.raises(SecateurError, match="at least two levels"):
        Gene(MLP, "0", (48,), ((0, -1),))
    with pytest.raises(SecateurError, match="first sparsity level"):
        Gene(SPARSITY, "0", (Sparsity(20), Sparsity(40)), ((0, 0),))

from collections.abc import Callable

import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.fitness.recent import Recent


@given(st.lists(st.integers(0, 7), max_size=60), st.integers(1, 60))
def test_the_least_recently_used_go_first(keys: list[int], limit: int) -> None:
    """Against a plain list in the order of use; a tensor of key k has 4 (k + 1) bytes."""
    recent, used = Recent(limit), list[int]()
    for key in keys:
        made: list[int] = []

        def make(key: int = key, made: list[int] = made) -> torch.Tensor:
            made.append(key)
            return torch.full((key + 1,), key, dtype=torch.float32)

        maker: Callable[[], torch.Tensor] = make
        tensor = recent.get(key, maker)
        assert tensor.tolist() == [key] * (key + 1)
        assert bool(made) == (key not in used)
        used = [*(one for one in used if one != key), key]
        while len(used) > 1 and sum(4 * (one + 1) for one in used) > limit:
            used.pop(0)
        assert len(recent) == len(used)

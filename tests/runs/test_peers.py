"""Plans of other tools, read back."""

import json
from pathlib import Path

import pytest

from secateur.plans.reading import read_states
from secateur.space.errors import SecateurError
from tests.tiny import anatomy_for


def kept(path: Path) -> list[tuple[int, int]]:
    return [
        (state.kept["groups"], state.kept["channels"]) for state in read_states(path, anatomy_for(num_hidden_layers=4))
    ]


def test_evopress_drop_lists(tmp_path: Path) -> None:
    path = tmp_path / "layer_drop_config.txt"
    path.write_text("none\nattn\nmlp\nattn+mlp\n")
    assert kept(path) == [(2, 48), (0, 48), (2, 0), (0, 0)]
    path.write_text("none\nattn\nmlp\n")
    with pytest.raises(SecateurError, match="3 lines, the model 4"):
        kept(path)
    path.write_text("none\nboth\nmlp\nnone\n")
    with pytest.raises(SecateurError, match="line 2: 'both'"):
        kept(path)


def test_blockpruner_lists_the_longest_counts(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    path.write_text(json.dumps({"1": [["mha", 1]], "2": [["mha", 1], ["mlp", 3]]}))
    assert kept(path) == [(2, 48), (0, 48), (2, 48), (2, 0)]
    path.write_text(json.dumps({"1": [["mha", 9]]}))
    with pytest.raises(SecateurError, match="block 9, but the model has 4"):
        kept(path)
    path.write_text(json.dumps({"1": [["moe", 1]]}))
    with pytest.raises(SecateurError, match="expected pairs"):
        kept(path)


def test_multipruner_widths_are_what_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "pruning_config.json"
    values = {
        "pruned_attn_idx": [3],
        "pruned_mlp_idx": [1],
        "pruned_attn_width": {"2": 24},
        "pruned_mlp_width": {"0": 32},
    }
    path.write_text(json.dumps(values))
    # Two query heads of 12 in each KV group.
    assert kept(path) == [(2, 32), (2, 0), (1, 48), (0, 48)]


@pytest.mark.parametrize("text", ["[1.5, 2]", "[true]", "{}", '{"format": "other"}', "{"])
def test_what_is_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(SecateurError, match=r"plan .*p\.json"):
        kept(path)

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from secateur.runs.asked.reading import make_recipe, read_recipe
from secateur.runs.asked.recipe import Recipe
from secateur.space.errors import SecateurError

GOOD: dict[str, Any] = {
    "model": {"path": "somewhere"},
    "calibration": {"source": "package:quac"},
    "genes": [{"kind": "mlp"}],
    "strategy": {"name": "greedy"},
}


def with_changes(**changes: Any) -> dict[str, Any]:
    return {**GOOD, **changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": {}}, r"budget: unknown key; did you mean 'budgets'\?"),
        ({"model": {"pth": "x"}}, r"model\.pth: unknown key; did you mean 'path'\?"),
        ({"genes": [{"kind": "mlp", "layer": "1-2"}]}, r"genes\.0\.layer: unknown key; did you mean 'layers'\?"),
        ({"strategy": {"name": "greedy", "lazyness": 3}}, r"strategy\.lazyness: unknown key; did you mean 'lazy'\?"),
        ({"strategy": {"name": "greedi"}}, r"strategy: .*greedy"),
        ({"genes": []}, r"genes: must not be empty"),
        ({"genes": [{"kind": "width"}]}, r"genes\.0: unknown kind 'width'; .*attention"),
        ({"genes": [{"kind": "sparsity"}]}, r"genes\.0: sparsity genes need a list of 'levels'"),
        ({"genes": [{"kind": "mlp", "per": "block"}]}, r"genes\.0\.per: unknown 'block'; known: linear, model"),
        ({"genes": [{"kind": "block", "levels": [0]}]}, r"genes\.0\.levels: unknown key; known: kind, layers"),
        ({"genes": [{"kind": "hidden"}]}, r"genes\.0: hidden genes need 'levels'"),
        ({"genes": [{"kind": "hidden", "levels": [0.5], "layers": "1-2"}]}, r"hidden take no 'layers'"),
        ({"genes": [{"kind": "block", "multiple_of": 8}]}, r"genes\.0\.multiple_of: write one of 1, not 8"),
        ({"genes": [{"kind": "mlp", "layers": [3, 1], "levels": [[8], [9]]}]}, r"'layers' in ascending order"),
        ({"genes": [{"kind": "mlp", "multiple_of": 8}]}, r"'multiple_of' belongs to widths, not to mlp without"),
        ({"widths": {"order": "size"}}, r"widths\.order: unknown 'size'; known: .*output-error"),
        (
            {"genes": [{"kind": "hidden", "levels": [0.5]}], "score": "hidden_error"},
            r"score: hidden_error needs residual streams of one width",
        ),
        (
            {"genes": [{"kind": "hidden", "levels": [0.5]}], "score": "kl_full"},
            r"score: kl_full needs residual streams of one width",
        ),
        (
            {
                "genes": [{"kind": "hidden", "levels": [0.5]}, {"kind": "sparsity", "levels": [0.5]}],
                "pruner": "sparsegpt",
            },
            r"pruner: sparsegpt updates weights of an unrotated residual stream",
        ),
        ({"genes": [{"kind": "sparsity", "levels": [0.5], "per": "group"}]}, r"group: K"),
        ({"model": None}, r"model"),
        ({"calibration": {"source": "x", "sequences": 0}}, r"calibration\.sequences: must be at least 1, not 0"),
        ({"strategy": {"name": "random"}}, r"effort: random search has no end"),
        (
            {"strategy": {"name": "evopress", "warm": {"name": "greedy"}}, "effort": {"tokens": 5}},
            r"'warm' has settings",
        ),
        ({"baselines": ["greedy", "ovl"]}, r"baselines: unknown 'ovl'; did you mean 'owl'\?"),
        ({"held_out": [{"source": "a.txt"}, {"source": "b/a.txt"}]}, r"held_out: two texts have the same name"),
        ({"seed": -1}, r"seed"),
        ({"objectives": ["kl", "latency"], "strategy": {"name": "knapsack"}}, "no device is named"),
        ({"budgets": {"latency": "40ms"}}, "no device is named"),
        ({"budgets": {"Parameters": [1]}}, r"budgets\.Parameters"),
        ({"strategy": {"name": "darwin", "schedule": {"generations": 0}}}, r"strategy\.schedule\.generations"),
        ({"strategy": {"name": "evopress", "warm": {"name": "random"}}}, r"strategy: 'warm' has settings for random"),
    ],
)
def test_bad_recipes(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SecateurError, match=message):
        make_recipe(with_changes(**changes))


def test_every_problem_at_once() -> None:
    with pytest.raises(SecateurError, match=r"model\.pth.*seed"):
        make_recipe(with_changes(model={"path": "x", "pth": 1}, seed="no"))


def test_yaml_round_trip(tmp_path: Path) -> None:
    recipe = make_recipe(GOOD)
    (tmp_path / "r.yaml").write_text(recipe.to_yaml())
    again = read_recipe(tmp_path / "r.yaml")
    assert again == recipe
    assert again.digest() == recipe.digest()


@pytest.mark.parametrize("multiple", [None, 1])
@pytest.mark.parametrize("kind", ["block", "mlp", "sparsity"])
def test_settings_that_genes_of_every_kind_once_had(kind: str, multiple: int | None) -> None:
    """Recipes that an older version wrote have them all; they are read, and name the same recipe."""
    of_before = {"layers": "all", "levels": [0.5] if kind == "sparsity" else [], "per": "linear", "group": 1}
    full = make_recipe(with_changes(genes=[{"kind": kind, "multiple_of": multiple, **of_before}]))
    own: dict[str, Any] = {"kind": kind} | ({"levels": [0.5]} if kind == "sparsity" else {})
    plain = make_recipe(with_changes(genes=[own]))
    assert (full.digest() == plain.digest()) == (multiple is None), "as then, 1 is another number than none"


def test_settings_override(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(GOOD))
    recipe = read_recipe(
        tmp_path / "r.yaml", ["seed=7", "genes.0.layers=1-2", "effort.tokens=500", "strategy.lazy=null"]
    )
    assert recipe.seed == 7
    assert recipe.genes[0].layers == "1-2"
    assert recipe.effort.tokens == 500
    assert getattr(recipe.strategy, "lazy", 0) is None


@pytest.mark.parametrize("setting", ["seed", "=3", "genes.4.layers=1", "genes.x=1", "model.path.deeper=1", "seed=[1"])
def test_bad_settings(setting: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(GOOD))
    with pytest.raises(SecateurError, match="--set"):
        read_recipe(tmp_path / "r.yaml", [setting])


@pytest.mark.parametrize("text", ["model: [", "- just\n- a list", "!!python/object/apply:os.system ['true']", "\x00"])
def test_files_that_are_no_recipes(text: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(SecateurError, match=r"r\.yaml"):
        read_recipe(tmp_path / "r.yaml")
    with pytest.raises(SecateurError, match="cannot be read"):
        read_recipe(tmp_path / "missing.yaml")


def test_baselines_follow_the_kinds_of_genes() -> None:
    depth = make_recipe(GOOD).wanted_baselines()
    sparse = make_recipe(with_changes(genes=[{"kind": "sparsity", "levels": [0.5]}])).wanted_baselines()
    assert depth == ("last-k", "shortgpt", "angular", "greedy", "knapsack", "random")
    assert sparse == ("uniform", "owl", "er", "greedy", "knapsack", "random")
    assert make_recipe(with_changes(baselines=["random"])).wanted_baselines() == ("random",)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_any_value_is_a_recipe_or_one_clear_error(values: object) -> None:
    if isinstance(values, dict):
        try:
            assert isinstance(make_recipe(values), Recipe)
        except SecateurError as error:
            assert str(error).startswith("recipe: ")

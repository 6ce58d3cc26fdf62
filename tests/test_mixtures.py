"""Calibration on several texts at once, and levels made from another: counts by weight, evenly spread, disjoint."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

import secateur
from secateur.fitness.bench import Bench
from secateur.runs.asked.reading import read_recipe, written_recipe
from secateur.runs.asked.shorthand import completed, spelled_out
from secateur.runs.problem import build_space
from secateur.runs.record.folder import RunFolder
from secateur.runs.workplace import apportioned, workplace_of
from secateur.space.errors import SecateurError
from tests.program import forked
from tests.test_cli import command
from tests.tiny import WORDS, tiny_recipe


@pytest.fixture
def texts(tmp_path: Path) -> dict[str, Path]:
    """Three texts of which each has words of its own."""
    found = {}
    for number, name in enumerate(("first", "second", "third")):
        words = WORDS[20 * number : 20 * number + 20]
        chosen = random.Random(number)
        documents = [" ".join(chosen.choices(words, k=24)) for _ in range(40)]
        found[name] = tmp_path / f"{name}.jsonl"
        found[name].write_text("".join(json.dumps({"text": document}) + "\n" for document in documents))
    return found


def recipe_of(tiny: Path, calibration: Any, **changes: Any) -> dict[str, Any]:
    recipe: dict[str, Any] = tiny_recipe(tiny / "model", tiny / "calibration.txt", tiny / "held.txt")
    recipe |= {"calibration": calibration, "baselines": ["uniform"], "seed": 3}
    recipe |= {"genes": [{"kind": "sparsity", "levels": [0.0, 0.5, 0.8], "per": "sublayer"}]}
    recipe |= {"budgets": {"linear_weights": "<= 0.6x"}, "strategy": {"name": "random", "sequences": 4}}
    return recipe | {"effort": {"evaluations": 12}} | changes


def bench_of(recipe: dict[str, Any]) -> Bench:
    asked = written_recipe(recipe, Path.cwd())
    space = build_space(asked)
    return workplace_of(asked, space).load().prepared(space)


def test_a_mixture_has_each_text_by_weight_and_all_of_them_from_the_beginning(
    tiny: Path, texts: dict[str, Path]
) -> None:
    mixed = [
        {"source": str(texts["first"]), "weight": 2, "sequences": 8, "length": 16},
        {"source": str(texts["second"]), "sequences": 4},
    ]
    text = bench_of(recipe_of(tiny, mixed)).calibration
    assert len(text) == 12
    assert text.parts.count("first") == 8
    for count in range(3, 13, 3):
        assert text.parts[:count].count("second") == count // 3
    alone = bench_of(recipe_of(tiny, {"source": str(texts["first"]), "sequences": 8, "length": 16})).calibration
    own = torch.stack([row for row, name in zip(text.ids, text.parts, strict=True) if name == "first"])
    assert torch.equal(own, alone.ids), "what a text gives does not depend on the others"


def test_levels_are_made_from_the_sum_of_the_statistics(tiny: Path, texts: dict[str, Path]) -> None:
    """As from one file of the same sequences."""
    parts = [{"source": str(texts[name]), "sequences": 6, "length": 16} for name in ("first", "second")]
    mixed = bench_of(recipe_of(tiny, parts))
    singles = [bench_of(recipe_of(tiny, part)) for part in parts]
    rows = [bench.importance(6, outliers=False).influence for bench in singles]
    both = mixed.importance(12, outliers=False).influence
    assert both == pytest.approx([sum(pair) / 2 for pair in zip(*rows, strict=True)], rel=1e-4)


@given(st.integers(1, 200), st.lists(st.floats(0.01, 100), min_size=1, max_size=6))
def test_counts_add_up_and_are_near_the_weights(total: int, weights: list[float]) -> None:
    total = max(total, len(weights))
    counts = apportioned(total, weights)
    assert sum(counts) == total
    assert min(counts) >= 1
    exact = [total * weight / sum(weights) for weight in weights]
    if min(exact) >= 1:
        assert all(abs(count - share) < 1 for count, share in zip(counts, exact, strict=True))
    whole = [max(1, round(weight)) for weight in weights]
    assert apportioned(sum(whole), whole) == whole, "as many of each as it says"


@pytest.mark.usefixtures("texts")
def test_a_run_says_what_was_found_is_worth_on_each_text(tiny: Path, tmp_path: Path) -> None:
    """From a recipe file that names its texts from where it stands; held-out text is taken of each of them."""
    mixed = [{"source": "first.jsonl", "weight": 3, "sequences": 6}, {"source": "second.jsonl", "sequences": 6}]
    recipe = recipe_of(tiny, mixed)
    recipe["calibration"][0]["length"] = 16
    del recipe["held_out"]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    run = secateur.run(tmp_path / "recipe.yaml", tmp_path / "run")
    found = run.summary.rows[0]
    assert run.summary.held_out == ("first", "second")
    by_part = {name: one["kl"] for name, one in found.scores.items() if name.startswith("calibration: ")}
    assert {name: one.sequences for name, one in by_part.items()} == {"calibration: first": 3, "calibration: second": 1}
    whole = sum(one.mean * one.sequences for one in by_part.values()) / 4
    assert found.scores["calibration"]["kl"].mean == pytest.approx(whole)
    if not run.summary.rows[1].slack:
        assert run.summary.domains.startswith("Found minus uniform, text by text (95 %): first ")
        by_text = run.summary.rows[1].by_text
        pooled = sum(one.mean * one.sequences for one in by_text.values()) / sum(
            one.sequences for one in by_text.values()
        )
        assert run.summary.rows[1].against is not None
        assert pooled == pytest.approx(run.summary.rows[1].against.mean)
    assert "On the calibration text found comes to a KL of first 0." in run.summary.mixture
    assert run.plan().scores["calibration: first"]["kl"].sequences == 3
    with RunFolder.open(run.path, writing=False) as folder:
        kept = folder.recipe
    assert [part.title for part in kept.calibration.mixture] == ["first", "second"]
    assert secateur.resume(run.path).summary.verdict == run.summary.verdict


def test_levels_from_a_text_of_their_own(tiny: Path, texts: dict[str, Path], tmp_path: Path) -> None:
    """The masks are those of the other text, the losses are on the calibration text, and no document is in both."""
    length = {"sequences": 8, "length": 16}
    first, second = ({"source": str(texts[name]), **length} for name in ("first", "second"))
    plain, other = bench_of(recipe_of(tiny, first)), bench_of(recipe_of(tiny, second))
    apart = bench_of(recipe_of(tiny, first, prepare=second))
    assert torch.equal(apart.calibration.ids, plain.calibration.ids)
    assert torch.equal(apart.preparing.ids, other.calibration.ids)

    space = build_space(written_recipe(recipe_of(tiny, first), Path.cwd()))
    level = next(level for level in space.genes[0].treatments if level)

    def masks(bench: Bench) -> list[torch.Tensor]:
        compressor = bench.compressors["zeros"]
        return [
            compressor.weight((block, 0), bench.blocks.dense(block)["self_attn.q_proj.weight"], level, None)
            for block in range(3)
        ]

    assert all(torch.equal(a, b) for a, b in zip(masks(apart), masks(other), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(masks(apart), masks(plain), strict=True))
    same = bench_of(recipe_of(tiny, first, prepare=first))
    assert not same.calibration.documents & same.preparing.documents
    run = secateur.run(recipe_of(tiny, first, prepare=second), tmp_path / "run")
    assert run.export("hf", tmp_path / "smaller").exists()


def test_a_held_out_text_called_prepare_is_not_prepared_on(tiny: Path, texts: dict[str, Path]) -> None:
    """Levels are made from calibration text alone, whatever another text is called."""
    first = {"source": str(texts["first"]), "sequences": 4, "length": 16}
    held = [{"source": str(texts["second"]), "sequences": 2, "length": 16, "name": "prepare"}]
    bench = bench_of(recipe_of(tiny, first, held_out=held))
    assert torch.equal(bench.preparing.ids, bench.calibration.ids)


def test_parts_that_cannot_keep_their_names_as_held_out_texts_get_others() -> None:
    recipe = completed(spelled_out({"model": "m", "calibration": ["calibration.txt", "b.txt"]}))
    assert [text.get("name", "") for text in recipe["held_out"]] == ["held-out calibration", ""]


@pytest.mark.parametrize(
    ("calibration", "said"),
    [
        (
            [{"source": "a.txt", "length": 16}, {"source": "b.txt", "length": 32}],
            "texts that are mixed have one 'length'",
        ),
        ([{"source": "a.txt"}, {"source": "x/a.txt"}], "two texts have the same name"),
        ([{"source": "a.txt", "weight": 0}, {"source": "b.txt"}], "weight: must be more than 0"),
        ({"mixture": [{"source": "a.txt"}]}, "one text is no mixture"),
        ({"source": "c.txt", "mixture": [{"source": "a.txt"}, {"source": "b.txt"}]}, "leave 'source' out"),
        ({"mixture": [{"source": "a.txt"}, {"source": "b.txt"}], "sequences": 1}, "1 are fewer than the 2 texts"),
        ([{"source": "a.txt"}, 3], "calibration"),
        ([], "calibration"),
    ],
)
def test_what_cannot_be_mixed(tiny: Path, tmp_path: Path, calibration: Any, said: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe_of(tiny, calibration)))
    ended = forked("space", path)
    assert ended.returncode == 2
    assert said in " ".join(ended.stderr.split())
    with pytest.raises(SecateurError):
        written_recipe(recipe_of(tiny, calibration), Path.cwd())


def test_a_first_recipe_mixes_several_texts_and_holds_each_out(tiny: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    texts = tiny / "calibration.txt", tiny / "held.txt"
    written = command("init", tiny / "model", *texts, "--minutes", "1", "--out", recipe)
    assert written.returncode == 0, written.stderr
    found = read_recipe(recipe)
    assert [part.title for part in found.calibration.mixture] == ["calibration", "held"]
    assert found.calibration.sequences % 2 == 0
    assert [text.title for text in found.held_out] == ["held-out calibration", "held"]
    assert command("space", recipe).returncode == 0


def test_a_part_gives_as_many_windows_as_the_whole_says(tiny: Path, texts: dict[str, Path]) -> None:
    parts = [{"source": str(texts["first"])}, {"source": str(texts["second"]), "windows_per_document": 2}]
    calibration = {"mixture": parts, "sequences": 8, "length": 16, "windows_per_document": 3}
    asked = written_recipe(recipe_of(tiny, calibration), Path.cwd())
    request, *_ = workplace_of(asked, build_space(asked)).texts
    assert [part.windows_per_document for part, _ in request.parts] == [3, 2]


def test_a_first_recipe_of_files_of_one_name_and_of_the_same_documents(tiny: Path, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a", "b")]
    for folder, name in zip(folders, ("calibration", "held"), strict=True):
        folder.mkdir()
        (folder / "x.txt").write_text((tiny / f"{name}.txt").read_text())
    texts = [folder / "x.txt" for folder in folders]
    written = command("init", tiny / "model", *texts, "--minutes", "1", "--out", tmp_path / "r.yaml")
    assert written.returncode == 0, written.stderr
    found = read_recipe(tmp_path / "r.yaml")
    assert (
        [text.title for text in found.held_out] == [part.title for part in found.calibration.mixture] == ["x-1", "x-2"]
    )
    texts[1].write_text(texts[0].read_text())
    same = command("init", tiny / "model", *texts, "--minutes", "1", "--out", tmp_path / "s.yaml")
    assert same.returncode == 0 or "is too short" in same.stderr
    if same.returncode == 0:
        assert command("space", tmp_path / "s.yaml").returncode == 0

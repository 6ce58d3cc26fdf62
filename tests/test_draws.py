"""A search on several draws of its texts: a run each, the same held-out text, and how far the answers agree."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import secateur
from secateur.runs.draws import opened
from secateur.runs.record.facts import TEXTS
from secateur.runs.report.draws import overlap
from secateur.space.errors import SecateurError
from secateur.space.genome import Genome
from tests.program import forked
from tests.tiny import drop_space, tiny_recipe


def recipe_of(tiny: Path, **changes: Any) -> dict[str, Any]:
    recipe: dict[str, Any] = tiny_recipe(tiny / "model", tiny / "calibration.txt", tiny / "held.txt")
    recipe |= {"genes": [{"kind": "attention"}, {"kind": "mlp"}], "budgets": {"sublayers": 6}}
    return recipe | {"strategy": {"name": "exhaustive", "sequences": 2}, "baselines": ["shortgpt"]} | changes


def test_each_draw_is_a_run_and_all_have_the_same_held_out_text(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe_of(tiny, seeds=3, seed=5)))
    out = tmp_path / "out"
    ended = forked("search", path, "--out", out)
    assert ended.returncode == 0, ended.stderr
    assert [folder.name for folder in sorted(out.glob("draw-*"))] == ["draw-5", "draw-6", "draw-7"]
    with opened(out) as draws:
        texts = [folder.journal.known(TEXTS) for _, folder, _ in draws]
        space = draws[0][2]
    assert len({one["held"]["digest"] for one in texts}) == 1
    assert len({one["calibration"]["digest"] for one in texts}) == 3
    rows = [secateur.Run(out / f"draw-{seed}").summary.rows for seed in (5, 6, 7)]
    found = json.loads(forked("report", out, "--json").stdout)
    losses = [one[0].scores["held"]["kl"].mean for one in rows]
    assert found["methods"][0]["losses"] == pytest.approx(losses)
    assert found["methods"][1]["name"] == "shortgpt"
    layers, together = overlap(space, [one[0].genome for one in rows])
    assert found["agreement"] == pytest.approx(together)
    assert found["overlap"] == pytest.approx(list(layers))
    words = " ".join(forked("report", out).stdout.split())
    assert f"held-out KL is {np.mean(losses):.4f} with a standard deviation of {np.std(losses, ddof=1):.4f}" in words
    page = (out / "index.html").read_text()
    assert "Agreement of the found plans, by layer" in page
    again = forked("search", path, "--out", out)
    assert again.returncode == 0
    assert "was begun before" in again.stdout
    assert forked("resume", out).returncode == 0
    (out / "draw-7" / "journal.sqlite").unlink()
    partly = json.loads(forked("report", out, "--json").stdout)
    assert partly["seeds"] == [5, 6], "what is finished is shown"
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump(recipe_of(tiny, seeds=2, seed=5)))
    refused = forked("search", other, "--out", out)
    assert refused.returncode == 2
    assert "was begun with another recipe" in refused.stderr


def test_draws_from_python_go_on(tiny: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tiny, seeds=[1, 4])
    first = secateur.draw(recipe, tmp_path / "out")
    assert first.seeds == (1, 4)
    assert secateur.draw(recipe, tmp_path / "out") == first
    with pytest.raises(SecateurError, match=r"secateur\.draw carries out several"):
        secateur.run(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_overlap_is_the_mean_agreement_of_pairs() -> None:
    space = drop_space(3)
    genomes = [space.dense, space.dense, space.dense.with_level(0, 1)]
    layers, together = overlap(space, genomes)
    first = space.genes[0].blocks[0]
    inside = [gene for gene in space.genes if first in gene.blocks]
    assert layers[first] == pytest.approx(1 - 2 / 3 / len(inside))
    assert together == pytest.approx(1 - 2 / 3 / len(space.genes))
    assert overlap(space, [Genome(space.dense.levels)])[1] == 1.0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seeds": 1}, "seeds"),
        ({"seeds": [3, 3]}, "seeds: a seed stands there twice"),
        ({"seeds": 2, "seed": 2**32 - 1}, "is too large; lower 'seed'"),
        ({"seeds": 2, "held_out": []}, "draws are compared on held-out text"),
        ({"seeds": 2, "score": "parameters", "budgets": {"kl": 0.3}}, "leave it or score: parameters out"),
        ({"seeds": 2, "objectives": ["kl", "parameters"], "budgets": {}}, "leave it or objectives out"),
    ],
)
def test_draws_that_make_no_sense(tiny: Path, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe_of(tiny) | changes))
    ended = forked("search", path, "--out", tmp_path / "out")
    assert ended.returncode == 2
    assert said in " ".join(ended.stderr.split())
    assert not (tmp_path / "out").exists()


def test_space_says_how_many_draws_there_will_be(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    text = {"source": str(tiny / "calibration.txt"), "sequences": 8, "length": 16}
    path.write_text(yaml.safe_dump(recipe_of(tiny, seeds=[2, 9], validation=0.25, calibration=text)))
    words = " ".join(forked("space", path).stdout.split())
    assert "Draws: 2 of the texts (seeds 2, 9), a run each" in words
    assert "Calibration: 6 sequences for the search, 2 to choose its answer on." in words

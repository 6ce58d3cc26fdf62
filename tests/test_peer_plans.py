"""Other tools' plans in a run: where a search starts, and what it is compared with on held-out text."""

from pathlib import Path
from typing import Any

import pytest

import secateur
from secateur.plans.formats.table import FORMATS, files
from secateur.plans.plan import read_plan
from secateur.runs.asked.reading import make_recipe
from secateur.runs.problem import build_space, space_of
from secateur.runs.record.folder import RunFolder
from secateur.runs.run import execute, start
from secateur.space.errors import SecateurError
from secateur.space.genome import Genome
from tests.plans import plan_source
from tests.tiny import tiny_recipe

DROPS = "none\nattn\nattn+mlp\nmlp\n"


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """EvoPress's file, in the folder that the run starts in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs.txt").write_text(DROPS)
    return tmp_path / "theirs.txt"


def recipe(tiny: Path, **changes: Any) -> dict[str, Any]:
    values = tiny_recipe(tiny / "model", tiny / "calibration.txt", tiny / "held.txt")
    values |= {"genes": [{"kind": "attention"}, {"kind": "mlp"}], "budgets": {"sublayers": 4}, "baselines": []}
    return values | changes


@pytest.mark.parametrize(
    "strategy",
    [
        {"name": "evopress", "initial": ["theirs.txt"]},
        {"name": "evopress", "initial": ["theirs.txt", "random"]},
        {"name": "surrogate", "initial": ["theirs.txt"], "sequences": 2},
    ],
)
def test_a_search_for_one_plan_starts_from_a_file(tiny: Path, theirs: Path, strategy: dict[str, Any]) -> None:
    run = secateur.run(recipe(tiny, strategy=strategy, effort={"tokens": 6000}), theirs.with_name("run"))
    with RunFolder.open(run.path, writing=False) as folder:
        space = space_of(folder)
        wanted = space.from_json({"attention@1": 0, "attention@2": 0, "mlp@2": 0, "mlp@3": 0})
        assert wanted in {evaluation.genome for _, evaluation in folder.journal.evaluations("calibration")}
    theirs.unlink()
    secateur.resume(run.path)


def test_our_search_starts_from_every_good_rule_that_applies(tiny: Path, tmp_path: Path) -> None:
    """Before its sweep, so that there is an answer from the beginning; what cannot keep the budgets is left out."""
    genes = [{"kind": "attention"}, {"kind": "mlp"}, {"kind": "sparsity", "per": "block", "levels": [0.25, 0.5]}]
    asked = recipe(tiny, genes=genes, budgets={"linear_weights": "0.75x"}, effort={"tokens": 8000})
    asked |= {"baselines": ["shortgpt", "uniform", "owl"], "strategy": {"name": "surrogate", "sequences": 2}}
    run = secateur.run(asked, tmp_path / "rules")
    with RunFolder.open(run.path, writing=False) as folder:
        choices = folder.journal.choices()
    rules = {choices[name].genome for name in ("shortgpt", "uniform", "owl") if name in choices}
    assert rules
    assert rules <= before_the_sweep(run.path)
    asked["strategy"] |= {"initial": []}
    bare = secateur.run(asked, tmp_path / "bare")
    assert not rules <= before_the_sweep(bare.path)


def before_the_sweep(run: Path) -> set[Genome]:
    """What was evaluated before the dense model, with which a sweep begins."""
    with RunFolder.open(run, writing=False) as folder:
        dense = space_of(folder).dense
        genomes = [one.genome for _, one in folder.journal.evaluations("calibration")]
    return set(genomes[: genomes.index(dense)])


def test_a_peers_plan_is_compared_on_held_out_text(tiny: Path, theirs: Path) -> None:
    strategy = {"name": "evopress", "initial": ["random"]}
    asked = recipe(tiny, strategy=strategy, effort={"tokens": 4000}, baselines=["last-k", "theirs.txt"])
    run = secateur.run(asked, theirs.with_name("run"))
    theirs.unlink()
    assert secateur.resume(run.path).summary == run.summary
    rows = {row.name: row for row in run.summary.rows}
    assert rows.keys() == {"found", "last-k", "theirs", "dense"}
    assert rows["theirs"].scores.keys() == rows["found"].scores.keys()
    assert rows["theirs"].costs["sublayers"] == 4
    plan = read_plan(run.path / "plans" / "theirs.json")
    assert [layer.index for layer in plan.layers if layer.removed] == [2]
    assert [layer.kept["groups"].kept for layer in plan.layers] == [2, 0, 0, 2]
    assert "theirs" in (run.path / "report" / "index.html").read_text()


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (
        "theirs.txt",
        {"genes": [{"kind": "block"}], "budgets": {}},
        "no genome of this recipe has its layer 1 .*0 KV groups",
    ),
    ("theirs.txt", {"budgets": {"sublayers": 3}}, "sublayers of 4 is over the budget"),
    ("thiers.txt", {}, "cannot be read"),
    ("theirs", {}, "baselines: unknown 'theirs'"),
    ("found.txt", {}, "'found' cannot be a plan's name"),
    ("shortgpt-1.txt", {}, "'shortgpt-1' cannot be a plan's name"),
    ("1.txt", {}, "'1' cannot be a plan's name"),
    ("my plan.txt", {}, "'my plan' cannot be a plan's name"),
]


@pytest.mark.parametrize(("name", "changes", "message"), REFUSED)
def test_what_cannot_be_compared_is_said_before_anything_runs(
    tiny: Path, theirs: Path, name: str, changes: dict[str, Any], message: str
) -> None:
    asked = recipe(tiny, strategy={"name": "random"}, effort={"evaluations": 3}, baselines=[name]) | changes
    with pytest.raises(SecateurError, match=message):
        secateur.run(asked, theirs.with_name("run"))
    assert not theirs.with_name("run").exists()


def test_the_file_may_be_gone_as_soon_as_the_run_has_begun(tiny: Path, theirs: Path) -> None:
    asked = recipe(tiny, strategy={"name": "random"}, effort={"evaluations": 3}, baselines=["theirs.txt"])
    folder, loaded = start(make_recipe(asked), theirs.with_name("run"))
    theirs.unlink()
    with folder:
        execute(folder, loaded=loaded)
        assert set(folder.journal.choices()) == {"found", "theirs"}


def test_a_peers_patterns_are_not_shares_of_the_same_size(tiny: Path, tmp_path: Path) -> None:
    """2:4 and a half of the weights, both levels of the gene, are told apart."""
    values = recipe(tiny, strategy={"name": "random"}, effort={"evaluations": 2}, budgets={})
    values["genes"] = [{"kind": "sparsity", "per": "sublayer", "levels": [0.3, 0.5, "2:4"]}]
    space = build_space(make_recipe(values))
    genome = space.from_json({"sparsity@1.mlp": "2:4", "sparsity@2.mlp": 0.5})
    plan = plan_source(space.anatomy, space.states(genome), str(tiny / "model"))
    (tmp_path / "mine.json").write_text(str(files(FORMATS["json"], plan)["profile.json"]))
    run = secateur.run(values | {"baselines": [str(tmp_path / "mine.json")]}, tmp_path / "run")
    levels = [layer.sparsity.get("mlp.up_proj") for layer in run.plan("mine").layers]
    assert levels == [None, "2:4", 0.5, None]


def test_two_files_of_one_name_are_refused(tiny: Path, theirs: Path) -> None:
    asked = recipe(
        tiny, strategy={"name": "random"}, effort={"evaluations": 3}, baselines=["theirs.txt", "b/theirs.json"]
    )
    with pytest.raises(SecateurError, match="two files have the same name"):
        secateur.run(asked, theirs.with_name("run"))

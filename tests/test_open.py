"""An addition is one file and one line: what `tests/additions.py` defines goes from recipe to import as ours does."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from secateur.fitness.model.blocks import Blocks
from secateur.fitness.subnets.subnet import Subnet
from secateur.fitness.subnets.weights import Weights
from secateur.fitness.text import Sequences
from secateur.fitness.treatments import Ground, compressor
from secateur.plans.features import Subject
from secateur.plans.formats.table import FORMATS, refusal
from secateur.runs.record.folder import RunFolder
from secateur.space.errors import SecateurError
from secateur.space.kinds.settings import Wishes
from secateur.space.kinds.table import KINDS
from secateur.space.space import Space
from secateur.space.state import dense_state
from tests.additions import CONFIDENCE, Pairs, RoundingSettings, enter, enter_slowly, leave
from tests.genes import sparsity_genes
from tests.program import forked, start
from tests.test_kill_and_resume import count, record
from tests.tiny import LEVELS, anatomy_for, model_of, save_text, save_tiny, tiny_recipe

PACKAGE = Path(__file__).parents[1] / "secateur"
NAMES = ("first-come", "every-other", "pairs", "other_tokens", "helium", "mlp-widths", "rounding", "confidence")


def done(*arguments: object, **environment: str) -> str:
    ended = forked(*arguments, environment=environment, before=enter)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module", autouse=True)
def entered() -> Iterator[None]:
    enter()
    yield
    leave()


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A family, kinds, a treatment, a strategy, a score and a rule that the package does not know, in one recipe."""
    folder = tmp_path_factory.mktemp("open")
    save_tiny(folder / "model", "helium", head_dim=8, num_hidden_layers=6)
    values = tiny_recipe(
        folder / "model",
        save_text(folder / "calibration.txt"),
        save_text(folder / "held.txt", seed=1),
        genes=[
            {"kind": "pairs", "shares": [0.75, 0.5]},
            {"kind": "block", "layers": "2-5"},
            {"kind": "rounding", "levels": [8, 4], "per": "block", "layers": "0-1"},
        ],
        budgets={"block_parameters": "0.8x"},
        strategy={"name": "first-come", "count": 30},
        score="other_tokens",
        baselines=["every-other", "shortgpt", "knapsack"],
    )
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    return folder / "recipe.yaml"


def test_from_recipe_to_import(recipe: Path, tmp_path: Path) -> None:
    cache = {"SECATEUR_CACHE": str(tmp_path / "cache")}
    shown = done("space", recipe, **cache)
    assert "pairs" in shown
    assert "every-other" in shown
    whole, run = tmp_path / "whole", tmp_path / "run"
    done("search", recipe, "--out", whole, **cache)
    process = start(("search", recipe, "--out", run), tmp_path, environment=cache, before=enter_slowly)
    end = time.monotonic() + 120
    while count(run) < 4:
        assert process.is_alive()
        assert time.monotonic() < end
        time.sleep(0.02)
    process.kill()
    process.join()
    assert 4 <= count(run) < count(whole)
    done("resume", run, **cache)
    assert record(run) == record(whole)
    with RunFolder.open(run, writing=False) as folder:
        assert {"found", "every-other", "shortgpt", "knapsack"} <= folder.journal.choices().keys()
        tried = [one.genome.levels[-2:] for _, one in folder.journal.evaluations("calibration")]
        assert len(set(tried)) > 1, "linears were rounded"
        asked = [(one.key, one.sequences) for _, one in folder.journal.answers(CONFIDENCE, "calibration")]
        choice = folder.journal.choices()["found"]
        assert len(set(asked)) == len(asked) >= choice.evaluations, "whoever was asked is not asked again"
        assert choice.tokens == 2 * choice.evaluations * 2 * 16, "two sequences, scored and asked"
        with RunFolder.open(whole, writing=False) as uncut:
            answers = [
                [
                    (text, one.key, one.sequences, one.values, one.tokens)
                    for text, one in run.journal.answers(CONFIDENCE)
                ]
                for run in (folder, uncut)
            ]
        assert answers[0] == answers[1]
    report = done("report", run, **cache)
    assert "every-other" in report
    done("export", run, "--to", "hf", "--out", tmp_path / "smaller", **cache)
    kept = json.loads((tmp_path / "smaller" / "config.json").read_text())
    assert kept["model_type"] == "secateur_helium"
    for form, name in (("plan", "plan.json"), ("json", "profile.json"), ("mlp-widths", "widths.json")):
        done("export", run, "--to", form, "--out", tmp_path / form, **cache)
        written = tmp_path / form / name
        done("import", written, "--model", recipe.with_name("model"), "--out", tmp_path / f"{form}.json", **cache)
        plan, back = (json.loads(one.read_text()) for one in (run / "plans" / "found.json", tmp_path / f"{form}.json"))
        assert _sizes(back) == _sizes(plan)
        if form != "mlp-widths":
            assert [one.get("treated") for one in back["layers"]] == [one.get("treated") for one in plan["layers"]]


def _sizes(plan: dict[str, Any]) -> list[tuple[int, int]]:
    return [(layer["attention"]["kept"], layer["mlp"]["kept"]) for layer in plan["layers"]]


def test_a_treatment_is_counted_carried_out_and_refused_where_it_has_no_place() -> None:
    anatomy = anatomy_for()
    genes = KINDS["rounding"].genes(anatomy, RoundingSettings(levels=(8, 4), per="block"), Wishes())
    space = Space(anatomy, genes)
    genome = space.from_json({"rounding@1": "rounding:4"})
    linears = anatomy.blocks[1].linears
    dense = sum(4 * linear.weights for linear in linears)
    left = sum(linear.outputs * (-(-linear.inputs * 4 // 8) + 4) for linear in linears)
    dense_costs, costs = space.costs(space.dense), space.costs(genome)
    assert dense_costs.weight_bytes - costs.weight_bytes == dense - left
    assert costs.parameters == dense_costs.parameters
    assert space.key(genome) != space.key(space.dense)
    blocks = Blocks(model_of("llama"), anatomy)
    ground = Ground(blocks, "m", Sequences("random", torch.zeros((1, 8), dtype=torch.int64), frozenset()))
    rounded = compressor("rounding", ground)
    with Subnet(blocks, Weights(blocks, {"rounding": rounded})) as subnet:
        rounded.prepare({(1, 0): genes[1].treatments}, lambda _done, _total: None)
        subnet.apply(space.states(genome))
        for linear in linears:
            rows = blocks.modules[1].get_parameter(f"{linear.name}.weight")
            assert all(len(row.unique()) <= 16 for row in rows)
    subject = Subject(anatomy, space.states(genome), {})
    assert "has rounding:4 in self_attn.q_proj, which it cannot express" in (refusal(FORMATS["torchao"], subject) or "")
    assert refusal(FORMATS["json"], subject) is None
    zeros = sparsity_genes(anatomy, LEVELS, range(4), "block")
    assert [gene.kind.nearest(gene, space.states(genome), anatomy) for gene in zeros] == [0, 0, 0, 0]
    with pytest.raises(SecateurError, match="covered by both rounding@0 and sparsity@0"):
        Space(anatomy, (*genes, *zeros))


def test_what_does_not_fit_its_settings_is_told_as_of_any(recipe: Path, tmp_path: Path) -> None:
    for change, message in (
        ("strategy.cuont=3", "strategy.cuont: unknown key; did you mean 'count'?"),
        ("strategy.count=0", "strategy.count: must be at least 1, not 0"),
        ("strategy.name=first-com", "did you mean 'first-come'?"),
        ("genes.0.share=1", "genes.0.share: unknown key; did you mean 'shares'?"),
        ("genes.0.kind=pair", "did you mean 'pairs'?"),
        ("score=other_token", "did you mean 'other_tokens'?"),
        ("baselines=[every-others]", "did you mean 'every-other'?"),
    ):
        ended = forked("search", recipe, "--out", tmp_path / "run", "--set", change, before=enter)
        assert ended.returncode == 2
        assert message in ended.stderr, ended.stderr


def test_a_format_may_be_read_alone() -> None:
    alone = replace(FORMATS["mlp-widths"], write=None)
    anatomy = anatomy_for()
    subject = Subject(anatomy, tuple(dense_state(block) for block in anatomy.blocks), {})
    assert refusal(alone, subject) == "it is read and not written"


def test_no_file_of_the_package_names_them() -> None:
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        for name in NAMES:
            assert not re.search(rf"""["']{re.escape(name)}["']""", text), f"{path} names {name}"


def test_a_kind_has_what_a_kind_needs() -> None:
    """Protocols are checked by mypy; what tables hold is checked here as well."""
    wanted = {name for name in dir(Pairs()) if not name.startswith("_")}
    for kind in KINDS.values():
        assert wanted <= set(dir(kind)), kind.name

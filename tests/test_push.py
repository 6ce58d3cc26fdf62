"""A plan on the hub: `secateur push` against a stand-in of its API, and what the model card says for it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM

import secateur
from tests.hub import TOKEN, Hub, hub
from tests.test_cli import command
from tests.tiny import tiny_recipe

PROGRAM = Path(sys.executable).with_name("secateur")


@pytest.fixture(scope="module")
def run(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pushed")
    shutil.copytree(tiny / "model", folder / "model")
    (folder / "model" / "LICENSE").write_text("Do what you like.\n")
    card = {"license": "apache-2.0", "base_model": "somebody/larger", "language": "en"}
    (folder / "model" / "README.md").write_text(f"---\n{yaml.safe_dump(card)}---\n# Theirs\n")
    recipe = tiny_recipe(folder / "model", tiny / "calibration.txt", tiny / "held.txt")
    secateur.run(recipe, folder / "run")
    return folder / "run"


def pushed(run: Path, there: Hub, *arguments: str, token: str | None = TOKEN, home: Path | None = None) -> Any:
    """The program, with the stand-in for the hub; `HF_HUB_OFFLINE` is of the tests, and has no hub at all."""
    environment = {name: value for name, value in os.environ.items() if name not in ("HF_HUB_OFFLINE", "HF_TOKEN")}
    environment |= {
        "HF_ENDPOINT": there.address,
        "HF_HOME": str(home or run.parent / "home"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    environment |= {"HF_TOKEN": token} if token is not None else {}
    return subprocess.run(
        [PROGRAM, "push", run, *arguments], env=environment, capture_output=True, text=True, check=False
    )


def test_a_plan_is_pushed_whole_and_loads(run: Path, tmp_path: Path) -> None:
    with hub() as there:
        ended = pushed(run, there, "--repo", "tester/smaller")
        assert ended.returncode == 0, ended.stderr
        assert f"pushed {there.address}/tester/smaller" in ended.stdout
        files = there.repositories["tester/smaller"]
        assert {"README.md", "config.json", "plan.json", "LICENSE"} <= set(files)
        assert any(name.endswith(".safetensors") for name in files)
        assert there.private == {"tester/smaller": True}
        assert there.messages == ["Secateur: plan found of model"]
        assert TOKEN not in ended.stdout + ended.stderr
        again = pushed(run, there, "--repo", "tester/smaller", "--public")
        assert again.returncode == 0, again.stderr
    assert not any(TOKEN.encode() in content for content in files.values())
    assert TOKEN not in "".join(
        path.read_text(errors="replace") for path in run.rglob("*") if path.is_file() and path.suffix != ".png"
    )
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert AutoModelForCausalLM.from_pretrained(tmp_path).num_parameters() > 0


def test_the_card_says_what_the_hub_wants_to_know(run: Path, tmp_path: Path) -> None:
    secateur.Run(run).export("hf", tmp_path / "out")
    data = ModelCard.load(tmp_path / "out" / "README.md").data
    assert data.library_name == "transformers"
    assert data.pipeline_tag == "text-generation"
    assert data.license == "apache-2.0"
    assert data.base_model == "somebody/larger"
    assert "secateur" in (data.tags or [])
    results = data.eval_results or []
    assert {one.metric_type for one in results} == {"kl", "cross_entropy"}
    assert {one.dataset_name for one in results} == {"held"}
    assert (tmp_path / "out" / "LICENSE").read_text() == "Do what you like.\n"


@pytest.mark.parametrize(
    ("arguments", "token", "refuses", "message"),
    [
        (("--repo", "tester/x"), None, "\0", "nobody is logged in to the hub"),
        (("--repo", "tester/x"), "hf_wrong", "\0", "push: the hub says"),
        (("--repo", "tester/x"), TOKEN, "/commit/", "push: the hub says"),
    ],
)
def test_what_the_hub_or_we_refuse_is_one_message(
    run: Path, tmp_path: Path, arguments: tuple[str, ...], token: str | None, refuses: str, message: str
) -> None:
    with hub() as there:
        there.refuses = refuses
        ended = pushed(run, there, *arguments, token=token, home=tmp_path)
    assert ended.returncode == 2, ended.stderr
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
    assert token is None or token not in ended.stderr


@pytest.mark.parametrize("name", ["../up", "a/b/c", "-x", "", "a--b/c"])
def test_names_that_are_none_are_refused_before_anything(run: Path, name: str) -> None:
    ended = command("push", run, f"--repo={name}")
    assert ended.returncode == 2
    assert "write OWNER/NAME" in ended.stderr
    assert "--pick nobody: this run has no such plan" in command("push", run, "--repo=a/b", "--pick=nobody").stderr


def test_a_hub_that_nobody_answers_at(run: Path) -> None:
    there = Hub(address="http://127.0.0.1:9")
    ended = pushed(run, there, "--repo", "tester/x")
    assert ended.returncode == 2, ended.stderr
    assert "push: the hub says" in ended.stderr
